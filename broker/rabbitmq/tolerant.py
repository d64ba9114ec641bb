"""Reads AMQP's texts, tables and times whatever a partner has put into them.

It reads nothing else, and writes nothing.

pamqp raises at a text that is not UTF-8, at a time beyond the year 9999, at a table nested too deeply. aiormq then
drops the connection, RabbitMQ delivers the message again, and so on in circles. RabbitMQ has checked the form of
each frame before, so only values can be wrong. None of them is needed to settle a message: a strange text is read with
question marks, a strange table as empty, a strange time as the beginning of all.
"""

import struct
from datetime import UTC, datetime
from typing import Any, Final

from pamqp import decode
from pamqp.commands import Connection

from tercet.schemas.core.visible import escape_invisible

MAX_TABLE_BYTES: Final = 16 * 1024  # what RabbitMQ says of itself takes 1 KiB; pamqp's time grows with the square
_NEVER: Final = datetime.fromtimestamp(0, UTC)
_WRONG: Final = (ValueError, OverflowError, RecursionError, OSError, IndexError, struct.error, TypeError)


def read_text(value: bytes) -> tuple[int, str]:
    """Return a short text, and the bytes that it took."""
    end = 1 + value[0] if value else 0
    return end, plain_text(value[1:end])


def plain_text(raw: bytes) -> str:
    """Return the text of these bytes, whatever they are."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("ascii", "replace").replace("\ufffd", "?")  # no longer than it was


def read_table(value: bytes) -> tuple[int, dict[str, Any]]:
    """Return a table, and the bytes that it took."""
    (length,) = struct.unpack_from(">I", value)
    if length > MAX_TABLE_BYTES:
        return 4 + length, {}
    try:
        return 4 + length, dict(decode.field_table(value)[1])
    except _WRONG:
        return 4 + length, {}


def read_time(value: bytes) -> tuple[int, datetime]:
    """Return a time, and the bytes that it took."""
    try:
        return decode.timestamp(value)
    except _WRONG:
        return 8, _NEVER


def describe_close(frame: Connection.Close) -> str:
    """Describe how RabbitMQ ends a connection.

    aiormq quotes the frame in an error, and pamqp shows its address.
    """
    return f"<{frame.name} {frame.reply_code} {escape_invisible(frame.reply_text or '')}>"


def install_readers() -> None:
    """Have pamqp read and show so, in this process. Idempotent."""
    decode.METHODS.update({"shortstr": read_text, "table": read_table, "timestamp": read_time})
    setattr(Connection.Close, "__repr__", describe_close)  # noqa: B010 - mypy takes no method for another
