"""Reads what lies beside the agent for its page: tables, audit log, dead letters.

What takes long happens in a thread, one at a time. No row of a table is shown, and no body of a message.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tercet.agents.policy.audit_log import BrokenLog, Entry, entries
from tercet.broker.interface.base import BrokerError
from tercet.broker.interface.dead_letters import DeadLetter
from tercet.schemas.files.settings import TableSettings

MOST_ENTRIES: Final = 50  # on a page
MOST_LETTERS: Final = 100
LETTER_SECONDS: Final = 4.0

ReadLetters = Callable[[int], Awaitable[tuple[list[DeadLetter], int]]]


@dataclass(slots=True)
class Reading:
    """Holds what one reading of a table has found, or why it found nothing.

    Attributes:
        since: when it began, in seconds since 1970.
        found: rows, columns and warnings, as `tercet table` has them; None while it reads.
        problem: why the table cannot be used.
    """

    since: float
    found: dict[str, Any] | None = None
    problem: str = ""

    @property
    def is_over(self) -> bool:
        """Tell whether the table has been read."""
        return self.found is not None or bool(self.problem)


class TableReader:
    """Reads tables when a person asks, one at a time. `spawn` runs a task beside."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._spawn, self._reading = spawn, asyncio.Lock()
        self.readings: dict[str, Reading] = {}

    def begin(self, name: str, settings: TableSettings) -> None:
        """Begin to read a table, unless that goes on already."""
        before = self.readings.get(name)
        if before is None or before.is_over:
            self.readings[name] = Reading(time.time())
            self._spawn(self._read(name, settings))

    async def _read(self, name: str, settings: TableSettings) -> None:
        from tercet.agents.access.table import describe_tables  # noqa: PLC0415 - pyarrow

        reading, found, problem = self.readings[name], None, "an error of our own: the agent's log has it"
        try:
            async with self._reading:
                all_found, wrong = await asyncio.to_thread(describe_tables, {name: settings})
            found, problem = all_found.get(name), wrong.get(name, "")
        except OSError as error:  # a disk that is full, for one
            problem = f"it cannot be read: {error.strerror or type(error).__name__}"
        finally:
            reading.found, reading.problem = found, problem


class AuditPage(NamedTuple):
    """Holds the entries of a page, the latest first.

    Attributes:
        entries: those that have the words.
        total: number of lines of the log.
        older: the number before which the next page begins; 0 if this is the last.
        problem: where the log was changed, if it was; then there are only the lines before.
    """

    entries: list[Entry]
    total: int
    older: int
    problem: str = ""


def read_audit(path: Path, words: str, before: int, job: str = "") -> AuditPage:
    """Read and check the log, and find the entries with all these words, in any capitals."""
    found: list[Entry] = []
    problem = ""
    try:
        for entry in entries(path.read_bytes()):
            found.append(entry)  # noqa: PERF402 - those before one that was changed stay
    except OSError as error:
        problem = f"the log cannot be read: {error.strerror}"
    except BrokenLog as broken:
        problem = str(broken)
    wanted = words.lower().split()
    fit = [one for one in found if (not before or one.seq < before) and job in {"", one.job} and _has(one, wanted)]
    shown = fit[: -MOST_ENTRIES - 1 : -1]
    return AuditPage(shown, len(found), shown[-1].seq if len(fit) > len(shown) else 0, problem)


def _has(entry: Entry, words: list[str]) -> bool:
    text = f"{entry.time} {entry.event} {entry.job} {entry.fields}".lower()
    return all(word in text for word in words)


class Letters(NamedTuple):
    """Holds dead letters, the latest first, how many more there are, or why none are read."""

    letters: list[DeadLetter]
    more: int = 0
    problem: str = ""


async def read_letters(read: ReadLetters | None) -> Letters:
    """Read the dead letters by a connection of their own."""
    if read is None:
        return Letters([], problem="this broker keeps no dead letters")
    try:
        async with asyncio.timeout(LETTER_SECONDS):
            letters, more = await read(MOST_LETTERS)
    except (BrokerError, TimeoutError) as error:
        return Letters([], problem=f"the broker does not give them: {error or 'it took too long'}")
    return Letters(letters[::-1], more)
