"""Defines the base of all messages, and the sizes that their fields may have.

It says nothing of any one message.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from tercet.schemas.core.strict import Strict
from tercet.schemas.messages.address import Round

BODY_VERSION = 5  # how a body and a control message are written; an agent reads no other
LOWEST_VERSION, PROTOCOL_VERSION = 6, 6  # of the protocol of a job: those that this release speaks

MOST_OUTPUTS = 1000  # classes of a model
MOST_BINNED = 4096  # columns of a party in a statistics job
MOST_EXPONENT = 64  # scores stay far below two to this
MOST_ENCODING = 2**26  # bytes: three times what as many directions as are whitened take


def _whole(size: int) -> Callable[[bytes], bytes]:
    def check(value: bytes) -> bytes:
        if len(value) % size:
            raise ValueError(f"not a whole number of entries of {size} bytes")
        return value

    return check


Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Secret = Annotated[bytes, Field(min_length=32, max_length=32, repr=False)]  # in no log and no traceback
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
Exponent = Annotated[int, Field(ge=0, le=MOST_EXPONENT)]
Count = Annotated[int, Field(ge=0, lt=2**40)]
Outputs = Annotated[int, Field(ge=1, le=MOST_OUTPUTS)]
Bytes = Annotated[bytes, Field(max_length=2**24, repr=False)]
EncodingText = Annotated[bytes, Field(max_length=MOST_ENCODING, repr=False)]
Hashes = Annotated[Bytes, AfterValidator(_whole(16))]  # of 128 bits each
Elements = Annotated[Bytes, AfterValidator(_whole(32))]  # of ristretto255, 32 bytes each
Version = Annotated[int, Field(ge=0, lt=2**16)]  # of the protocol
Code = Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z-]+)+$", max_length=64)]


class Message(Strict):
    """Says anything.

    `kind` is the AMQP type, `round` the queue it goes to, `item` its name within the round.
    """

    kind: ClassVar[str]
    round: ClassVar[Round] = Round.CONTROL
    item: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Enter each kind into MODELS as it is defined."""
        MODELS[cls.kind, cls.item] = cls


MODELS: dict[tuple[str, str], type[Message]] = {}
"""All kinds of message that are loaded, by kind and item; `kinds` loads all there are."""
