"""Carries out what a run's machine wants done.

It owns the attempt, the queues, the timer, threads and tasks. It decides nothing. Whatever happens becomes an event,
and whatever takes a while is a task that ends with one.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tercet.agents.attempts.attempt import Attempt, Hooks, Services
from tercet.agents.core import logs
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
from tercet.agents.runs.broker_problems import broker_blocked, broker_problem, connection_lost, first_error
from tercet.agents.runs.control_sender import ControlSender
from tercet.agents.runs.queues import JobQueues
from tercet.agents.runs.run_log import Observer
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.agents.statistics.result import FILE as STATISTICS
from tercet.broker.interface.base import Blocked, BrokerError, Delivery
from tercet.broker.interface.clock import loop_time
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Job, Message


@dataclass(slots=True)
class Results:
    """Names the files that a run has left at this party."""

    model_part: Path | None = None
    scores: Path | None = None
    statistics: Path | None = None
    report: Path | None = None


class Shell:
    """Runs a machine at one party.

    Args:
        job: The job.
        services: The agent's resources.
        machine: Decides.
        approval, audit, snapshots: This party's, of all attempts.
        life: Number of the agent's life with this run. Messages of a later life are newer.
        observers: Called with each action before it is carried out.
    """

    def __init__(
        self,
        job: Job,
        services: Services,
        machine: RunMachine,
        *,
        approval: Approval,
        audit: JobAudit,
        snapshots: SnapshotStore,
        life: int,
        observers: Sequence[Observer],
    ) -> None:
        self._job, self._services, self._machine = job, services, machine
        self._approval, self._observers = approval, observers
        self.results = Results()
        self._hooks = Hooks(
            approval, audit, snapshots, {}, self._hear, self._report_problem, self._common_checkpoint
        )  # fmt: skip
        attempts = machine.attempts
        self.attempt = Attempt(job, services, attempts.number, attempts.helper, self._hooks)
        self.queues = JobQueues(services.broker, services.settings, job, self._deliver)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._work: list[asyncio.Task[None]] = []  # of the attempt, and of opening queues
        self._sender = ControlSender(machine, life, feed=self.feed)
        self._context: Context = copy_context()  # of log lines
        self._log = structlog.get_logger()

    async def run(self, problem: JobProblem | None) -> None:
        """Run the machine to its end; with `problem`, only to tell the others of it."""
        self._bind_log()
        async with asyncio.TaskGroup() as self._tasks:
            beside = [self._spawn(self._sender.run()), self._spawn(self.queues.keep_consumed())]
            self.feed(events.Started(problem))
            await self._over
            for task in beside:
                task.cancel()

    async def release_resources(self, patience: float, *, goes_on: bool) -> None:
        """Give back queues, consumers and thread; a suspended job keeps its queues.

        Raises:
            BrokerError: queues are left at the broker.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._perform(actions.StopWork())
        try:
            await self._sender.close()
            await self.attempt.close_outbox()
            await self.queues.cancel_consumers()
            if not goes_on:
                await self.queues.delete_queues(patience)
        finally:
            await self._join_work()
            await self.attempt.release_resources()

    # --- what happens

    def feed(self, event: events.Event) -> None:
        """Tell the machine of an event, and carry out what it wants."""
        if self._over.done():
            return
        try:
            self._context.copy().run(self._feed, event)
        except Exception as error:  # noqa: BLE001 - a bug of ours ends the run, not whoever has told of the event
            if not self._over.done():
                self._over.set_exception(error)

    def _feed(self, event: events.Event) -> None:
        now, due = loop_time(), self._machine.wakeup
        if isinstance(event, events.Tick) and due is not None:
            now = max(now, due)  # a loop's timers may be early by its clock's resolution
        self._machine.on(self._observe(now), now)
        for action in self._machine.on(event, now):
            self._perform(action)
        if self._timer is not None:
            self._timer.cancel()
        if self._machine.wakeup is not None:
            self._timer = asyncio.get_running_loop().call_at(self._machine.wakeup, self.feed, events.Tick())

    def _observe(self, now: float) -> events.Observed:
        mailbox, outbox = self.attempt.mailbox, self.attempt.outbox
        wait = Report(APPROVAL, ()) if self._approval.is_waiting else Report(mailbox.stage, mailbox.waits_for)
        silence = now - outbox.answered
        if outbox.blocked:
            return events.Observed(wait, broker_blocked(Blocked(outbox.blocked)))
        is_lost = silence > MISSED_HEARTBEATS * self._machine.config.deadlines.heartbeat
        return events.Observed(wait, connection_lost(self._machine.config.me) if is_lost else None)

    def _hear(self, address: Address, message: Message) -> None:
        self.feed(events.ControlArrived(address, message))

    def _report_problem(self, problem: JobProblem) -> None:
        self.feed(events.AttemptEnded(problem))

    async def _deliver(self, delivery: Delivery) -> None:
        await self.attempt.mailbox.deliver(delivery)

    def _common_checkpoint(self) -> int:
        """Count the steps done at the last checkpoint of all data parties; -1 if they differ."""
        context = self.attempt.context
        own, theirs = context.statistics.checkpoint, self._machine.peers.checkpoint_steps(context.partners)
        return own if all(own == step for step in theirs) else -1

    # --- what is to be done

    def _perform(self, action: actions.Action) -> None:
        for observe in self._observers:
            observe(action)
        match action:
            case actions.SendHeartbeat() | actions.Send() | actions.Drain():
                self._sender.queue(action, self.attempt)
            case actions.AbandonAttempt():
                self.attempt.mailbox.closed = True
            case actions.End():
                self._over.set_result(None)
            case _:
                self._perform_work(action)

    def _perform_work(self, action: actions.Action) -> None:
        """Begin or stop what takes a while."""
        match action:
            case actions.OpenQueues(deadline):
                self._begin(self._open_queues(deadline))
            case actions.StartAttempt():
                self._begin(self._watch_outbox(self.attempt))
                self._begin(self._run_attempt(self.attempt))
            case actions.StopWork():
                for task in self._work:
                    task.cancel()
            case actions.ReplaceAttempt(number, helper):
                self._spawn(self._replace_attempt(number, helper))
            case actions.AskRefusal():
                self._spawn(self._ask_refusal())
            case actions.KeepResult():
                self._spawn(self._keep_result())
            case actions.WriteReport():
                self._spawn(self._write_report())
            case _:
                self._perform_request(action)

    def _perform_request(self, action: actions.Action) -> None:
        """Ask the agent for something."""
        match action:
            case actions.Inquire(parties):
                for party in parties:
                    self._services.inquire(self._job, party)
            case actions.Announce(party):
                self._services.announce(self._job, party)
            case actions.Resume(party):
                self._services.resume(self._job, party)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin what `StopWork` cancels."""
        self._work = [task for task in self._work if not task.done()]
        self._work.append(asyncio.create_task(work, context=self._context.copy()))

    def _spawn(self, call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(call, context=self._context.copy())

    def _bind_log(self) -> None:
        context = self.attempt.context
        logs.bind_job(context.me, self._job.id, context.attempt, context.statistics)
        self._context = copy_context()

    async def _open_queues(self, deadline: str) -> None:
        try:
            await self.queues.open(self.attempt.context.deadline(deadline).seconds)
        except BrokerError as error:
            self.feed(events.QueuesRefused(broker_problem(error, self._machine.config.me)))
        else:
            self.feed(events.QueuesOpened())

    async def _run_attempt(self, attempt: Attempt) -> None:
        me = self._machine.config.me
        try:
            await attempt.run(self._enter_phase)
            self.feed(events.AttemptEnded(Done()))
        except* JobProblem as group:
            self._report_problem(first_error(group))
        except* DeadlinePassed as group:
            overdue: DeadlinePassed = first_error(group)
            self.feed(events.AttemptOverdue(overdue.deadline))
        except* BrokerError as group:
            self._report_problem(broker_problem(first_error(group), me))
        except* Exception:  # noqa: BLE001 - a bug of ours must not leave the others waiting
            self._log.exception("an error of our own")
            self._report_problem(own_error(me))

    def _enter_phase(self, state: State) -> None:
        self.feed(events.PhaseEntered(state, self.attempt.context.statistics.resumed_from))

    async def _watch_outbox(self, attempt: Attempt) -> None:
        try:
            await asyncio.shield(attempt.outbox.failed)
        except BrokerError as error:
            self._report_problem(broker_problem(error, self._machine.config.me))
        except Exception:  # noqa: BLE001 - as in `_run_attempt`
            self._log.exception("an error of our own")
            self._report_problem(own_error(self._machine.config.me))

    async def _join_work(self) -> None:
        """Wait until what was cancelled has ended; a writing thread may take a while."""
        if self._work:
            await asyncio.wait(self._work)
        self._work = []

    async def _replace_attempt(self, number: int, helper: str) -> None:
        old = self.attempt
        await self._join_work()
        await old.release_resources()
        self.attempt = Attempt(self._job, self._services, number, helper, self._hooks)
        self._bind_log()
        self.feed(events.AttemptReplaced())
        self._sender.leave(old)

    async def _ask_refusal(self) -> None:
        refusal = None
        with suppress(TimeoutError):  # the machine waits no longer
            async with asyncio.timeout(self._machine.config.deadlines.verdict / 2):
                refusal = await self.attempt.own_refusal()
        self.feed(events.RefusalDecided(refusal))

    async def _keep_result(self) -> None:
        """Move what the job gives this party into its place, if it gives anything."""
        hidden = hidden_folder(self.attempt.context)
        try:
            folder = keep_result(hidden, self._machine.config.me) if hidden.is_dir() else None
        except JobProblem as problem:
            self.feed(events.ResultLost(problem))
            return
        kind = self._job.description.kind
        if folder is not None and kind == "prediction":
            self.results.scores = next(folder.glob("scores.*"))
        elif folder is not None and kind == "statistics":
            self.results.statistics = folder / STATISTICS
        else:
            self.results.model_part = folder
            self.results.scores = None if folder is None else next(folder.glob(f"{HELD_OUT}.*"), None)
        self.feed(events.ResultStored())

    async def _write_report(self) -> None:
        attempt = self.attempt
        self.results.report = await try_write_report(attempt.context, attempt.reached, self.results.model_part)
        self.feed(events.ReportWritten())
