"""Writes one JSON object a line to standard error, with party, job, attempt and step.

Only names, numbers and sentences are logged; never a payload, a key or a row.
"""

import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import structlog
from structlog.typing import EventDict, WrappedLogger

from tercet.agents.core.library_log import LibraryLogHandler
from tercet.agents.core.log_level import Level


class HasStep(Protocol):
    """Knows how many steps are done."""

    step: int


@dataclass(slots=True)
class _Place:
    """Holds a job's place for log lines; tasks of an earlier attempt log the newest attempt."""

    party: str
    job: str
    attempt: int
    stepping: HasStep


_PLACE: ContextVar[_Place | None] = ContextVar("place", default=None)


def bind_party(party: str) -> None:
    """Bind log lines of this task and its children to a party."""
    structlog.contextvars.bind_contextvars(party=party)


def bind_job(party: str, job: str, attempt: int, stepping: HasStep) -> None:
    """Bind log lines of this task and its children to a job and its current step."""
    structlog.contextvars.bind_contextvars(party=party, job=job)
    place = _PLACE.get()
    if place is not None and (place.party, place.job) == (party, job):
        place.attempt, place.stepping = attempt, stepping  # for everybody who has inherited it
    else:
        _PLACE.set(_Place(party, job, attempt, stepping))


def _complete(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Give every line the same four keys."""
    place = _PLACE.get()
    here = {} if place is None else {"attempt": place.attempt, "step": place.stepping.step}
    if event.get("job", None if place is None else place.job) != (place and place.job):
        here = {}  # somebody speaks of another job than the one at work
    return {"party": None, "job": None, "attempt": None, "step": None, **here, **event}


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an uncaught exception as a line like any other."""
    structlog.get_logger().critical("the agent has crashed", exc_info=(kind, error, trace))


def drop_failures(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop how a job failed, where the caller shows that itself."""
    if event.get("event") == "job failed":
        raise structlog.DropEvent
    return event


def configure(level: str = Level.INFO, *, daemon: bool = False, failures: bool = True) -> None:
    """Set up the process's logging once; a daemon logs a crash as JSON, too.

    Without `failures` nothing is logged of how jobs fail: the caller shows it.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryLogHandler()])
    if daemon:
        logging.captureWarnings(capture=True)
        sys.excepthook = _crash
    structlog.configure(
        processors=[
            *([] if failures else [drop_failures]),
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
