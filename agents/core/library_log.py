"""Turns libraries' log records into lines like ours, without data in the arguments.

Of a library that speaks of connections texts are shown; of any other only numbers, names of types and where it was.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

import structlog

from tercet.schemas.core.visible import escape_invisible

TALKATIVE: Final = frozenset({"aiormq", "aio_pika", "asyncio"})  # whose texts and errors are about connections
CONNECTIONS: Final = frozenset({"Connection", "Channel", "RobustConnection", "RobustChannel"})  # shown without password
MOST: Final = 300  # characters of one argument


class LibraryLogHandler(logging.Handler):
    """Hands what libraries complain of to the log of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one line."""
        error = record.exc_info[1] if record.exc_info else None
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING
        why = None if error is None else cause(error)
        structlog.get_logger().log(level, "library", library=record.name, text=text_of(record), error=why)


def text_of(record: logging.LogRecord) -> str:
    """Format a record as a sentence."""
    sentence, args = str(record.msg).strip(), record.args
    if not args:
        return sentence
    open_ = _root(record.name) in TALKATIVE
    try:
        if isinstance(args, Mapping):
            return sentence % {key: _safe_argument(value, open_=open_) for key, value in args.items()}
        return sentence % tuple(_safe_argument(value, open_=open_) for value in args)
    except (TypeError, ValueError, KeyError):
        return sentence.replace("%", "")


def cause(error: BaseException) -> str:
    """Name an error; quote it only if it is one of a connection."""
    name = type(error).__name__
    speaks = isinstance(error, OSError) or _root(type(error).__module__) in TALKATIVE
    if speaks and all(isinstance(arg, str | int | float | None) for arg in error.args):
        return f"{name}: {escape_invisible(str(error)[:MOST])}"
    return name  # it may hold a message


def _safe_argument(value: Any, *, open_: bool) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, BaseException):
        return _Unquoted(cause(value))
    kind = type(value)
    if open_ and isinstance(value, str):
        return escape_invisible(value[:MOST])
    if open_ and kind.__name__ in CONNECTIONS and _root(kind.__module__) in TALKATIVE:
        return _Unquoted(escape_invisible(str(value)[:MOST]))
    return _Unquoted(f"<{kind.__qualname__}>")


class _Unquoted(str):
    """Holds a text that is the same for %s and %r."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _root(module: str) -> str:
    return module.partition(".")[0]
