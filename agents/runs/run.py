"""Runs one job at one party from acceptance to end: attempts, heartbeat, queues, outcome.

It ends in exactly one terminal state, with the same reason at every party. The label party's verdict counts. Where the
label party is silent, each party follows the chain of who waits for whom by itself. After a recoverable fault the label
party begins another attempt, which its heartbeats tell.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import structlog

from tercet.agents.alignment.scored_ids import model_of
from tercet.agents.core import logs
from tercet.agents.core.problems import DeadlinePassed, JobProblem
from tercet.agents.core.states import APPROVAL, TERMINAL, State, move
from tercet.agents.messaging.inbox import Latest
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.reports.build import try_write_report
from tercet.agents.roles.release import discard, hidden_folder, keep_result
from tercet.agents.runs.attempt import AnyRole, Attempt, Hooks, Services
from tercet.agents.runs.blame import Report, culprits
from tercet.agents.runs.control_channel import ControlChannel
from tercet.agents.runs.outcome_slot import OutcomeSlot
from tercet.agents.runs.outcomes import (
    MISSED_HEARTBEATS,
    Cancelled,
    DeadlineMissed,
    Done,
    FinalFailure,
    RemoteFailure,
    Restart,
    RunFailure,
    RunOutcome,
    Superseded,
    Suspended,
    broker_problem,
    first_error,
    is_refusal,
    own_error,
    silent_label_party,
)
from tercet.agents.runs.queues import JobQueues
from tercet.agents.runs.recovery import BUSY, RECOVERABLE, Attempts, choose_helper
from tercet.agents.runs.saved_state import SavedRun
from tercet.agents.runs.status import job_status
from tercet.agents.session.checkpoint_store import discard_checkpoints
from tercet.agents.session.context import JobContext
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.broker.interface.base import BrokerError, Delivery
from tercet.broker.interface.clock import loop_time
from tercet.schemas.messages.kinds import Failure, Job, JobStatus, Progress

__all__ = ["JobRun", "Services"]

RESULT_FIELDS = (  # of the status
    "table_rows", "rows", "held_out", "columns", "epoch", "step", "steps", "metrics", "loss", "held_out_loss",
    "worthless",
)  # fmt: skip
NEW_RUN = SavedRun()
REOPEN_BEATS = 10  # heartbeats after which queues that are not consumed are opened again
INQUIRE_BEATS = 5  # heartbeats between two inquiries after somebody who is not heard of


class JobRun:
    """Runs a job at this party."""

    def __init__(
        self,
        job: Job,
        services: Services,
        submitted: str,
        changed: Callable[["JobRun"], None],
        saved: SavedRun = NEW_RUN,
    ) -> None:
        """Set up a new job, or one that an earlier life of the agent has left.

        `changed` is called at every change of state, to be written down.
        """
        self.job, self.submitted, self._services, self._changed = job, submitted, services, changed
        self.state, self.released, self._released_status = saved.state, saved.released, saved.status
        self.failure: Failure | None = None
        self.fault: Failure | None = None  # which ended the last attempt
        self.detail: str | None = None
        self.cancelled_by = ""
        self.model_part: Path | None = None
        self.scores: Path | None = None
        self.report: Path | None = None
        self.is_suspended = False  # until the agent's next life
        self.queues_deleted = False  # no queue of the job is left at the broker
        settings = services.settings
        self.attempts = saved.attempts or Attempts(1, job.description.helper)
        self._is_resumed = self.attempts.fruitless == 0  # by a person, after it had failed
        self.life, self._is_recalled = max(int(time.time()), saved.life + 1), saved.life > 0
        self._log = structlog.get_logger()
        self._queues = JobQueues(services.broker, settings, job, self._deliver)
        self._last_consumed = loop_time()
        self._last_wait = Report("", ())  # as it was when the end began
        self._waits_for_label = False  # for another attempt
        self._attempt_over = False  # the attempt, by an end of some kind
        self._outcomes = OutcomeSlot(self._is_recoverable)
        self._tasks: list[asyncio.Task[None]] = []  # of the attempt
        self.channel = self._make_channel()
        self.channel.peers.start_attempt(self.attempts.number)
        asks = settings.policy.approval and job.submitter != settings.party
        self.approval = Approval(settings.party, is_required=asks, approved_by=saved.approved)
        self.audit = JobAudit(job, settings, services.budget, services.log)
        self._snapshots = SnapshotStore(job, settings)
        latest: Latest = {}
        self._hooks = Hooks(
            self.approval,
            self.audit,
            self._snapshots,
            latest,
            self.channel.handle_message,
            self._report_problem,
            self._common_checkpoint,
        )
        self._attempt = self.channel.attempt = self._make_attempt()

    def _make_channel(self) -> ControlChannel:
        settings, announce = self._services.settings, self._services.announce
        return ControlChannel(
            self.job,
            settings.party,
            settings.deadlines,
            self.life,
            current_progress=self._progress,
            on_outcome=self._put_outcome,
            on_done=self._on_done,
            on_unknown=lambda party: announce(self.job, party),
            on_stale_failure=self._resend_resumption,
            on_note=self._note_detail,
        )

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

    async def execute(self, outcome: JobProblem | None = None) -> None:
        """Run the job to a terminal state; with `outcome`, only tell the others of it."""
        patience = self.context.deadline("release").seconds
        result: RunOutcome = Suspended()
        logs.bind_job(self.context.me, self.job.id, self.attempts.number, self.context.statistics)
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._send_heartbeats()), tasks.create_task(self._watch_queues())]
                result = await self._run_attempts(outcome)
                await (self._suspend() if isinstance(result, Suspended) else self._conclude(result))
                for task in beside:
                    task.cancel()
        except asyncio.CancelledError:
            patience = 0.0  # the whole agent ends; its next life goes on, or clears what is left
            raise
        finally:
            await self._release_resources(patience, goes_on=isinstance(result, Suspended) and self._recovers)

    @property
    def _recovers(self) -> bool:
        """Tell whether a fault need not be a job's end at this party."""
        return self._services.settings.recovery.attempts > 1

    async def _run_attempts(self, outcome: RunOutcome | None) -> RunOutcome:
        """Run attempt after attempt, to the end of the last one."""
        if outcome is not None:
            await self._open_queues()  # to hear the verdict
            return outcome
        if self._is_recalled:
            outcome = await self._prepare_recalled()
        while True:
            outcome = outcome or await self._run_attempt()
            while isinstance(outcome, JobProblem | DeadlineMissed | RemoteFailure) and self._is_recoverable(outcome):
                outcome = await self._recover(outcome)
            if not isinstance(outcome, Restart):
                return outcome
            await self._restart(outcome)
            outcome = None

    async def _run_attempt(self) -> RunOutcome:
        """Run the current attempt."""
        logs.bind_job(self.context.me, self.job.id, self.attempts.number, self.context.statistics)
        self._tasks = [asyncio.create_task(self._watch_outbox()), asyncio.create_task(self._run_work())]
        try:
            outcome, self._attempt_over = await self._outcomes.take_outcome(), True
        finally:
            for task in self._tasks:
                task.cancel()
        return outcome

    async def _join_tasks(self) -> None:
        """Wait until the attempt's tasks have ended; a writing thread may take a while."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run_work(self) -> None:
        try:
            await self._open_queues()
            self._put_outcome(Done(await self._attempt.run(self._enter_state)))
        except* JobProblem as group:
            self._report_problem(first_error(group))
        except* DeadlinePassed as group:
            overdue: DeadlinePassed = first_error(group)
            self._report_problem(self.channel.peers.note_missed_deadline(self.context.me, overdue.deadline))
        except* BrokerError as group:
            self._report_problem(broker_problem(first_error(group), self.context.me))
        except* Exception:  # noqa: BLE001 - a bug of ours must not leave the others waiting
            self._report_own_error()

    def _report_own_error(self) -> None:
        self._log.exception("an error of our own")
        self._report_problem(own_error(self.context.me))

    def _report_problem(self, outcome: RunFailure) -> None:
        """Put an outcome that this party has found, unless the attempt is over already."""
        if not self.context.mailbox.closed:
            self._put_outcome(outcome)

    def _put_outcome(self, outcome: RunOutcome) -> None:
        if not (self._outcomes.is_filled or self._attempt_over):
            self._last_wait = self._current_wait()
        self._outcomes.put(outcome)

    def _current_wait(self) -> Report:
        """Report whom this party waits for, or waited for when the end began."""
        mailbox = self.context.mailbox
        if self._waits_for_label:
            return Report("another attempt", (self.context.label,))
        if self._outcomes.is_filled or self._attempt_over:
            return self._last_wait
        return Report(APPROVAL, ()) if self.approval.is_waiting else Report(mailbox.stage, mailbox.waits_for)

    def _enter_state(self, state: State) -> None:
        self.state = move(self.state, state)
        if state in {State.ALIGNED, State.RELEASED}:  # what an earlier attempt has released counts until then
            self.released, self._released_status = False, None
        if state == State.RELEASED:
            self.released, self._released_status = True, self.status()
        if state in {State.TRAINING, State.SCORING}:
            self.attempts.note_progress(self.context.first_step)
        self._log.info("state", state=state)
        self._changed(self)

    async def _open_queues(self) -> None:
        deadline = "accept" if self.state == State.RECEIVED else "recover"
        await self._queues.open(self.context.deadline(deadline).seconds)

    async def _watch_queues(self) -> None:
        """Reopen queues that deliver nothing though the broker is there."""
        deadlines, tried = self._services.settings.deadlines, 0.0
        while True:
            await asyncio.sleep(deadlines.heartbeat)
            if self._queues.are_consumed:
                self._last_consumed = loop_time()
            elif loop_time() - max(self._last_consumed, tried) > REOPEN_BEATS * deadlines.heartbeat:
                tried = loop_time()
                self._log.error(
                    "the job's queues are not consumed, and are opened again", seconds=self.seconds_unconsumed
                )
                try:
                    await self._queues.reopen(deadlines.heartbeat)
                except BrokerError as error:
                    self._log.warning("the job's queues cannot be opened", why=str(error))

    @property
    def seconds_unconsumed(self) -> float:
        """Seconds for which nothing has come in from the job's queues though the broker was there."""
        over = self.is_suspended or self.state in TERMINAL
        return 0.0 if over else loop_time() - self._last_consumed

    async def _deliver(self, delivery: Delivery) -> None:
        await self.context.mailbox.deliver(delivery)

    async def _release_resources(self, patience: float, *, goes_on: bool) -> None:
        """Give back queues, consumers and thread; a suspended job keeps its queues."""
        try:
            await self._attempt.close_outbox()
            await self._queues.cancel_consumers()
            if not goes_on:
                await self._queues.delete_queues(patience)
                self.queues_deleted = True
        except BrokerError as error:
            self._log.warning("queues are left at the broker", why=str(error))
        finally:
            await self._join_tasks()
            await self._attempt.release_resources()
            if not goes_on:
                self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove what only another attempt would need."""
        discard(hidden_folder(self.context))  # if it was not kept
        self._snapshots.discard()
        if self.state != State.DONE and self.job.description.kind == "training":
            model_of(self._services.settings.state, self.job).discard()  # which is not kept here, so nothing is scored
        if self.state != State.FAILED or not self._recovers:
            discard_checkpoints(self._services.settings.state, self.job.id)

    # --- after a fault

    def _is_recoverable(self, outcome: RunOutcome) -> bool:
        """Tell whether another attempt may follow a fault; the label party decides."""
        if not self._recovers or not isinstance(outcome, JobProblem | DeadlineMissed | RemoteFailure):
            return False
        if isinstance(outcome, RemoteFailure) and outcome.failure.verdict:
            return False
        if not self.context.is_label_party and isinstance(outcome, DeadlineMissed):
            return True
        failure = self.channel.diagnose(outcome, self._current_wait(), self.state)
        last = isinstance(outcome, DeadlineMissed) and outcome.deadline in {"recover", "approve"}
        if not self.context.is_label_party:
            return failure.code in RECOVERABLE | {BUSY}
        return not last and self.attempts.may_follow(failure.code, self._services.settings.recovery.attempts)

    async def _prepare_recalled(self) -> RunOutcome:
        """Open the queues of a recalled run, and report the restart."""
        me = self.context.me
        logs.bind_job(me, self.job.id, self.attempts.number, self.context.statistics)
        self.context.mailbox.closed = True
        try:
            await self._open_queues()
        except BrokerError as error:
            return broker_problem(error, me)
        if self.attempts.fruitless:  # after `resume`, do not ask: a party that has not heard yet would answer FAILED
            self._inquire(self.context.others)
        return JobProblem("agent.restarted", me, f"{me}'s agent was restarted while the job ran")

    async def _recover(self, outcome: RunFailure) -> RunOutcome:
        """Give up the attempt after a fault; return the next outcome, a restart as a rule."""
        failure = self.channel.diagnose(outcome, self._current_wait(), self.state)
        self.fault = failure
        self._log.warning("attempt is over", **failure.model_dump(exclude={"verdict"}))
        self._abandon_attempt()
        if self.context.is_label_party:
            return await self._choose_restart()
        await self.channel.send_to_all(failure.model_copy(update={"verdict": False}), required=False)
        await self.channel.send_heartbeat()
        self._waits_for_label = True
        try:
            return await self._await_restart()
        finally:
            self._waits_for_label = False

    def _abandon_attempt(self) -> None:
        """Refuse all further messages of this attempt; another one follows."""
        self.context.mailbox.closed = True
        if self.state not in {State.RECEIVED, State.RECOVERING}:
            self._enter_state(State.RECOVERING)

    async def _choose_restart(self) -> RunOutcome:
        """Choose the next attempt and helper at the label party, after a pause."""
        outcome = await self._outcomes.take_final_within(self.attempts.pause)
        if outcome is not None:
            return outcome
        current = self.attempts.helper
        helper = choose_helper(self.job.description.helpers, self.channel.peers.reports(), current)
        return Restart(self.attempts.number + 1, helper)

    async def _await_restart(self) -> RunOutcome:
        """Wait for the label party's restart, as long as it is heard of or may come back."""
        label, deadlines, since = self.context.label, self._services.settings.deadlines, loop_time()
        for beat in count(1):
            outcome = await self._outcomes.take_final_within(deadlines.heartbeat)
            if outcome is not None:
                return outcome
            silence = min(self.channel.peers.seconds_silent(label), loop_time() - since)
            if silence > deadlines.recover:
                return FinalFailure(silent_label_party(label).failure(str(self.state), verdict=False))
            if silence > MISSED_HEARTBEATS * deadlines.heartbeat and beat % INQUIRE_BEATS == 0:
                self._inquire(self.context.others)
        raise AssertionError

    async def _restart(self, restart: Restart) -> None:
        old = self._attempt
        self._abandon_attempt()
        await self._join_tasks()
        await old.release_resources()
        self._outcomes.drop_stale(restart.attempt)
        self.attempts.number, self.attempts.helper = restart.attempt, restart.helper
        self.channel.peers.start_attempt(restart.attempt)
        self._attempt = self.channel.attempt = self._make_attempt()
        self._attempt_over = False
        self._changed(self)  # the number is on the disk before anybody hears it
        self._log.info("attempt begins", number=restart.attempt, helper=restart.helper)
        await old.close_outbox()
        await self.channel.send_heartbeat()

    def _note_detail(self, detail: str) -> None:
        self.detail = detail

    def _resend_resumption(self, party: str) -> bool:
        """Repeat a resumption, at the label party, to a party that was away.

        Tell whether the run is such a one.
        """
        if not (self._is_resumed and self.context.is_label_party):
            return False
        self._services.resume(self.job, party)
        return True

    def _inquire(self, parties: Iterable[str]) -> None:
        """Ask agents that are not at work on the job any more how it ended."""
        for party in parties:
            self._services.inquire(self.job, party)

    def _common_checkpoint(self) -> int:
        own = self.context.statistics.checkpoint
        return (
            own if all(own == theirs for theirs in self.channel.peers.checkpoint_steps(self.context.partners)) else -1
        )

    async def _suspend(self) -> None:
        """Tell the others that the agent leaves, so that no deadline has to pass."""
        self.is_suspended = True
        self._abandon_attempt()
        await self.channel.send_heartbeat()
        await self.channel.drain_outbox("verdict")

    # --- messages of the others, and our own heartbeat

    def _on_done(self, sender: str) -> None:
        """End the job when a party is done: then all have released.

        A helper has nothing to release, and another one may have helped.
        """
        idle = self._services.settings.role == "helper" and self.state in {State.RECEIVED, State.RECOVERING}
        if self.released or (sender == self.context.label and idle):
            folder = hidden_folder(self.context)
            self._put_outcome(Done(folder if folder.is_dir() else None))

    async def _send_heartbeats(self) -> None:
        deadlines = self._services.settings.deadlines
        for beat in count(1):
            await self.channel.send_heartbeat()
            await asyncio.sleep(deadlines.heartbeat)
            if not self.context.is_label_party:
                self._watch_label_party(beat)
            elif self.attempts.number > 1 and self.state in {State.RECEIVED, State.RECOVERING}:
                if beat % INQUIRE_BEATS == 0:
                    self._inquire(self.channel.peers.silent_parties(self.context.others))
                self._replace_silent_helper()

    def _watch_label_party(self, beat: int) -> None:
        """Ask for the outcome when the label party is silent; its last word may be lost.

        A helper that stands by waits for nobody, so it fails by itself.
        """
        deadlines, label = self._services.settings.deadlines, self.context.label
        silence = self.channel.peers.seconds_silent(label)
        if self._recovers and silence > MISSED_HEARTBEATS * deadlines.heartbeat and beat % INQUIRE_BEATS == 0:
            self._inquire([label])
        if not self._attempt.takes_part and silence > deadlines.recover:
            self._put_outcome(FinalFailure(silent_label_party(label).failure(str(self.state), verdict=False)))

    def _replace_silent_helper(self) -> None:
        """Replace a helper that does not come back, at the label party."""
        helper, takeover = self.attempts.helper, self._services.settings.deadlines.takeover
        if not self.context.mailbox.closed and self.channel.peers.seconds_silent(helper) > takeover:
            other = choose_helper(self.job.description.helpers, self.channel.peers.reports(), helper)
            if other != helper:
                self._put_outcome(Restart(self.attempts.number + 1, other))

    def _progress(self) -> Progress:
        statistics, wait = self.context.statistics, self._current_wait()
        return Progress(
            state=self.state,
            epoch=statistics.epoch,
            step=statistics.step,
            steps=statistics.steps,
            stage=wait.stage[:64],
            waits_for=wait.waits_for,
            interval=self._services.settings.deadlines.heartbeat,
            overdue=self.channel.peers.overdue.get(self.context.me),
            checkpoint=statistics.checkpoint,
            helper=self.attempts.helper,
            lost=self.context.mailbox.closed,
        )

    async def _watch_outbox(self) -> None:
        try:
            await asyncio.shield(self._attempt.outbox.failed)
        except BrokerError as error:
            self._report_problem(broker_problem(error, self.context.me))
        except Exception:  # noqa: BLE001 - as in `_run_work`
            self._report_own_error()

    # --- how it ends

    async def _conclude(self, outcome: RunOutcome) -> None:
        self._enter_state(await self._settle_outcome(outcome))
        if self.state == State.DONE:  # and stays so if the page fails, or the agent is killed while it is made
            await (
                self.channel.send_heartbeat()
            )  # to helpers that stand by, and to whoever still waits for one that hangs since
            self.report = await try_write_report(self.context, self.role, self.model_part)
            await self.channel.drain_outbox("release")

    async def _settle_outcome(self, outcome: RunOutcome) -> State:
        """Tell the others of the outcome; return the job's last state."""
        if isinstance(outcome, Done) and outcome.folder is not None:
            try:
                outcome = Done(keep_result(outcome.folder, self.context.me))
            except JobProblem as problem:
                outcome = problem
        match outcome:
            case JobProblem() | DeadlineMissed() | RemoteFailure() | FinalFailure():
                refusal = await self._own_refusal(outcome)
                self.detail = next(
                    (one.detail for one in (outcome, refusal) if isinstance(one, JobProblem)), self.detail
                )
                self.failure = await self.channel.agree_on_failure(outcome, self._current_wait(), self.state, refusal)
                self._log.error("job failed", **self.failure.model_dump(exclude={"verdict"}), detail=self.detail)
                return State.FAILED
            case Cancelled():
                self.cancelled_by = outcome.by
                self._log.warning("job cancelled", by=outcome.by)
                await self.channel.send_cancel(outcome)
                return State.CANCELLED
            case Done():
                self._note_results(outcome.folder)
                await self.channel.drain_outbox("release")
                return State.DONE
            case _:
                self._log.info("another run of this job has precedence")
                return State.CANCELLED

    async def _own_refusal(self, outcome: RunFailure) -> JobProblem | None:
        """Give this party's own refusal, though another one's has come first."""
        if not (isinstance(outcome, RemoteFailure) and is_refusal(outcome.failure)):
            return None
        try:
            async with asyncio.timeout(self._services.settings.deadlines.verdict / 2):
                return await self._attempt.own_refusal()
        except TimeoutError:
            return None

    def _note_results(self, folder: Path | None) -> None:
        if folder is not None and self.job.description.kind == "prediction":
            self.scores = next(folder.glob("scores.*"))
        else:
            self.model_part = folder

    # --- from outside

    def cancel(self) -> None:
        """Cancel the job for a person at this party."""
        self._put_outcome(Cancelled(self.context.me, here=True))

    def approve(self, who: str) -> None:
        """Approve the job for a person at this party, in this and every later attempt."""
        self.approval.approve(who)
        self._changed(self)

    def stop(self, problem: JobProblem) -> None:
        """End the job with a problem of this agent."""
        self._put_outcome(problem)

    def suspend(self, problem: JobProblem) -> None:
        """Suspend the job until the agent's next life, if it may wait; else end it."""
        self._put_outcome(Suspended() if self._recovers else problem)

    def mark_failed(self) -> None:
        """Mark the job as failed after an error of ours, if it has not ended in order."""
        if self.state not in TERMINAL:
            self._snapshots.discard()
            self.failure = own_error(self.context.me).failure(self.state, verdict=False)
            self.state = State.FAILED

    def supersede(self) -> None:
        """End this run in favour of another one of the same job; nobody is told."""
        self._put_outcome(Superseded())

    @property
    def may_yield(self) -> bool:
        """Tell whether another run could still take its place: not all have agreed to it."""
        return self.attempts.number == 1 and self.state in {State.RECEIVED, State.ACCEPTED, State.READY}

    def _blocking_parties(self) -> tuple[str, ...]:
        """List the parties where waiting ends; our own wait while all wait in a circle."""
        own, me = self._current_wait(), self.context.me
        if self.state in TERMINAL or not own.waits_for:
            return ()
        return tuple(culprits(self.channel.peers.reports() | {me: own}, me)) or own.waits_for

    @property
    def in_flight(self) -> dict[str, int]:
        """Bytes that are sent and not yet confirmed, by lane."""
        return self._attempt.outbox.in_flight

    def status(self) -> JobStatus:
        """Give this party's view of the job."""
        fields = {
            "submitted": self.submitted,
            "approval": APPROVAL if self.approval.is_waiting else self.approval.approved_by,
            "attempt": self.attempts.number,
            "helper": self.attempts.helper,
            "waits_for": self._blocking_parties(),
            "failure": self.failure,
            "fault": self.fault,
            "checkpoint": self.context.statistics.checkpoint,
            "detail": self.detail,
            "cancelled_by": self.cancelled_by,
            "model_part": str(self.model_part) if self.model_part else None,
            "scores": str(self.scores) if self.scores else None,
            "report": str(self.report) if self.report else None,
        }
        last_progress = {self.context.me: (loop_time(), self._progress()), **self.channel.peers.last_progress}
        if self.released and self._released_status is not None:  # a later attempt does not know these results
            fields |= {name: getattr(self._released_status, name) for name in RESULT_FIELDS}
        return job_status(self.context, self.state, last_progress).model_copy(update=fields)
