"""Shows one run of a job to the rest of the agent: its status, and what may be asked of it."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from tercet.agents.alignment.scored_ids import model_of
from tercet.agents.attempts.attempt import Services
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import APPROVAL, TERMINAL, State
from tercet.agents.machine import actions
from tercet.agents.machine.blame import culprits
from tercet.agents.machine.conclusion import Conclusion
from tercet.agents.machine.events import Event, Ordered
from tercet.agents.machine.heartbeat import make_heartbeat
from tercet.agents.machine.machine import RunMachine
from tercet.agents.machine.outcomes import Cancelled, Superseded, Suspended, own_error
from tercet.agents.machine.recovery import Attempts, SavedRun
from tercet.agents.machine.run_config import RunConfig
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.roles.release import discard, hidden_folder
from tercet.agents.runs.control_sender import position
from tercet.agents.runs.run_log import RunLog
from tercet.agents.runs.run_work import RunWork
from tercet.agents.runs.shell import Shell
from tercet.agents.runs.status import job_status
from tercet.agents.session.checkpoint_store import discard_checkpoints
from tercet.agents.session.context import JobContext
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.broker.interface.base import BrokerError
from tercet.broker.interface.clock import loop_time
from tercet.schemas.messages.kinds import Failure, Job, JobStatus

__all__ = ["JobRun", "Services"]

RESULT_FIELDS = (  # of the status
    "table_rows", "rows", "held_out", "columns", "epoch", "step", "steps", "metrics", "intervals",
    "deviations", "folds", "loss", "held_out_loss", "worthless",
)  # fmt: skip
NEW_RUN = SavedRun()
UNSHARED = frozenset({State.RECEIVED, State.ACCEPTED, State.READY})  # before anything was shared


class JobRun:
    """Runs a job at this party, from acceptance to end, over all attempts."""

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
        settings, description = services.settings, job.description
        self._released_status = saved.status
        self._own_error: Failure | None = None
        self.is_suspended = False  # until the agent's next life
        self.queues_deleted = False  # no queue of the job is left at the broker
        self.life = max(int(time.time()), saved.life + 1)
        config = RunConfig(
            settings.party,
            description.label,
            description.data_parties,
            description.helpers,
            settings.deadlines,
            settings.recovery.attempts,
        )
        self._machine = RunMachine(config, saved, loop_time())
        self._log = RunLog(self._machine)
        asks = settings.policy.approval and job.submitter != settings.party
        self.approval = Approval(
            settings.party,
            is_required=asks,
            approved_by=saved.approved,
            needed=settings.policy.approvals,
            approvers=() if saved.status is None else saved.status.approvals,
            page_approvers=saved.page_approvers,
        )
        self.audit = JobAudit(job, settings, services.budget, services.log)
        self._snapshots = SnapshotStore(job, settings)
        make_work = partial(
            RunWork, job, services, self._machine,
            approval=self.approval, audit=self.audit, snapshots=self._snapshots,
        )  # fmt: skip
        self._shell = Shell(self._machine, make_work, life=self.life, observers=(self._log, self._record))

    # --- what it tells

    @property
    def context(self) -> JobContext:
        """Of the attempt that counts."""
        return self._shell.work.attempt.context

    @property
    def reached(self) -> object:
        """The result of the last phase, in the attempt that counts."""
        return self._shell.work.attempt.reached

    @property
    def state(self) -> State:
        """Of the job at this party."""
        return State.FAILED if self._own_error is not None else self._machine.state

    @property
    def failure(self) -> Failure | None:
        """The failure that every party shows, once it is known."""
        return self._own_error or self._machine.failure

    @property
    def detail(self) -> str | None:
        """Details of a failure for this party's operator alone."""
        return self._machine.detail or self._log.detail

    @property
    def model_part(self) -> Path | None:
        """Folder of what a training has given this party."""
        return self._shell.work.results.model_part

    @property
    def scores(self) -> Path | None:
        """File of what a prediction has given this party, or a training of held-out rows."""
        return self._shell.work.results.scores

    @property
    def statistics(self) -> Path | None:
        """File of what a statistics job has told this party."""
        return self._shell.work.results.statistics

    @property
    def report(self) -> Path | None:
        """Page about the job, once it is written."""
        return self._shell.work.results.report

    @property
    def attempts(self) -> Attempts:
        """The attempts so far."""
        return self._machine.attempts

    @property
    def released(self) -> bool:
        """Tell whether this party has what the job gives it on its disk."""
        return self._machine.released

    @property
    def in_flight(self) -> dict[str, int]:
        """Bytes that are sent and not yet confirmed, by lane."""
        return self._shell.work.attempt.outbox.in_flight

    @property
    def seconds_unconsumed(self) -> float:
        """Seconds for which nothing has come in from the job's queues though the broker was there."""
        over = self.is_suspended or self.state in TERMINAL
        return 0.0 if over else self._shell.work.queues.seconds_unconsumed

    @property
    def may_yield(self) -> bool:
        """Tell whether another run could still take its place: not all have agreed to it."""
        return self.attempts.number == 1 and self.state in UNSHARED

    def _blocking_parties(self) -> tuple[str, ...]:
        """List the parties where waiting ends; our own wait while all wait in a circle."""
        own, me = self._machine.wait, self.context.me
        if self.state in TERMINAL or not own.waits_for:
            return ()
        return tuple(culprits(self._machine.peers.reports(loop_time()) | {me: own}, me)) or own.waits_for

    def status(self) -> JobStatus:
        """Give this party's view of the job."""
        results, machine = self._shell.work.results, self._machine
        fields = {
            "submitted": self.submitted,
            "approval": APPROVAL if self.approval.is_waiting else self.approval.approved_by,
            "approvals": self.approval.approvers if self.approval.is_required else (),
            "approvals_needed": self.approval.needed,
            "attempt": self.attempts.number,
            "helper": self.attempts.helper,
            "waits_for": self._blocking_parties(),
            "failure": self.failure,
            "fault": machine.fault,
            "checkpoint": self.context.statistics.checkpoint,
            "detail": self.detail,
            "cancelled_by": machine.cancelled_by,
            "model_part": results.model_part and str(results.model_part),
            "scores": results.scores and str(results.scores),
            "statistics": results.statistics and str(results.statistics),
            "report": results.report and str(results.report),
            "report_due": isinstance(machine.conclusion, Conclusion) and machine.conclusion.is_report_due,
        }
        own_progress = loop_time(), make_heartbeat(machine, position(self._shell.work.attempt))
        last_progress = {self.context.me: own_progress, **machine.peers.last_progress}
        if self.released and self._released_status is not None:  # a later attempt does not know these results
            fields |= {name: getattr(self._released_status, name) for name in RESULT_FIELDS}
        return job_status(self.context, self.state, last_progress).model_copy(update=fields)

    # --- from the beginning to the end

    async def execute(self, problem: JobProblem | None = None) -> None:
        """Run the job to a terminal state; with `problem`, only tell the others of it."""
        patience = self.context.deadline("release").seconds
        try:
            await self._shell.run(problem)
            self.is_suspended = self.state not in TERMINAL
        except BaseException:
            patience = 0.0  # the whole agent ends; its next life goes on, or clears what is left
            raise
        finally:
            await self._release_resources(patience)

    async def _release_resources(self, patience: float) -> None:
        """Give everything back but what the agent's next life goes on with."""
        goes_on = self._machine.config.recovers and self.state not in TERMINAL
        try:
            await self._shell.release_resources(patience, goes_on=goes_on)
            self.queues_deleted = not goes_on
        except BrokerError as error:
            structlog.get_logger().warning("queues are left at the broker", why=str(error))
        if not goes_on:
            self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove what only another attempt would need."""
        discard(hidden_folder(self.context))  # if it was not kept
        self._snapshots.discard()
        if self.state != State.DONE and self.job.description.kind == "training":
            model_of(self._services.settings.state, self.job).discard()  # which is not kept here, so nothing is scored
        if self.state != State.FAILED or not self._machine.config.recovers:
            discard_checkpoints(self._services.settings.state, self.job.id)

    def _record(self, action: actions.Action) -> None:
        """Have a new state or attempt written down."""
        match action:
            case actions.EnterState(State.ALIGNED):
                self._released_status = None
            case actions.EnterState(State.RELEASED):
                self._released_status = self.status()
        if isinstance(action, actions.EnterState | actions.RecordAttempt):
            self._changed(self)

    # --- from outside

    def feed(self, event: Event) -> None:
        """Tell the run of an event."""
        self._shell.feed(event)

    def cancel(self) -> None:
        """Cancel the job for a person at this party."""
        self.feed(Ordered(Cancelled(self.context.me, here=True)))

    def approve(self, who: str, *, on_page: bool = False) -> None:
        """Approve the job for a person at this party, in this and every later attempt."""
        self.approval.approve(who, on_page=on_page)
        self._changed(self)

    def refuse(self, who: str, problem: JobProblem) -> None:
        """End the job for a person at this party; resumed, it needs all approvals anew."""
        self.approval.refuse(who)
        self._changed(self)
        self.stop(problem)

    def stop(self, problem: JobProblem) -> None:
        """End the job with a problem of this agent."""
        self.feed(Ordered(problem))

    def suspend(self, problem: JobProblem) -> None:
        """Suspend the job until the agent's next life, if it may wait; else end it."""
        self.feed(Ordered(Suspended() if self._machine.config.recovers else problem))

    def supersede(self) -> None:
        """End this run in favour of another one of the same job; nobody is told."""
        self.feed(Ordered(Superseded()))

    def mark_failed(self) -> None:
        """Mark the job as failed after an error of ours, if it has not ended in order."""
        if self.state not in TERMINAL:
            self._snapshots.discard()
            self._own_error = own_error(self.context.me).failure(self.state, verdict=False)
