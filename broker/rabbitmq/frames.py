"""Writes and reads the AMQP frames of a message's way.

These publish, deliver, return, confirm and settle.

It does no I/O and keeps nothing. All other frames are aiormq's.

A message is marshalled in one go. pamqp goes field by field through descriptions of each frame, which took a quarter
of what a small message cost. What a partner has put into a message is read as broker/rabbitmq/tolerant.py reads it.
"""

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from tercet.broker.interface.base import Envelope
from tercet.broker.rabbitmq.tolerant import plain_text

METHOD, HEADER, BODY = 1, 2, 3  # types of frames
TYPES: Final = frozenset({METHOD, HEADER, BODY, 8})  # 8 is a heartbeat
END: Final = 0xCE  # the last byte of each
HEAD: Final = struct.Struct(">BHI")  # type, channel, bytes of the payload
OVERHEAD: Final = HEAD.size + 1
MOST_BYTES: Final = 2**29  # of a message, and so of a frame: RabbitMQ takes no larger ones
_LAST: Final = bytes([END])
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_BASIC: Final = 60
DELIVER: Final = struct.pack(">HH", _BASIC, 60)
RETURN: Final = struct.pack(">HH", _BASIC, 50)
ACK: Final = struct.pack(">HH", _BASIC, 80)
NACK: Final = struct.pack(">HH", _BASIC, 120)
CLOSE: Final = struct.pack(">HH", 20, 40)  # of a channel
CLOSE_OK: Final = struct.pack(">HH", 20, 41)
_PUBLISH: Final = struct.pack(">HHH", _BASIC, 40, 0)
_MANDATORY: Final = 1

_SETTLE: Final = struct.Struct(">BHIHHQBB")  # the head of a frame, class and method, tag, bits, the end
_SETTLE_BYTES: Final = _SETTLE.size - OVERHEAD
_ACK, _REJECT, _NACK = 80, 90, 120  # methods
_REQUEUE: Final = 2  # the bit of a nack
_ANSWER: Final = struct.Struct(">QB")  # tag and bits of a confirm
_CONTENT: Final = struct.Struct(">HHQ")  # class, weight, bytes of the body
_TRANSIENT, _PERSISTENT = 1, 2  # delivery modes

# Bits of a header's flags, in the order of the properties behind them, and what kind of property each is.
_TEXT, _TABLE, _OCTET, _TIME = range(4)
_PROPERTIES: Final = (
    (15, _TEXT, "content_type"),
    (14, _TEXT, "content_encoding"),
    (13, _TABLE, "headers"),
    (12, _OCTET, "delivery_mode"),
    (11, _OCTET, "priority"),
    (10, _TEXT, "correlation_id"),
    (9, _TEXT, "reply_to"),
    (8, _TEXT, "expiration"),
    (7, _TEXT, "message_id"),
    (6, _TIME, "timestamp"),
    (5, _TEXT, "type"),
    (4, _TEXT, "user_id"),
    (3, _TEXT, "app_id"),
)
_BIT: Final = {name: 1 << bit for bit, _, name in _PROPERTIES}
_OURS: Final = sum(_BIT[name] for name in ("delivery_mode", "correlation_id", "message_id", "type", "app_id"))


class MalformedFrame(ValueError):
    """Says that a frame is not what AMQP allows."""


class DeliveryFrame(NamedTuple):
    """Says where a delivery came from, and by which tag it is settled."""

    consumer: str
    tag: int
    redelivered: bool
    exchange: str
    routing_key: str


class Properties(NamedTuple):
    """Holds the properties of a message that Tercet uses; each may be a lie."""

    job: str = ""
    address: str = ""
    kind: str = ""
    sender: str = ""


# --- writing


def publish_frames(channel: int, envelope: Envelope, most_bytes: int) -> bytes:
    """Write an envelope as frames, to be returned where no queue takes it.

    Each has at most `most_bytes`, or any number for 0.
    """
    mode = _PERSISTENT if envelope.persistent else _TRANSIENT
    flags = _OURS if envelope.expires is None else _OURS | _BIT["expiration"]
    properties = b"".join(
        (
            flags.to_bytes(2),
            mode.to_bytes(),
            _short(envelope.job),
            b"" if envelope.expires is None else _short(str(int(envelope.expires * 1000))),
            _fresh_short(envelope.address),
            _short(envelope.kind),
            _short(envelope.sender),
        )
    )
    body = envelope.body
    head = HEAD.pack(HEADER, channel, _CONTENT.size + len(properties)) + _CONTENT.pack(_BASIC, 0, len(body))
    frames: list[bytes | memoryview] = [
        _publish_method(channel, envelope.exchange, envelope.routing_key),
        head,
        properties,
        _LAST,
    ]
    size = most_bytes - OVERHEAD if most_bytes else len(body)
    if 0 < len(body) <= size:
        frames += (HEAD.pack(BODY, channel, len(body)), body, _LAST)
    else:
        for start in range(0, len(body), size or 1):
            chunk = memoryview(body)[start : start + size]
            frames += (HEAD.pack(BODY, channel, len(chunk)), chunk, _LAST)
    return b"".join(frames)


@lru_cache(maxsize=1024)  # a job has a few
def _publish_method(channel: int, exchange: str, routing_key: str) -> bytes:
    payload = _PUBLISH + _fresh_short(exchange) + _fresh_short(routing_key) + bytes([_MANDATORY])
    return HEAD.pack(METHOD, channel, len(payload)) + payload + _LAST


def _fresh_short(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


_short = lru_cache(maxsize=1024)(_fresh_short)  # of kinds, jobs and parties


def ack_frame(channel: int, tag: int, *, many: bool = False) -> bytes:
    """Accept one delivery, or `many`: it and all before it that are unsettled."""
    return _SETTLE.pack(METHOD, channel, _SETTLE_BYTES, _BASIC, _ACK, tag, many, END)


def reject_frame(channel: int, tag: int) -> bytes:
    """Refuse one delivery for good."""
    return _SETTLE.pack(METHOD, channel, _SETTLE_BYTES, _BASIC, _REJECT, tag, 0, END)


def give_back_frame(channel: int, tag: int) -> bytes:
    """Let one delivery come again, from the place it had in its queue."""
    return _SETTLE.pack(METHOD, channel, _SETTLE_BYTES, _BASIC, _NACK, tag, _REQUEUE, END)


# --- reading


def read_answer(data: bytes, at: int) -> tuple[int, bool]:
    """Read a confirm behind its method: the tag, and whether all before it are meant as well."""
    tag, bits = _ANSWER.unpack_from(data, at)
    return tag, bool(bits & 1)


def body_size(header: bytes) -> int:
    """Read from a message's header how many bytes its body has.

    Raises:
        MalformedFrame: they are more than a message may have.
    """
    size: int = _CONTENT.unpack_from(header)[2]
    if size > MOST_BYTES:
        raise MalformedFrame
    return size


def read_delivery(method: bytes) -> DeliveryFrame:
    """Read a deliver's payload."""
    start = 5 + method[4]  # behind class, method and the consumer's tag
    tag, redelivered = _ANSWER.unpack_from(method, start)
    exchange, routing_key = _two_texts(method[start + _ANSWER.size :])
    return DeliveryFrame(_known_text(method[5:start]), tag, bool(redelivered & 1), exchange, routing_key)


_known_text = lru_cache(maxsize=1024)(plain_text)


@lru_cache(maxsize=1024)  # a queue has a few
def _two_texts(raw: bytes) -> tuple[str, str]:
    first, at = _read_short(raw, 0)
    return first, _read_short(raw, at)[0]


def read_properties(header: bytes) -> Properties:
    """Read a message's properties, whatever its sender has put there."""
    at = _CONTENT.size + 2
    flags = int.from_bytes(header[_CONTENT.size : at])
    if flags == _OURS:
        job, at = _read_short(header, at + 1)
        address, at = _read_short(header, at)
        kind, at = _read_short(header, at)
        return Properties(job, address, kind, _read_short(header, at)[0])
    found = _read_any_properties(header, flags, at)
    return Properties(*(found.get(name, "") for name in ("correlation_id", "message_id", "type", "app_id")))


def _read_any_properties(header: bytes, flags: int, at: int) -> dict[str, str]:
    found = {}
    for bit, kind, name in _PROPERTIES:
        if not flags & 1 << bit:
            continue
        if kind == _TEXT:
            found[name], at = _read_short(header, at)
        elif kind == _TABLE:
            at += 4 + int.from_bytes(header[at : at + 4])
        else:
            at += 1 if kind == _OCTET else 8
    return found


def _read_short(data: bytes, at: int) -> tuple[str, int]:
    start = at + 1
    end = start + data[at]
    return plain_text(data[start:end]), end
