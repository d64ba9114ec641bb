"""How agents log: one JSON object a line, on standard error, with party, job, attempt and step.

Only names, numbers and sentences are logged; never a payload, a key or a row.
"""

import logging
import sys
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

import structlog
from structlog.typing import EventDict, WrappedLogger


class Level(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Stepping(Protocol):
    """Something that knows how many steps are done."""

    step: int


_STEPPING: ContextVar[Stepping | None] = ContextVar("stepping", default=None)


def of_party(party: str) -> None:
    """What this task and its children log from here on is this party's."""
    structlog.contextvars.bind_contextvars(party=party)


def of_job(party: str, job: str, attempt: int, stepping: Stepping) -> None:
    """What this task and its children log from here on belongs to this job, at whatever step it is by then."""
    structlog.contextvars.bind_contextvars(party=party, job=job, attempt=attempt)
    _STEPPING.set(stepping)


def _complete(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Every line has the same four keys."""
    stepping = _STEPPING.get()
    return {"party": None, "job": None, "attempt": None, "step": stepping.step if stepping else None, **event}


class _Libraries(logging.Handler):
    """What libraries complain of, as lines of ours: their text without its arguments, which may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        error = kind.__name__ if kind else None
        structlog.get_logger().warning("library", library=record.name, text=str(record.msg), error=error)


def configure(level: str = Level.INFO) -> None:
    """Set the process's logging up; called once, by the command line."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _complete,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
