"""Runs a command's coroutine and reports its errors; defines exit codes and formats.

Nothing here knows a command.
"""

import os
import sys
import threading
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from tercet.agents.access.no_agent import NoAgent
from tercet.agents.cli import rendering
from tercet.broker.interface.base import BrokerError
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.tables.core.problem import TableProblem

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tercet.schemas.files.job import AnyJob
    from tercet.schemas.files.settings import Settings

JOB_FAILED, UNUSABLE_FILE, CANNOT_REACH, WORTHLESS = 1, 3, 4, 5
SWITCH_SECONDS = 0.0005  # the maths thread hands the interpreter back to the event loop ten times as often as usual

T = TypeVar("T")


class Format(StrEnum):
    """Names the output formats."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for scripts")]


def show(format: Format, value: T, text: "Callable[[T], RenderableType]") -> None:  # noqa: A002
    """Print a value as JSON for scripts, or what `text` makes of it for people."""
    if format is Format.JSON:
        rendering.print_json(value)
    else:
        rendering.out.print(text(value))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; known errors become a sentence and an exit code."""
    import asyncio  # noqa: PLC0415 - a tenth of a second

    from tercet.agents.core.event_loop import first_error, loop_factory  # noqa: PLC0415

    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(main)
    except BaseExceptionGroup as group:
        _report(first_error(group))
    except (Invalid, KeyProblem, TableProblem, NoAgent, BrokerError) as error:
        _report(error)


def checked(call: Any, *args: Any) -> Any:
    """Make a plain call, and report its errors like a command's."""
    try:
        return call(*args)
    except (Invalid, KeyProblem, TableProblem) as error:
        _report(error)


def job_of(path: Path) -> "AnyJob":
    """Read a job file, and report its errors."""
    from tercet.schemas.files.job import read_job  # noqa: PLC0415 - pydantic models

    description: AnyJob = checked(read_job, path)
    return description


def settings_of(path: Path) -> "Settings":
    """Read a party's settings, and report their errors."""
    from tercet.schemas.files.settings import read_settings  # noqa: PLC0415 - pydantic models

    own: Settings = checked(read_settings, path)
    return own


def leave() -> None:
    """End the process if a thread is at work that cannot be ended, like a SQLite query.

    The interpreter would wait for it, for hours perhaps; all that the agent had to say and write is said and written.
    """
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _report(error: BaseException) -> NoReturn:
    if isinstance(error, Invalid | KeyProblem | TableProblem):
        code = UNUSABLE_FILE
    elif isinstance(error, NoAgent | BrokerError):
        code = CANNOT_REACH
    else:
        raise error
    rendering.complain(str(error))
    raise typer.Exit(code) from None
