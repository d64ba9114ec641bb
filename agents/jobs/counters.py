"""Sums up all jobs that an agent has run since it started, for its metrics.

It reads counts, sizes and seconds of a job, never what was sent or computed, and keeps no entry for any one job.
"""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

from tercet.agents.core.states import TERMINAL
from tercet.agents.messaging.mailbox import Mailbox
from tercet.agents.runs.run import JobRun
from tercet.agents.session.context import JobContext
from tercet.agents.session.statistics import StepLengths

Key = tuple[str, str]  # the name of a sum, and what of it: a kind, a round, a state


class Counters:
    """Holds sums that never fall. Call `count_job` on every change, and before reading."""

    def __init__(self) -> None:
        self._sums: dict[Key, float] = {}
        self._seen: WeakKeyDictionary[JobRun | Mailbox, dict[Key, float]] = WeakKeyDictionary()
        self.steps = StepLengths()

    def count_job(self, run: JobRun) -> None:
        """Add what is new about a job, and about the attempt that counts."""
        self._add_new(run, _run_counts(run))
        self._add_new(run.context.mailbox, _attempt_counts(run.context))
        self.steps.move_from(run.context.statistics.lengths)  # each step once: there it is gone

    def _add_new(self, counted: JobRun | Mailbox, counts: Iterator[tuple[Key, float]]) -> None:
        seen = self._seen.setdefault(counted, {})
        for key, count in counts:
            new = max(0.0, count - seen.get(key, 0.0))  # what a carrier has sent falls while companions are confirmed
            self._sums[key] = self._sums.get(key, 0.0) + new
            seen[key] = seen.get(key, 0.0) + new

    def sums_of(self, name: str) -> dict[str, float]:
        """Give all sums of one name."""
        return {what: count for (kind, what), count in self._sums.items() if kind == name}


def _run_counts(run: JobRun) -> Iterator[tuple[Key, float]]:
    """Give the counts of a run, as it stands now."""
    yield ("jobs", run.job.description.kind), 1
    if run.state in TERMINAL:
        yield ("ended", run.state), 1
    if run.failure is not None:
        yield ("failed", run.failure.code), 1


def _attempt_counts(context: JobContext) -> Iterator[tuple[Key, float]]:
    """Give the counts that start anew with each attempt."""
    mailbox, statistics = context.mailbox, context.statistics
    yield ("attempts", context.description.kind), 1
    for kind, sent in mailbox.sent.items():
        yield ("sent bytes", kind), sent.bytes
        yield ("sent messages", kind), sent.messages
    for kind, count in mailbox.dropped.items():
        yield ("dropped", kind), count
    for round_, seconds in mailbox.waited_seconds.items():
        yield ("waited", round_), seconds
    for error, count in mailbox.refused.items():
        yield ("refused", error), count
    yield ("checkpoints", "written"), statistics.checkpoints_written
    yield ("checkpoints", "failed"), statistics.checkpoints_failed
