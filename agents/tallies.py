"""Sums over all the jobs that an agent has run since it started, for its metrics.

It reads counts, sizes and seconds of a job, never what was sent or computed, and keeps no entry for any one job.
"""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

from agents.run import JobRun
from agents.states import TERMINAL
from agents.statistics import StepLengths

Key = tuple[str, str]  # the name of a sum, and what of it: a kind, a round, a state


class Tallies:
    """Sums that never fall. `note` a job whenever something about it changes, and before the sums are read."""

    def __init__(self) -> None:
        self._sums: dict[Key, float] = {}
        self._seen: WeakKeyDictionary[JobRun, dict[Key, float]] = WeakKeyDictionary()
        self.steps = StepLengths()

    def note(self, run: JobRun) -> None:
        """Add what is new about a job. A count that is lower than it was has begun anew."""
        seen = self._seen.setdefault(run, {})
        for key, count in _counts(run):
            before = seen.get(key, 0.0)
            self._sums[key] = self._sums.get(key, 0.0) + (count - before if count >= before else count)
            seen[key] = count
        self.steps.take(run.context.statistics.lengths)  # each step once: there it is gone

    def of(self, name: str) -> dict[str, float]:
        """All sums of one name."""
        return {what: count for (kind, what), count in self._sums.items() if kind == name}


def _counts(run: JobRun) -> Iterator[tuple[Key, float]]:
    """Everything that is summed of one job, as it stands now."""
    mailbox, statistics = run.context.mailbox, run.context.statistics
    yield ("jobs", run.job.description.kind), 1
    for kind, tally in mailbox.sent.items():
        yield ("sent bytes", kind), tally.bytes
        yield ("sent messages", kind), tally.messages
    for round_, seconds in mailbox.waited.items():
        yield ("waited", round_), seconds
    for reason, count in mailbox.refused.items():
        yield ("refused", reason), count
    for what in ("attempt", "checkpoints_written", "checkpoints_failed"):
        yield ("recovery", what), getattr(statistics, what, 0)
    if run.state in TERMINAL:
        yield ("ended", run.state), 1
    if run.failure is not None:
        yield ("failed", run.failure.code), 1
