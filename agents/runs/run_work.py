"""Does the work of a run: attempts, queues and files. Whatever it does ends with an event."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path

import structlog

from tercet.agents.attempts.attempt import Attempt, Hooks, Services
from tercet.agents.core import logs
from tercet.agents.core.event_loop import first_error
from tercet.agents.core.problems import DeadlinePassed, JobProblem
from tercet.agents.core.states import APPROVAL, State
from tercet.agents.machine import actions, events
from tercet.agents.machine.blame import Report
from tercet.agents.machine.machine import RunMachine
from tercet.agents.machine.outcomes import Done, own_error
from tercet.agents.machine.peers import MISSED_HEARTBEATS
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.reports.build import try_write_report
from tercet.agents.roles.held_out_file import NAME as HELD_OUT
from tercet.agents.roles.release import hidden_folder, keep_result
from tercet.agents.runs.broker_problems import broker_blocked, broker_problem, connection_lost
from tercet.agents.runs.queues import JobQueues
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.agents.statistics.result import FILE as STATISTICS
from tercet.broker.interface.base import Blocked, BrokerError, Delivery
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Job, Message


@dataclass(slots=True)
class Results:
    """Names the files that a run has left at this party."""

    model_part: Path | None = None
    scores: Path | None = None
    statistics: Path | None = None
    report: Path | None = None


class RunWork:
    """Does what a run's machine wants done, where that takes a while.

    Args:
        job: The job.
        services: The agent's resources.
        machine: Decides; it is only read here.
        approval, audit, snapshots: This party's, of all attempts.
        feed: Called with what happens.
    """

    def __init__(
        self,
        job: Job,
        services: Services,
        machine: RunMachine,
        feed: Callable[[events.Event], None],
        *,
        approval: Approval,
        audit: JobAudit,
        snapshots: SnapshotStore,
    ) -> None:
        self._job, self._services, self._machine, self._feed = job, services, machine, feed
        self._approval, self._me = approval, machine.config.me
        self.results = Results()
        self._hooks = Hooks(
            approval, audit, snapshots, {}, self._hear, self._report_problem, self._common_checkpoint
        )  # fmt: skip
        self.attempt = Attempt(job, services, machine.attempts.number, machine.attempts.helper, self._hooks)
        self.queues = JobQueues(services.broker, services.settings, job, self._deliver)
        self.log_context: Context = copy_context()  # of log lines
        self._log = structlog.get_logger()

    def bind_log(self) -> None:
        """Have log lines name the attempt that counts."""
        context = self.attempt.context
        logs.bind_job(context.me, self._job.id, context.attempt, context.statistics)
        self.log_context = copy_context()

    def observe(self, now: float) -> events.Observed:
        """Say whom the attempt waits for, and what is wrong with the broker."""
        mailbox, outbox = self.attempt.mailbox, self.attempt.outbox
        wait = Report(APPROVAL, ()) if self._approval.is_waiting else Report(mailbox.stage, mailbox.waits_for)
        silence = now - outbox.answered
        if outbox.blocked:
            return events.Observed(wait, broker_blocked(Blocked(outbox.blocked)))
        is_lost = silence > MISSED_HEARTBEATS * self._machine.config.deadlines.heartbeat
        return events.Observed(wait, connection_lost(self._me) if is_lost else None)

    # --- what the attempt tells

    def _hear(self, address: Address, message: Message) -> None:
        self._feed(events.ControlArrived(address, message))

    def _report_problem(self, problem: JobProblem) -> None:
        self._feed(events.AttemptEnded(problem))

    async def _deliver(self, delivery: Delivery) -> None:
        await self.attempt.mailbox.deliver(delivery)

    def _common_checkpoint(self) -> int:
        """Count the steps done at the last checkpoint of all data parties; -1 if they differ."""
        context = self.attempt.context
        own, theirs = context.statistics.checkpoint, self._machine.peers.checkpoint_steps(context.partners)
        return own if all(own == step for step in theirs) else -1

    # --- what is to be done

    def ask_agent(self, action: actions.Action) -> None:
        """Ask the agent to tell other parties of the job, or to ask them."""
        match action:
            case actions.Inquire(parties):
                for party in parties:
                    self._services.inquire(self._job, party)
            case actions.Announce(party):
                self._services.announce(self._job, party)
            case actions.Resume(party):
                self._services.resume(self._job, party)

    async def open_queues(self, deadline: str) -> None:
        """Open the job's queues; ends with `QueuesOpened` or `QueuesRefused`."""
        try:
            await self.queues.open(self.attempt.context.deadline(deadline).seconds)
        except BrokerError as error:
            self._feed(events.QueuesRefused(broker_problem(error, self._me)))
        else:
            self._feed(events.QueuesOpened())

    async def run_attempt(self, attempt: Attempt) -> None:
        """Run an attempt; ends with `AttemptEnded` or `AttemptOverdue`."""
        try:
            await attempt.run(self._enter_phase)
            self._feed(events.AttemptEnded(Done()))
        except* JobProblem as group:
            self._report_problem(first_error(group))
        except* DeadlinePassed as group:
            overdue: DeadlinePassed = first_error(group)
            self._feed(events.AttemptOverdue(overdue.deadline))
        except* BrokerError as group:
            self._report_problem(broker_problem(first_error(group), self._me))
        except* Exception:  # noqa: BLE001 - a bug of ours must not leave the others waiting
            self._report_own_error()

    def _enter_phase(self, state: State) -> None:
        self._feed(events.PhaseEntered(state, self.attempt.context.statistics.resumed_from))

    async def watch_outbox(self, attempt: Attempt) -> None:
        """Report when the broker takes messages of an attempt no more."""
        try:
            await asyncio.shield(attempt.outbox.failed)
        except BrokerError as error:
            self._report_problem(broker_problem(error, self._me))
        except Exception:  # noqa: BLE001 - as in `run_attempt`
            self._report_own_error()

    def _report_own_error(self) -> None:
        self._log.exception("an error of our own")
        self._report_problem(own_error(self._me))

    async def replace_attempt(self, number: int, helper: str) -> Attempt:
        """Put a new attempt in the place of the old one, which is returned."""
        old = self.attempt
        await old.release_resources()
        self.attempt = Attempt(self._job, self._services, number, helper, self._hooks)
        self.bind_log()
        return old

    async def ask_refusal(self) -> None:
        """Ask the attempt whether this party refuses the job; ends with `RefusalDecided`."""
        refusal = None
        with suppress(TimeoutError):  # the machine waits no longer
            async with asyncio.timeout(self._machine.config.deadlines.verdict / 2):
                refusal = await self.attempt.own_refusal()
        self._feed(events.RefusalDecided(refusal))

    async def keep_result(self) -> None:
        """Move the party's result into its place; ends with `ResultStored` or `ResultLost`."""
        hidden = hidden_folder(self.attempt.context)
        try:
            folder = keep_result(hidden, self._me) if hidden.is_dir() else None
        except JobProblem as problem:
            self._feed(events.ResultLost(problem))
            return
        kind = self._job.description.kind
        if folder is not None and kind == "prediction":
            self.results.scores = next(folder.glob("scores.*"))
        elif folder is not None and kind == "statistics":
            self.results.statistics = folder / STATISTICS
        else:
            self.results.model_part = folder
            self.results.scores = None if folder is None else next(folder.glob(f"{HELD_OUT}.*"), None)
        self._feed(events.ResultStored())

    async def write_report(self) -> None:
        """Write the page about the job; ends with `ReportWritten`."""
        attempt = self.attempt
        self.results.report = await try_write_report(attempt.context, attempt.reached, self.results.model_part)
        self._feed(events.ReportWritten())

    async def close_lines(self, patience: float, *, goes_on: bool) -> None:
        """Close the outbox and the consumers, and delete the queues of a job that does not go on.

        Raises:
            BrokerError: queues are left at the broker.
        """
        await self.attempt.close_outbox()
        await self.queues.cancel_consumers()
        if not goes_on:
            await self.queues.delete_queues(patience)
