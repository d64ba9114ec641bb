"""Exchanges control messages of a job: heartbeats, faults, the verdict and the end.

It sends through the current attempt's mailbox, and decides nothing: `run` does.
"""

import asyncio
from collections.abc import Callable
from itertools import count

import structlog

from tercet.agents.core.problems import NO_PARTIES, JobProblem
from tercet.agents.core.states import UNKNOWN, State
from tercet.agents.runs.attempt import Attempt
from tercet.agents.runs.blame import Report
from tercet.agents.runs.outcomes import (
    MISSED_HEARTBEATS,
    Cancelled,
    DeadlineMissed,
    FinalFailure,
    PeerMonitor,
    RemoteFailure,
    RunFailure,
    RunOutcome,
    broker_blocked,
    connection_lost,
    is_refusal,
    unknown_party,
)
from tercet.broker.interface.base import Blocked
from tercet.broker.interface.clock import loop_time
from tercet.broker.interface.outbox import Undeliverable
from tercet.schemas.files.settings import Deadlines
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Cancel, Failure, Job, Message, Outcome, Progress

NOT_RESUMED = "job.resume"  # code of a party that declines to resume a run


class ControlChannel:
    """Speaks for one party in one job.

    Args:
        job: The job.
        me: This party.
        deadlines: This party's deadlines.
        life: Number of the agent's life with this run. Messages of a later life are newer.
        current_progress: Gives this party's progress for a heartbeat.
        on_outcome: Called with an outcome that a message means.
        on_done: Called with a party that is done with the job.
        on_unknown: Called with a party that does not know the job.
        on_stale_failure: Called with a party where an earlier attempt failed. Tells whether the run was resumed since.
        on_note: Called with a text for this party's operator alone.
    """

    def __init__(
        self,
        job: Job,
        me: str,
        deadlines: Deadlines,
        life: int,
        *,
        current_progress: Callable[[], Progress],
        on_outcome: Callable[[RunOutcome], None],
        on_done: Callable[[str], None],
        on_unknown: Callable[[str], None],
        on_stale_failure: Callable[[str], bool],
        on_note: Callable[[str], None],
    ) -> None:
        self._label, self._me, self._deadlines, self._life = job.description.label, me, deadlines, life
        self._current_progress, self._on_outcome, self._on_done, self._on_unknown = (
            current_progress,
            on_outcome,
            on_done,
            on_unknown,
        )
        self._on_stale_failure, self._on_note = on_stale_failure, on_note
        self._label_verdict: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._numbers = count(1)
        self._log = structlog.get_logger()
        description = job.description
        self.peers = PeerMonitor(self._label, description.everybody, description.helpers, me, self._on_verdict)
        self.attempt: Attempt | None = None

    @property
    def _current_attempt(self) -> Attempt:
        assert self.attempt is not None
        return self.attempt

    # --- receiving

    def handle_message(self, address: Address, message: Message) -> None:
        """Take a control message of another party."""
        if isinstance(message, Outcome):
            self._handle_outcome(address.sender, message)
            return
        outcome = self.peers.note_message(address, message, self._current_attempt.context.description.parties)
        if outcome is not None:
            self._on_outcome(outcome)
        elif isinstance(message, Progress) and message.state == State.DONE:
            self._on_done(address.sender)

    def _handle_outcome(self, sender: str, outcome: Outcome) -> None:
        """Handle the news that the run is over at a party that was asked."""
        if outcome.state == State.DONE:
            self._on_done(sender)
        elif outcome.state == UNKNOWN:
            self._on_unknown(sender)
        elif outcome.state == State.CANCELLED:
            by = outcome.cancelled_by or ""
            self._on_outcome(Cancelled(by) if by in ("", *self.peers.parties) else unknown_party(sender))
        elif outcome.failure is None:
            return
        elif (outcome.failure.code, outcome.failure.culprit) == (NOT_RESUMED, sender):
            self._handle_declined_resumption(JobProblem("job.resume", sender, outcome.failure.reason))
        elif self._label not in {self._me, sender}:
            return
        elif outcome.failure.culprit not in {*self.peers.parties, *NO_PARTIES}:
            self._on_outcome(unknown_party(sender))
        elif outcome.attempt >= self.peers.attempt or not self._on_stale_failure(sender):
            self._on_outcome(FinalFailure(outcome.failure))

    def _handle_declined_resumption(self, problem: JobProblem) -> None:
        """Handle a party's refusal to resume; it may still follow the label party."""
        if self._label in {self._me, problem.culprit}:
            self._on_outcome(problem)
        else:
            self._log.warning("a party does not take the job up again", why=problem.reason)
            self._on_note(problem.reason)

    def _on_verdict(self, failure: Failure) -> None:
        if not self._label_verdict.done():
            self._label_verdict.set_result(failure)

    # --- sending

    async def send_heartbeat(self) -> None:
        """Send a heartbeat to everybody."""
        await self.send_to_all(self._current_progress(), required=False)

    async def send_to_all(self, message: Message, *, required: bool) -> None:
        """Send a message to all partners; one that is not reached will find us silent."""
        mailbox, deadline = self._current_attempt.mailbox, self._current_attempt.context.deadline("verdict")
        life, number = self._life, next(self._numbers)
        try:
            await mailbox.send(message, mailbox.partners, deadline, epoch=life, step=number, required=required)
        except Undeliverable as error:
            self._log.warning("not everybody was told", why=str(error))

    async def send_cancel(self, cancellation: Cancelled) -> None:
        """Tell everybody of a cancellation; the party that cancels waits for delivery."""
        await self.send_to_all(Cancel(by=cancellation.by or None), required=cancellation.here)
        await self.drain_outbox("verdict")

    async def drain_outbox(self, deadline: str) -> None:
        """Wait until all that was said is with the broker, or the deadline has passed."""
        try:
            await self._current_attempt.outbox.drain(self._current_attempt.context.deadline(deadline).seconds)
        except TimeoutError as error:
            self._log.warning("not everybody was told", why=str(error))

    # --- failures

    def diagnose(self, outcome: RunFailure, own: Report, state: State) -> Failure:
        """Give this party's own view of a failure, as if nobody else spoke."""
        return self.peers.diagnose(outcome, self._me, own, str(state), stuck=self._connection_problem())

    def _connection_problem(self) -> JobProblem | None:
        """Give the reason why this party's messages get nowhere, if they do not."""
        outbox = self._current_attempt.outbox
        if outbox.blocked:
            return broker_blocked(Blocked(outbox.blocked))
        silence = loop_time() - outbox.answered
        return connection_lost(self._me) if silence > MISSED_HEARTBEATS * self._deadlines.heartbeat else None

    async def agree_on_failure(
        self, outcome: RunFailure, own: Report, state: State, refusal: JobProblem | None = None
    ) -> Failure:
        """Agree with the others on the one failure that every party shows.

        `refusal` is this party's own reason against the job, even if another party has ended it first.
        """
        mine = self.diagnose(outcome, own, state)
        if self._me == self._label:
            if is_refusal(mine):
                await self._await_refusals()
                mine = self.peers.with_all_refusals(mine, refusal)
            verdict = mine.model_copy(update={"verdict": True})
            await self.send_to_all(verdict, required=True)
            await self.drain_outbox("verdict")
            return verdict
        if isinstance(outcome, FinalFailure):
            return outcome.failure
        if refusal is None:
            await self._report_failure(outcome, mine)
        else:  # of each party the label party minds the first word
            await self.send_to_all(refusal.failure(state, verdict=False), required=True)
        try:
            async with asyncio.timeout(self._deadlines.verdict):
                return await asyncio.shield(self._label_verdict)
        except TimeoutError:
            return self.diagnose(outcome, own, state)

    async def _await_refusals(self) -> None:
        """Give the others time to refuse too, unless all have decided already."""
        others, heartbeat = self._current_attempt.context.others, self._deadlines.heartbeat
        for _ in range(max(1, int(self._deadlines.verdict / 2 / heartbeat))):
            await asyncio.sleep(heartbeat)
            if all(self.peers.has_decided(party) for party in others):
                return

    async def _report_failure(self, outcome: RunFailure, mine: Failure) -> None:
        if isinstance(outcome, JobProblem):
            await self.send_to_all(mine, required=True)
        elif isinstance(outcome, RemoteFailure):  # its sender may be one of those who cannot speak to the label party
            await self.send_to_all(outcome.failure.model_copy(update={"verdict": False}), required=False)
        elif isinstance(outcome, DeadlineMissed) and outcome.reporter == self._me:
            await self.send_heartbeat()
