"""Names what `tercet job` asks its party's own agent, whichever way the request takes.

It imports messages alone: a question by the local socket needs no key and no broker.
"""

from abc import ABC, abstractmethod

from tercet.schemas.files.job import AnyJob
from tercet.schemas.messages.console import Decide, Prune, Query, ScoreQuery, ScoreReply, Status, Submit

ANSWER_SECONDS = 10.0

Request = Submit | Query | Decide | Prune
LocalRequest = Request | ScoreQuery  # which the agent's socket alone takes
LocalAnswer = Status | ScoreReply


class ConsoleClient(ABC):
    """Asks a party's own agent, however the request gets there."""

    @abstractmethod
    async def _send_request(self, request: Request) -> Status:
        """Ask, and wait for the answer.

        Raises:
            NoAgent: there is none.
        """

    async def submit(self, description: AnyJob, who: str = "") -> Status:
        """Run a job, or learn its state."""
        return await self._send_request(Submit(description=description, who=who))

    async def query(self, job: str | None = None, *, cancel: bool = False, who: str = "") -> Status:
        """Give the state of a job, or of all; with `cancel`, ask for its end first, for `who`."""
        return await self._send_request(Query(job=job, cancel=cancel, who=who))

    async def resume(self, job: str) -> Status:
        """Take up a failed job again at every party; its state then."""
        return await self._send_request(Query(job=job, resume=True))

    async def trace(self, job: str) -> Status:
        """Give a job's state, and the trace of one of its steps at this party."""
        return await self._send_request(Query(job=job, trace=True))

    async def reveals(self, job: str) -> Status:
        """Give a job's state, and who learns what from it."""
        return await self._send_request(Query(job=job, reveals=True))

    async def decide(self, job: str, *, approve: bool, who: str, why: str = "") -> Status:
        """Let a job in that waits for a person, or refuse it."""
        return await self._send_request(Decide(job=job, approve=approve, who=who, why=why))

    async def prune(self, days: float, *, models: bool, remove: bool, who: str) -> Status:
        """List files of jobs that ended so many days ago; with `remove`, delete them."""
        return await self._send_request(Prune(days=days, models=models, remove=remove, who=who))

    async def partners(self) -> Status:
        """Ping all partners' agents; give versions, clocks and the agent's own settings."""
        return await self._send_request(Query(partners=True, settings=True))
