"""One job at one party from its acceptance to its end: its attempts, its heartbeat, its queues, and how it ends.

It ends in exactly one terminal state whatever happens, with the same reason at every party: the label party's verdict
counts, and where the label party is silent each party follows the chain of who waits for whom by itself. After a fault
that may pass, the label party begins another attempt, which its heartbeats tell.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import structlog

from tercet.agents.alignment.scored_ids import model_of
from tercet.agents.core import logs
from tercet.agents.core.problems import JobProblem, Overdue
from tercet.agents.core.states import APPROVAL, TERMINAL, State, move
from tercet.agents.messaging.inbox import Latest
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.reports.build import reported
from tercet.agents.roles.release import discard, kept, unreleased
from tercet.agents.runs.attempt import AnyRole, Attempt, Hooks, Services
from tercet.agents.runs.blame import Report, culprits
from tercet.agents.runs.control_channel import Voice
from tercet.agents.runs.outcome_slot import Ends
from tercet.agents.runs.outcomes import (
    MISSED_HEARTBEATS,
    Anew,
    Cancelled,
    Done,
    Ending,
    Failing,
    Late,
    Settled,
    Superseded,
    Suspended,
    Told,
    broker_problem,
    first_error,
    own_error,
    refuses,
    silent_label,
)
from tercet.agents.runs.queues import JobQueues
from tercet.agents.runs.recovery import BUSY, RECOVERABLE, Attempts, choose_helper
from tercet.agents.runs.saved_state import Memory
from tercet.agents.runs.status import job_status
from tercet.agents.session.checkpoint_store import discard_checkpoints
from tercet.agents.session.context import JobContext
from tercet.agents.session.table_snapshot import KeptTable
from tercet.broker.interface.base import BrokerError, Delivery
from tercet.broker.interface.clock import loop_time
from tercet.schemas.messages.kinds import Failure, Job, JobStatus, Progress

__all__ = ["JobRun", "Services"]

FOUND = (  # of the status
    "table_rows", "rows", "held_out", "columns", "epoch", "step", "steps", "metrics", "loss", "held_out_loss",
    "worthless",
)  # fmt: skip
NEW = Memory()
REOPEN_BEATS = 10  # heartbeats after which queues that are not consumed are opened again
INQUIRE_BEATS = 5  # heartbeats between two inquiries after somebody who is not heard of


class JobRun:
    """A job at this party."""

    def __init__(
        self,
        job: Job,
        services: Services,
        submitted: str,
        changed: Callable[["JobRun"], None],
        memory: Memory = NEW,
    ) -> None:
        """A job just received, or one that an earlier life of the agent has left.

        `changed` is called at every change of state, to be written down.
        """
        self.job, self.submitted, self._services, self._changed = job, submitted, services, changed
        self.state, self.released, self._as_released = memory.state, memory.released, memory.status
        self.failure: Failure | None = None
        self.fault: Failure | None = None  # which ended the attempt before
        self.detail: str | None = None
        self.cancelled_by = ""
        self.model_part: Path | None = None
        self.scores: Path | None = None
        self.report: Path | None = None
        self.suspended = False  # until the agent's next life
        self.cleared = False  # no queue of the job is left at the broker
        settings = services.settings
        self.attempts = memory.attempts or Attempts(1, job.description.helper)
        self._taken_up = self.attempts.fruitless == 0  # by a person, after it had failed
        self.life, self._returns = max(int(time.time()), memory.life + 1), memory.life > 0
        self._log = structlog.get_logger()
        self._queues = JobQueues(services.broker, settings, job, self._deliver)
        self._heard_at = loop_time()
        self._last_wait = Report("", ())  # as it was when the end began
        self._waits_for_label = False  # for another attempt
        self._stopped = False  # the attempt, by an end of some kind
        self._ends = Ends(self._may_pass)
        self._tasks: list[asyncio.Task[None]] = []  # of the attempt
        self.voice = Voice(
            job,
            settings.party,
            settings.deadlines,
            self.life,
            progress=self._progress,
            ended=self._end,
            done=self._on_done,
            unknown=lambda party: services.announce(job, party),
            behind=self._resumed_at,
            noted=self._note_detail,
        )
        self.voice.hearing.begin(self.attempts.number)
        asks = settings.policy.approval and job.submitter != settings.party
        self.approval = Approval(settings.party, asks=asks, given_by=memory.approved)
        self.audit = JobAudit(job, settings, services.budget, services.log)
        self._table = KeptTable(job, settings)
        latest: Latest = {}
        self._hooks = Hooks(
            self.approval, self.audit, self._table, latest, self.voice.hear, self._problem, self._saved_everywhere
        )
        self._attempt = self.voice.attempt = self._make_attempt()

    def _make_attempt(self) -> Attempt:
        attempts = self.attempts
        return Attempt(self.job, self._services, attempts.number, attempts.helper, self._hooks)

    @property
    def context(self) -> JobContext:
        """Of the attempt that counts."""
        return self._attempt.context

    @property
    def role(self) -> AnyRole | None:
        """Of the attempt that counts."""
        return self._attempt.role

    # --- from the beginning to the end

    async def execute(self, ending: JobProblem | None = None) -> None:
        """Run the job to a terminal state; with `ending`, only tell the others why it cannot go on."""
        patience = self.context.deadline("release").seconds
        over: Ending = Suspended()
        logs.of_job(self.context.me, self.job.id, self.attempts.number, self.context.statistics)
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._heartbeat()), tasks.create_task(self._mind_queues())]
                over = await self._attempted(ending)
                await (self._suspend() if isinstance(over, Suspended) else self._conclude(over))
                for task in beside:
                    task.cancel()
        except asyncio.CancelledError:
            patience = 0.0  # the whole agent ends; its next life goes on, or clears what is left
            raise
        finally:
            await self._leave(patience, goes_on=isinstance(over, Suspended) and self._recovers)

    @property
    def _recovers(self) -> bool:
        """Whether a fault need not be a job's end at this party."""
        return self._services.settings.recovery.attempts > 1

    async def _attempted(self, ending: Ending | None) -> Ending:
        """Attempt after attempt, to the end of the last one."""
        if ending is not None:
            await self._open_queues()  # to hear the verdict
            return ending
        if self._returns:
            ending = await self._returned()
        while True:
            ending = ending or await self._one()
            while isinstance(ending, JobProblem | Late | Told) and self._may_pass(ending):
                ending = await self._recover(ending)
            if not isinstance(ending, Anew):
                return ending
            await self._begin_anew(ending)
            ending = None

    async def _one(self) -> Ending:
        """The attempt that counts."""
        logs.of_job(self.context.me, self.job.id, self.attempts.number, self.context.statistics)
        self._tasks = [asyncio.create_task(self._watch_outbox()), asyncio.create_task(self._work())]
        try:
            over, self._stopped = await self._ends.take(), True
        finally:
            for task in self._tasks:
                task.cancel()
        return over

    async def _left_off(self) -> None:
        """Return when the attempt's tasks have ended; a thread that writes may take its time, and the others know."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        try:
            await self._open_queues()
            self._end(Done(await self._attempt.work(self._enter)))
        except* JobProblem as group:
            self._problem(first_error(group))
        except* Overdue as group:
            overdue: Overdue = first_error(group)
            self._problem(self.voice.hearing.complain(self.context.me, overdue.deadline))
        except* BrokerError as group:
            self._problem(broker_problem(first_error(group), self.context.me))
        except* Exception:  # noqa: BLE001 - a bug of ours must not leave the others waiting
            self._own_error()

    def _own_error(self) -> None:
        self._log.exception("an error of our own")
        self._problem(own_error(self.context.me))

    def _problem(self, ending: Failing) -> None:
        """This party cannot go on with the attempt, if that is not over already."""
        if not self.context.mailbox.deaf:
            self._end(ending)

    def _end(self, ending: Ending) -> None:
        if not (self._ends.there or self._stopped):
            self._last_wait = self._wait()
        self._ends.put(ending)

    def _wait(self) -> Report:
        """What this party waits for now, or waited for when the end began."""
        mailbox = self.context.mailbox
        if self._waits_for_label:
            return Report("another attempt", (self.context.label,))
        if self._ends.there or self._stopped:
            return self._last_wait
        return Report(APPROVAL, ()) if self.approval.waiting else Report(mailbox.stage, mailbox.waits_for)

    def _enter(self, state: State) -> None:
        self.state = move(self.state, state)
        if state in {State.ALIGNED, State.RELEASED}:  # what an earlier attempt has released counts until then
            self.released, self._as_released = False, None
        if state == State.RELEASED:
            self.released, self._as_released = True, self.status()
        if state in {State.TRAINING, State.SCORING}:
            self.attempts.begun(self.context.first)
        self._log.info("state", state=state)
        self._changed(self)

    async def _open_queues(self) -> None:
        deadline = "accept" if self.state == State.RECEIVED else "recover"
        await self._queues.open(self.context.deadline(deadline).seconds)

    async def _mind_queues(self) -> None:
        """Open them again where nothing comes in though the broker is there: else nobody could end the job here."""
        deadlines, tried = self._services.settings.deadlines, 0.0
        while True:
            await asyncio.sleep(deadlines.heartbeat)
            if self._queues.heard:
                self._heard_at = loop_time()
            elif loop_time() - max(self._heard_at, tried) > REOPEN_BEATS * deadlines.heartbeat:
                tried = loop_time()
                self._log.error("the job's queues are not consumed, and are opened again", seconds=self.unheard)
                try:
                    await self._queues.reopen(deadlines.heartbeat)
                except BrokerError as error:
                    self._log.warning("the job's queues cannot be opened", why=str(error))

    @property
    def unheard(self) -> float:
        """Seconds for which nothing has come in from the job's queues though the broker was there."""
        over = self.suspended or self.state in TERMINAL
        return 0.0 if over else loop_time() - self._heard_at

    async def _deliver(self, delivery: Delivery) -> None:
        await self.context.mailbox.deliver(delivery)

    async def _leave(self, patience: float, *, goes_on: bool) -> None:
        """Give back what the job had: queues, consumers, the thread. What goes on in a later life keeps its queues."""
        try:
            await self._attempt.fall_silent()
            await self._queues.leave()
            if not goes_on:
                await self._queues.clear(patience)
                self.cleared = True
        except BrokerError as error:
            self._log.warning("queues are left at the broker", why=str(error))
        finally:
            await self._left_off()
            await self._attempt.leave()
            if not goes_on:
                self._forget()

    def _forget(self) -> None:
        """Remove what only another attempt would need."""
        discard(unreleased(self.context))  # if it was not kept
        self._table.forget()
        if self.state != State.DONE and self.job.description.kind == "training":
            model_of(self._services.settings.state, self.job).discard()  # which is not kept here, so nothing is scored
        if self.state != State.FAILED or not self._recovers:
            discard_checkpoints(self._services.settings.state, self.job.id)

    # --- after a fault

    def _may_pass(self, ending: Ending) -> bool:
        """Whether a fault need not be the end: for the label party to decide, whom the others wait for."""
        if not self._recovers or not isinstance(ending, JobProblem | Late | Told):
            return False
        if isinstance(ending, Told) and ending.failure.verdict:
            return False
        if not self.context.leads and isinstance(ending, Late):
            return True
        failure = self.voice.judgement(ending, self._wait(), self.state)
        last = isinstance(ending, Late) and ending.deadline in {"recover", "approve"}
        if not self.context.leads:
            return failure.code in RECOVERABLE | {BUSY}
        return not last and self.attempts.may_follow(failure.code, self._services.settings.recovery.attempts)

    async def _returned(self) -> Ending:
        """An earlier life was at work on it; what an earlier attempt has left in the queues is of no use."""
        me = self.context.me
        logs.of_job(me, self.job.id, self.attempts.number, self.context.statistics)
        self.context.mailbox.deaf = True
        try:
            await self._open_queues()
        except BrokerError as error:
            return broker_problem(error, me)
        if self.attempts.fruitless:  # else it is taken up again, and who is yet to hear that would say that it failed
            self._inquire(self.context.others)
        return JobProblem("agent.restarted", me, f"{me}'s agent was restarted while the job ran")

    async def _recover(self, ending: Failing) -> Ending:
        """What follows a fault that may pass: another attempt, as a rule."""
        failure = self.voice.judgement(ending, self._wait(), self.state)
        self.fault = failure
        self._log.warning("attempt is over", **failure.model_dump(exclude={"verdict"}))
        self._give_up_attempt()
        if self.context.leads:
            return await self._decide_anew()
        await self.voice.tell(failure.model_copy(update={"verdict": False}), required=False)
        await self.voice.beat()
        self._waits_for_label = True
        try:
            return await self._hear_anew()
        finally:
            self._waits_for_label = False

    def _give_up_attempt(self) -> None:
        """Nothing of it is taken in any more; another follows, in this life or the next."""
        self.context.mailbox.deaf = True
        if self.state not in {State.RECEIVED, State.RECOVERING}:
            self._enter(State.RECOVERING)

    async def _decide_anew(self) -> Ending:
        """The label party's part: after a pause, or when something else ends the job."""
        over = await self._ends.take_within(self.attempts.pause)
        if over is not None:
            return over
        now = self.attempts.helper
        helper = choose_helper(self.job.description.helpers, self.voice.hearing.reports(), now)
        return Anew(self.attempts.number + 1, helper)

    async def _hear_anew(self) -> Ending:
        """The others' part: wait for the label party, as long as that is heard of or may come back."""
        label, deadlines, since = self.context.label, self._services.settings.deadlines, loop_time()
        for beat in count(1):
            over = await self._ends.take_within(deadlines.heartbeat)
            if over is not None:
                return over
            silence = min(self.voice.hearing.silence(label), loop_time() - since)
            if silence > deadlines.recover:
                return Settled(silent_label(label).failure(str(self.state), verdict=False))
            if silence > MISSED_HEARTBEATS * deadlines.heartbeat and beat % INQUIRE_BEATS == 0:
                self._inquire(self.context.others)
        raise AssertionError

    async def _begin_anew(self, anew: Anew) -> None:
        old = self._attempt
        self._give_up_attempt()
        await self._left_off()
        await old.leave()
        self._ends.pass_over(anew.attempt)
        self.attempts.number, self.attempts.helper = anew.attempt, anew.helper
        self.voice.hearing.begin(anew.attempt)
        self._attempt = self.voice.attempt = self._make_attempt()
        self._stopped = False
        self._changed(self)  # the number is on the disk before anybody hears it
        self._log.info("attempt begins", number=anew.attempt, helper=anew.helper)
        await old.fall_silent()
        await self.voice.beat()

    def _note_detail(self, detail: str) -> None:
        self.detail = detail

    def _resumed_at(self, party: str) -> bool:
        """At the label party, of a run that a person has taken up again: a party was away when all were told."""
        if not (self._taken_up and self.context.leads):
            return False
        self._services.resume(self.job, party)
        return True

    def _inquire(self, parties: Iterable[str]) -> None:
        """Ask agents that are not at work on the job any more how it ended."""
        for party in parties:
            self._services.inquire(self.job, party)

    def _saved_everywhere(self) -> int:
        own = self.context.statistics.checkpoint
        return own if all(own == theirs for theirs in self.voice.hearing.checkpoints(self.context.partners)) else -1

    async def _suspend(self) -> None:
        """The agent leaves, and its next life goes on; the others need not find out by a deadline."""
        self.suspended = True
        self._give_up_attempt()
        await self.voice.beat()
        await self.voice.drain("verdict")

    # --- what others say, and what we say of ourselves

    def _on_done(self, sender: str) -> None:
        """A party is done only when all have released; a helper has nothing to release, and another may have helped."""
        idle = self._services.settings.role == "helper" and self.state in {State.RECEIVED, State.RECOVERING}
        if self.released or (sender == self.context.label and idle):
            folder = unreleased(self.context)
            self._end(Done(folder if folder.is_dir() else None))

    async def _heartbeat(self) -> None:
        deadlines = self._services.settings.deadlines
        for beat in count(1):
            await self.voice.beat()
            await asyncio.sleep(deadlines.heartbeat)
            if not self.context.leads:
                self._mind_the_label(beat)
            elif self.attempts.number > 1 and self.state in {State.RECEIVED, State.RECOVERING}:
                if beat % INQUIRE_BEATS == 0:
                    self._inquire(self.voice.hearing.silent(self.context.others))
                self._take_over()

    def _mind_the_label(self, beat: int) -> None:
        """At the others: the label party's last word may be lost, and who stands by waits for nobody to be late."""
        deadlines, label = self._services.settings.deadlines, self.context.label
        silence = self.voice.hearing.silence(label)
        if self._recovers and silence > MISSED_HEARTBEATS * deadlines.heartbeat and beat % INQUIRE_BEATS == 0:
            self._inquire([label])
        if not self._attempt.takes_part and silence > deadlines.recover:
            self._end(Settled(silent_label(label).failure(str(self.state), verdict=False)))

    def _take_over(self) -> None:
        """At the label party: another helper takes the place of one that does not come back."""
        helper, takeover = self.attempts.helper, self._services.settings.deadlines.takeover
        if not self.context.mailbox.deaf and self.voice.hearing.silence(helper) > takeover:
            other = choose_helper(self.job.description.helpers, self.voice.hearing.reports(), helper)
            if other != helper:
                self._end(Anew(self.attempts.number + 1, other))

    def _progress(self) -> Progress:
        statistics, wait = self.context.statistics, self._wait()
        return Progress(
            state=self.state,
            epoch=statistics.epoch,
            step=statistics.step,
            steps=statistics.steps,
            stage=wait.stage[:64],
            waits_for=wait.waits_for,
            interval=self._services.settings.deadlines.heartbeat,
            overdue=self.voice.hearing.overdue.get(self.context.me),
            checkpoint=statistics.checkpoint,
            helper=self.attempts.helper,
            lost=self.context.mailbox.deaf,
        )

    async def _watch_outbox(self) -> None:
        try:
            await asyncio.shield(self._attempt.outbox.failed)
        except BrokerError as error:
            self._problem(broker_problem(error, self.context.me))
        except Exception:  # noqa: BLE001 - as in `_work`
            self._own_error()

    # --- how it ends

    async def _conclude(self, over: Ending) -> None:
        self._enter(await self._settle(over))
        if self.state == State.DONE:  # and stays so if the page fails, or the agent is killed while it is made
            await self.voice.beat()  # to helpers that stand by, and to whoever still waits for one that hangs since
            self.report = await reported(self.context, self.role, self.model_part)
            await self.voice.drain("release")

    async def _settle(self, ending: Ending) -> State:
        """Tell the others; the state that the job ends in."""
        if isinstance(ending, Done) and ending.folder is not None:
            try:
                ending = Done(kept(ending.folder, self.context.me))
            except JobProblem as problem:
                ending = problem
        match ending:
            case JobProblem() | Late() | Told() | Settled():
                refusal = await self._refusal(ending)
                self.detail = next(
                    (one.detail for one in (ending, refusal) if isinstance(one, JobProblem)), self.detail
                )
                self.failure = await self.voice.judge(ending, self._wait(), self.state, refusal)
                self._log.error("job failed", **self.failure.model_dump(exclude={"verdict"}), detail=self.detail)
                return State.FAILED
            case Cancelled():
                self.cancelled_by = ending.by
                self._log.warning("job cancelled", by=ending.by)
                await self.voice.cancel(ending)
                return State.CANCELLED
            case Done():
                self._note_kept(ending.folder)
                await self.voice.drain("release")
                return State.DONE
            case _:
                self._log.info("another run of this job has precedence")
                return State.CANCELLED

    async def _refusal(self, ending: Failing) -> JobProblem | None:
        """What this party does not let the job in for, though another one's refusal has come first."""
        if not (isinstance(ending, Told) and refuses(ending.failure)):
            return None
        try:
            async with asyncio.timeout(self._services.settings.deadlines.verdict / 2):
                return await self._attempt.refusal()
        except TimeoutError:
            return None

    def _note_kept(self, folder: Path | None) -> None:
        if folder is not None and self.job.description.kind == "prediction":
            self.scores = next(folder.glob("scores.*"))
        else:
            self.model_part = folder

    # --- from outside

    def cancel(self) -> None:
        """A person at this party wants it off."""
        self._end(Cancelled(self.context.me, here=True))

    def approve(self, who: str) -> None:
        """A person at this party lets the job in, in this and every later attempt."""
        self.approval.approve(who)
        self._changed(self)

    def stop(self, problem: JobProblem) -> None:
        """This agent cannot go on with it."""
        self._end(problem)

    def suspend(self, problem: JobProblem) -> None:
        """This agent leaves; the job waits for its next life, if it may."""
        self._end(Suspended() if self._recovers else problem)

    def give_up(self) -> None:
        """An error of ours kept the job from ending in order; it has failed here."""
        if self.state not in TERMINAL:
            self._table.forget()
            self.failure = own_error(self.context.me).failure(self.state, verdict=False)
            self.state = State.FAILED

    def supersede(self) -> None:
        """Another run of the same job takes this one's place; nobody needs to be told."""
        self._end(Superseded())

    @property
    def may_yield(self) -> bool:
        """Whether another run could still take this one's place: not all parties have agreed to it yet."""
        return self.attempts.number == 1 and self.state in {State.RECEIVED, State.ACCEPTED, State.READY}

    def _whom(self) -> tuple[str, ...]:
        """The parties at which the waiting ends; our own wait where all wait for one another for a moment."""
        own, me = self._wait(), self.context.me
        if self.state in TERMINAL or not own.waits_for:
            return ()
        return tuple(culprits(self.voice.hearing.reports() | {me: own}, me)) or own.waits_for

    @property
    def in_flight(self) -> dict[str, int]:
        """Bytes that are sent and not yet confirmed, by lane."""
        return self._attempt.outbox.in_flight

    def status(self) -> JobStatus:
        """What this party knows of the job."""
        told = {
            "submitted": self.submitted,
            "approval": APPROVAL if self.approval.waiting else self.approval.given_by,
            "attempt": self.attempts.number,
            "helper": self.attempts.helper,
            "waits_for": self._whom(),
            "failure": self.failure,
            "fault": self.fault,
            "checkpoint": self.context.statistics.checkpoint,
            "detail": self.detail,
            "cancelled_by": self.cancelled_by,
            "model_part": str(self.model_part) if self.model_part else None,
            "scores": str(self.scores) if self.scores else None,
            "report": str(self.report) if self.report else None,
        }
        heard = {self.context.me: (loop_time(), self._progress()), **self.voice.hearing.heard}
        if self.released and self._as_released is not None:  # nor does this attempt know it, if that is another
            told |= {name: getattr(self._as_released, name) for name in FOUND}
        return job_status(self.context, self.state, heard).model_copy(update=told)
