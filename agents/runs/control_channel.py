"""What a party says of a job beside the steps, and hears of the others: heartbeats, faults, the verdict, the end.

It speaks through the letters of the attempt that counts, and decides nothing: what follows is the run's business.
"""

import asyncio
from collections.abc import Callable
from itertools import count

import structlog

from tercet.agents.core.problems import BROKER, JobProblem
from tercet.agents.core.states import UNKNOWN, State
from tercet.agents.runs.attempt import Attempt
from tercet.agents.runs.blame import Report
from tercet.agents.runs.outcomes import (
    MISSED_HEARTBEATS,
    Cancelled,
    Ending,
    Failing,
    Hearing,
    Late,
    Settled,
    Told,
    blocked,
    cut_off,
    refuses,
    stranger,
)
from tercet.broker.interface.base import Blocked
from tercet.broker.interface.clock import loop_time
from tercet.broker.interface.outbox import Undeliverable
from tercet.schemas.files.settings import Deadlines
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Cancel, Failure, Job, Message, Outcome, Progress

NOT_RESUMED = "job.resume"  # the code of a failure of whoever does not take a run up again


class Voice:
    """One party's in one job.

    Args:
        job: What it is about.
        me: The party.
        deadlines: Of this party.
        life: Of the agent with this run: what it says is newer than what an earlier one said.
        progress: Where it is now.
        ended: Told of an end that somebody's words mean.
        done: Told of a party that is done with the job.
        unknown: Told of a party that does not know it.
        behind: Told of a party where it has failed, in an attempt before this one; whether that is no longer true.
        noted: Told what this party's operator should know, and nobody else.
    """

    def __init__(
        self,
        job: Job,
        me: str,
        deadlines: Deadlines,
        life: int,
        *,
        progress: Callable[[], Progress],
        ended: Callable[[Ending], None],
        done: Callable[[str], None],
        unknown: Callable[[str], None],
        behind: Callable[[str], bool],
        noted: Callable[[str], None],
    ) -> None:
        self._label, self._me, self._deadlines, self._life = job.description.label, me, deadlines, life
        self._progress, self._ended, self._done, self._unknown = progress, ended, done, unknown
        self._behind, self._noted = behind, noted
        self._verdict: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._numbers = count(1)
        self._log = structlog.get_logger()
        described = job.description
        self.hearing = Hearing(self._label, described.everybody, described.helpers, me, self._on_verdict)
        self.attempt: Attempt | None = None

    @property
    def _through(self) -> Attempt:
        assert self.attempt is not None
        return self.attempt

    # --- hearing

    def hear(self, address: Address, message: Message) -> None:
        """Take a control message of another party."""
        if isinstance(message, Outcome):
            self._outcome(address.sender, message)
            return
        ending = self.hearing.take(address, message, self._through.context.description.parties)
        if ending is not None:
            self._ended(ending)
        elif isinstance(message, Progress) and message.state == State.DONE:
            self._done(address.sender)

    def _outcome(self, sender: str, outcome: Outcome) -> None:
        """The run is over at a party that was asked."""
        if outcome.state == State.DONE:
            self._done(sender)
        elif outcome.state == UNKNOWN:
            self._unknown(sender)
        elif outcome.state == State.CANCELLED:
            by = outcome.cancelled_by or ""
            self._ended(Cancelled(by) if by in ("", *self.hearing.parties) else stranger(sender))
        elif outcome.failure is None:
            return
        elif (outcome.failure.code, outcome.failure.culprit) == (NOT_RESUMED, sender):
            self._not_resumed(JobProblem("job.resume", sender, outcome.failure.reason))
        elif self._label not in {self._me, sender}:
            return
        elif outcome.failure.culprit not in (*self.hearing.parties, BROKER):
            self._ended(stranger(sender))
        elif outcome.attempt >= self.hearing.attempt or not self._behind(sender):
            self._ended(Settled(outcome.failure))

    def _not_resumed(self, problem: JobProblem) -> None:
        """A party does not follow this one; it may still follow the label party, which asks it anew."""
        if self._label in {self._me, problem.culprit}:
            self._ended(problem)
        else:
            self._log.warning("a party does not take the job up again", why=problem.reason)
            self._noted(problem.reason)

    def _on_verdict(self, failure: Failure) -> None:
        if not self._verdict.done():
            self._verdict.set_result(failure)

    # --- saying

    async def beat(self) -> None:
        """A heartbeat."""
        await self.tell(self._progress(), required=False)

    async def tell(self, message: Message, *, required: bool) -> None:
        """To everybody with whom we speak. Whom it does not reach in time will find us silent."""
        mailbox, deadline = self._through.mailbox, self._through.context.deadline("verdict")
        life, number = self._life, next(self._numbers)
        try:
            await mailbox.send(message, mailbox.partners, deadline, epoch=life, step=number, required=required)
        except Undeliverable as error:
            self._log.warning("not everybody was told", why=str(error))

    async def cancel(self, cancelled: Cancelled) -> None:
        """Who was told passes it on, but whoever ended the job sees to it that it arrives."""
        await self.tell(Cancel(by=cancelled.by or None), required=cancelled.here)
        await self.drain("verdict")

    async def drain(self, deadline: str) -> None:
        """Wait until all that was said is with the broker, or the deadline has passed."""
        try:
            await self._through.outbox.drain(self._through.context.deadline(deadline).seconds)
        except TimeoutError as error:
            self._log.warning("not everybody was told", why=str(error))

    # --- judging

    def judgement(self, ending: Failing, own: Report, state: State) -> Failure:
        """What this party would say of an end, if nobody else did."""
        return self.hearing.judgement(ending, self._me, own, str(state), stuck=self._stuck())

    def _stuck(self) -> JobProblem | None:
        """Why what this party says gets nowhere, if it does not."""
        outbox = self._through.outbox
        if outbox.blocked:
            return blocked(Blocked(outbox.blocked))
        silence = loop_time() - outbox.answered
        return cut_off(self._me) if silence > MISSED_HEARTBEATS * self._deadlines.heartbeat else None

    async def judge(self, ending: Failing, own: Report, state: State, refusal: JobProblem | None = None) -> Failure:
        """The one reason for the end that every party shows; tells the others.

        `refusal` is what this party does not let the job in for, whoever has ended it before that was known.
        """
        mine = self.judgement(ending, own, state)
        if self._me == self._label:
            if refuses(mine):
                await self._hear_refusals()
                mine = self.hearing.with_all_refusals(mine, refusal)
            verdict = mine.model_copy(update={"verdict": True})
            await self.tell(verdict, required=True)
            await self.drain("verdict")
            return verdict
        if isinstance(ending, Settled):
            return ending.failure
        if refusal is None:
            await self._complain(ending, mine)
        else:  # of each party the label party minds the first word
            await self.tell(refusal.failure(state, verdict=False), required=True)
        try:
            async with asyncio.timeout(self._deadlines.verdict):
                return await asyncio.shield(self._verdict)
        except TimeoutError:
            return self.judgement(ending, own, state)

    async def _hear_refusals(self) -> None:
        """Give the others time to say what they refuse the job for, unless all have decided already."""
        others, heartbeat = self._through.context.others, self._deadlines.heartbeat
        for _ in range(max(1, int(self._deadlines.verdict / 2 / heartbeat))):
            await asyncio.sleep(heartbeat)
            if all(self.hearing.has_decided(party) for party in others):
                return

    async def _complain(self, ending: Failing, mine: Failure) -> None:
        if isinstance(ending, JobProblem):
            await self.tell(mine, required=True)
        elif isinstance(ending, Told):  # its sender may be one of those who cannot speak to the label party
            await self.tell(ending.failure.model_copy(update={"verdict": False}), required=False)
        elif isinstance(ending, Late) and ending.reporter == self._me:
            await self.beat()
