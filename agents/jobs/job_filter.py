"""Filters the jobs that `tercet job list` shows: by what they are, by partner and time.

It reads no clock and prints nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.schemas.messages.kinds import JobStatus

PAGE = 20  # jobs, where a person reads them


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Says which jobs are wanted; what is empty restricts nothing.

    Attributes:
        states, models, kinds: a job's is one of these.
        partners: one of these takes part in it, in any role.
        since: it was submitted then or later; a time without a zone is this machine's.
    """

    states: Collection[str] = ()
    models: Collection[str] = ()
    kinds: Collection[str] = ()
    partners: Collection[str] = ()
    since: datetime | None = None

    def choose(self, jobs: Sequence[JobStatus]) -> list[JobStatus]:
        """List the wanted jobs in their order."""
        return [job for job in jobs if self._wants(job)]

    def _wants(self, job: JobStatus) -> bool:
        pairs = (
            (self.states, {job.state}),
            (self.models, {job.model}),
            (self.kinds, {job.kind}),
            (self.partners, {job.label, job.helper, *job.members}),
        )
        fits = all(not wanted or not said.isdisjoint(wanted) for wanted, said in pairs)
        return fits and (self.since is None or datetime.fromisoformat(job.submitted) >= self.since.astimezone())


def page_of(jobs: Sequence[JobStatus], number: int, limit: int | None) -> Sequence[JobStatus]:
    """Return page `number`, counted from 1, of `limit` jobs each; without a limit all."""
    return jobs if limit is None else jobs[(number - 1) * limit : number * limit]
