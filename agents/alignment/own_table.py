"""Reads a data party's own table for one job, before anything of it is sent."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, NamedTuple

from tercet.agents.access.table import read_snapshot
from tercet.agents.alignment.own_woe import job_table, own_woe
from tercet.agents.alignment.table_problems import report_table
from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.agents.session.fixed_randomness import Draws
from tercet.schemas.files.job import canonical_digest
from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.table import Kind
from tercet.tables.snapshot.snapshot import Snapshot


@dataclass(frozen=True, slots=True, repr=False)
class OwnTable:
    """Holds a party's table as the run's first attempt found it, and that run's draws."""

    table: Snapshot
    draws: Draws


class Reading(NamedTuple):
    """Says what is read of a table; `take_snapshot` has the same words.

    Columns `beside` are no features, and are read too.
    """

    with_label: bool = False
    label_kind: Kind = "numeric"
    expected: Mapping[str, Kind] | None = None
    own_ids: bool = False
    beside: tuple[str, ...] = ()

    @property
    def key(self) -> list[Any]:
        """Words that a stored snapshot must have been read by."""
        features = None if self.expected is None else list(self.expected.items())
        beside = [list(self.beside)] if self.beside else []
        return [self.with_label, self.label_kind, features, self.own_ids, *beside]

    def words(self) -> dict[str, Any]:
        """Return the words of `take_snapshot`, which has columns `beside` in the settings."""
        words = self._asdict()
        del words["beside"]
        return words


async def read_table(context: JobContext, reading: Reading) -> OwnTable:
    """Take the snapshot, or open the run's earlier one.

    Raises:
        JobProblem: the table cannot be used; this party is named.
    """
    interrupt = Interrupt()
    try:
        with report_disk(context), report_table(context):
            table = await context.compute(_read_snapshot, context, reading, interrupt)
    except asyncio.CancelledError:
        # A query may take hours, and its answer is no longer needed. Cancelling it takes a while too.
        Thread(target=interrupt.set, name="interrupt", daemon=True).start()
        raise
    context.statistics.table_rows = table.rows
    context.findings.own_columns = tuple(column.name for column in table.columns)
    return OwnTable(table, await _start_draws(context, table))


def _read_snapshot(context: JobContext, reading: Reading, interrupt: Interrupt) -> Snapshot:
    job, me = context.job.description, context.me
    name, settings = job.table_of(me), job_table(context, reading.beside)
    snapshot = context.snapshots.snapshot(
        name,
        settings,
        reading.key,
        lambda: read_snapshot(name, settings, context.work_folder, **reading.words(), interrupt=interrupt),
    )
    context.files.callback(snapshot.close)  # here, since the caller may have been cancelled meanwhile
    return snapshot


async def _start_draws(context: JobContext, table: Snapshot) -> Draws:
    """Find the run's earlier draws, if the table is still the one that they belong to."""
    with report_disk(context):
        draws = context.randomness.start_attempt(_reading_digest(context, await context.compute(table.digest)))
    if draws is None:
        raise changed_table(context.me)
    return draws


def _reading_digest(context: JobContext, rows: bytes) -> bytes:
    """Digest the rows, and the settings that encode or bin them."""
    table = context.settings.tables[context.description.table_of(context.me)]
    fitted: dict[str, list[Any]] = {
        "training": [table.clip, table.rare, table.whiten],
        "statistics": [table.rare, sorted(table.cuts.items())],
        "prediction": [],
    }
    woe = [[one.bins.model_dump_json(), list(one.woe)] for one in own_woe(context).values()]
    return canonical_digest("tercet rows", [rows.hex(), *fitted[context.description.kind], *woe])


def changed_table(party: str) -> JobProblem:
    """Make the problem of a changed table.

    A run must not use the same signs and noise for two tables, nor choose held-out rows twice.
    """
    reason = (
        f"{party}'s table, or its saved randomness, has changed since the first attempt, so the job cannot go on: "
        f"submit it with --again"
    )
    return JobProblem("table.changed", party, reason)


@contextmanager
def report_disk(context: JobContext) -> Iterator[None]:
    """Blame this party for a disk that does not take what the block writes of the table."""
    try:
        yield
    except OSError as error:
        public = f"{context.me} cannot write a working copy of its table to its disk"
        raise JobProblem("disk.write", context.me, public, f"{context.work_folder}: {error.strerror}") from None
