"""Encodes messages as msgpack of a strict model.

The schema version and the kind stand in front.

Decoding takes bytes from anybody. Whatever it is fed, it answers with a valid message or with one error. Meanwhile it
takes no more memory than 18 times its input, and 32 MiB.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgpack
from pydantic import ValidationError

from tercet.schemas.messages.message import BODY_VERSION, MODELS, Message

MAX_ARRAY = 4096  # the longest array is an agent's list of jobs; room is made for each array as soon as it is announced
MAX_MAP = 256  # the largest map has a job's state, about thirty fields
FEW = 1024  # entries that any body may have, however short; beyond that, one for each BYTES_AN_ENTRY of the body
LARGE = 2**20  # bytes of a tensor from which on msgpack is not asked to copy it, again and again as its buffer grows
BYTES_AN_ENTRY = 4  # a list of jobs has 5 or more; an empty map takes one byte here and 72 as an object

Container = TypeVar("Container", tuple[Any, ...], dict[Any, Any])


class MalformedMessage(ValueError):
    """Bytes that are no message of this version: their sender's fault.

    The text holds none of them.
    """


class Companion(NamedTuple):
    """Travels in another message's body, with its own place in the job."""

    message: Message
    epoch: int
    step: int


def encode(message: Message, along: Iterable[Companion] = ()) -> bytes:
    """Return the bytes of a message, and of those that travel with it."""
    body: list[Any] = [BODY_VERSION, message.kind, message.item, message.model_dump()]
    companions = [[m.kind, m.item, epoch, step, m.model_dump()] for m, epoch, step in along]
    return b"".join(_packed([*body, companions] if companions else body))


def _packed(value: Any) -> Iterator[bytes | memoryview]:
    """Yield the msgpack of a value in pieces, of which large tensors are some by themselves."""
    if not _has_large(value):
        yield msgpack.packb(value)
    elif isinstance(value, memoryview):
        yield b"\xc6" + value.nbytes.to_bytes(4, "big")
        yield value
    else:
        packer, parts = msgpack.Packer(), value
        if isinstance(value, dict):
            yield packer.pack_map_header(len(value))
            parts = [part for entry in value.items() for part in entry]
        else:
            yield packer.pack_array_header(len(value))
        for part in parts:
            yield from _packed(part)


def _has_large(value: Any) -> bool:
    """Tell whether a value of a message is a large tensor, or holds one."""
    if isinstance(value, dict):
        return any(map(_has_large, value.values()))
    if isinstance(value, list):
        return any(map(_has_large, value))
    return isinstance(value, memoryview) and value.nbytes >= LARGE


def decode(data: bytes) -> Message:
    """Return the one message in these bytes.

    Raises:
        MalformedMessage: there is none, or more than one.
    """
    message, along = decode_all(data)
    if along:
        raise MalformedMessage("the body has more than one message")
    return message


def decode_all(data: bytes) -> tuple[Message, tuple[Companion, ...]]:
    """Return the message in these bytes, and those that travel with it.

    Raises:
        MalformedMessage: there is none, or one of them is none.
    """
    try:
        body = _unpacked(data)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise MalformedMessage("the body is not msgpack, or has more entries than a message") from None
    version, kind, item, fields, along = _frame(body)
    if version != BODY_VERSION:
        raise MalformedMessage(f"the body has schema version {version}, this agent speaks {BODY_VERSION}")
    return _model(kind, item, fields), tuple(_companion(entry) for entry in along)


def _companion(entry: Any) -> Companion:
    match entry:
        case (str() as kind, str() as item, int() as epoch, int() as step, dict() as fields) if min(epoch, step) >= 0:
            return Companion(_model(kind, item, fields), epoch, step)
    raise MalformedMessage("what travels with a message is not a kind, an item, an epoch, a step and fields")


def _model(kind: str, item: str, fields: dict[str, Any]) -> Message:
    model = MODELS.get((kind, item))
    if model is None:
        raise MalformedMessage("the body is of no known kind")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
        raise MalformedMessage(f"the body is no valid {model.kind}: field {where[:64]!r}") from None


def _unpacked(data: bytes) -> Any:
    left = FEW + len(data) // BYTES_AN_ENTRY

    def counted(container: Container) -> Container:
        nonlocal left
        left -= 1 + len(container)
        if left < 0:
            raise ValueError
        return container

    return msgpack.unpackb(
        data,
        use_list=False,
        strict_map_key=True,
        list_hook=counted,
        object_hook=counted,
        max_array_len=MAX_ARRAY,
        max_map_len=MAX_MAP,
        max_ext_len=0,
        ext_hook=_no_extension,
    )


def _no_extension(_code: int, _data: bytes) -> Any:
    raise ValueError  # no message has any


def _frame(body: Any) -> tuple[int, str, str, dict[str, Any], tuple[Any, ...]]:
    match body:
        case (int() as version, str() as kind, str() as item, dict() as fields):
            return version, kind, item, fields, ()
        case (int() as version, str() as kind, str() as item, dict() as fields, tuple() as along):
            return version, kind, item, fields, along
    raise MalformedMessage("the body is not a version, a kind, an item and fields")
