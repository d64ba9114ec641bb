"""Runs a command's coroutine and reports its errors; defines exit codes and formats.

Nothing here knows a command.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from tercet.agents.access.no_agent import NoAgent
from tercet.agents.cli import rendering
from tercet.broker.interface.base import BrokerError
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.job import Invalid
from tercet.tables.core.problem import TableProblem

JOB_FAILED, UNUSABLE_FILE, CANNOT_REACH, WORTHLESS = 1, 3, 4, 5
SWITCH_SECONDS = 0.0005  # the maths thread hands the interpreter back to the event loop ten times as often as usual

T = TypeVar("T")


class Format(StrEnum):
    """Names the output formats."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for scripts")]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; known errors become a sentence and an exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main)
    except BaseExceptionGroup as group:
        _report(_known(group))
    except (Invalid, KeyProblem, TableProblem, NoAgent, BrokerError) as error:
        _report(error)


def checked(call: Any, *args: Any) -> Any:
    """Make a plain call, and report its errors like a command's."""
    try:
        return call(*args)
    except (Invalid, KeyProblem, TableProblem) as error:
        _report(error)


def leave() -> None:
    """End the process if a thread is at work that cannot be ended, like a SQLite query.

    The interpreter would wait for it, for hours perhaps; all that the agent had to say and write is said and written.
    """
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def _known(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _known(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _report(error: BaseException) -> NoReturn:
    if isinstance(error, Invalid | KeyProblem | TableProblem):
        code = UNUSABLE_FILE
    elif isinstance(error, NoAgent | BrokerError):
        code = CANNOT_REACH
    else:
        raise error
    rendering.complain(str(error))
    raise typer.Exit(code) from None
