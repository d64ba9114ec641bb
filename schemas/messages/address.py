"""Addresses messages, and names the fixed set of rounds.

The address is what a seal authenticates and what repeats are dropped by; it holds nothing secret, since the broker's
operator reads it.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from tercet.schemas.core.names import JOB_ID_PATTERN, NAME_PATTERN


class Round(StrEnum):
    """Names the purposes of a job's queues.

    The set is small and fixed: queues depend on jobs and parties, never on steps.
    """

    HANDSHAKE = "handshake"
    ALIGNMENT = "alignment"
    MASKED_INPUTS = "masked-inputs"
    DEALT = "dealt"
    PREACTIVATIONS = "pre-activations"
    ACTIVATIONS = "activations"
    OPENINGS = "openings"
    METRICS = "metrics"
    RELEASE = "release"
    CONTROL = "control"


class Address(NamedTuple):
    """Addresses one message of one attempt of one job.

    It is `part` of `parts` where a body is cut into several.
    """

    job: str
    attempt: int
    round: str
    item: str
    epoch: int
    step: int
    sender: str
    receiver: str
    part: int = 1
    parts: int = 1

    def __str__(self) -> str:
        """Return the text that travels as the AMQP message id."""
        return (
            f"{self.job}/{self.attempt}/{self.round}/{self.item}/{self.epoch}/{self.step}"
            f"/{self.sender}/{self.receiver}/{self.part}.{self.parts}"
        )

    @property
    def whole(self) -> "Address":
        """The address of the body that this part belongs to."""
        return self if self.parts == 1 else self._replace(part=1, parts=1)


class MalformedAddress(ValueError):
    """A text that is no address. Its sender's fault."""


_NUMBER = r"(0|[1-9]\d{0,9})"  # in its shortest form, so that an address has one text
_TEXT = re.compile(
    rf"({JOB_ID_PATTERN})/{_NUMBER}/([a-z-]{{1,32}})/([a-z0-9-]{{1,64}})/{_NUMBER}/{_NUMBER}"
    rf"/({NAME_PATTERN})/({NAME_PATTERN})/{_NUMBER}\.{_NUMBER}",
    re.ASCII,
)


def parse_address(text: str) -> Address:
    """Read an address back from its text.

    Raises:
        MalformedAddress: the text is not one that `str(Address)` writes.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise MalformedAddress("a message id that is not an address")
    job, attempt, round_, item, epoch, step, sender, receiver, part, parts = found.groups()
    address = Address(job, int(attempt), round_, item, int(epoch), int(step), sender, receiver, int(part), int(parts))
    if not 1 <= address.part <= address.parts:
        raise MalformedAddress("a message id that is not an address in its shortest form")
    return address
