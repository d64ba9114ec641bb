"""Carries out what a run's machine wants done.

It owns the timer and the tasks, and decides nothing. Whatever happens becomes an event, and whatever takes a while is
a task that ends with one. What these tasks do is in `run_work`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tercet.agents.attempts.attempt import Attempt
from tercet.agents.core.problems import JobProblem
from tercet.agents.machine import actions, events
from tercet.agents.machine.machine import RunMachine
from tercet.agents.runs.control_sender import ControlSender
from tercet.agents.runs.run_log import Observer
from tercet.agents.runs.run_work import RunWork
from tercet.broker.interface.clock import loop_time

Work = Coroutine[Any, Any, None]


class Shell:
    """Runs a machine at one party.

    Args:
        machine: Decides.
        make_work: Makes the run's work, which is handed `feed`.
        life: Number of the agent's life with this run. Messages of a later life are newer.
        observers: Called with each action before it is carried out.
    """

    def __init__(
        self,
        machine: RunMachine,
        make_work: Callable[[Callable[[events.Event], None]], RunWork],
        *,
        life: int,
        observers: Sequence[Observer],
    ) -> None:
        self._machine, self._observers = machine, observers
        self.work = make_work(self.feed)
        self._sender = ControlSender(machine, life, feed=self.feed)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._stoppable: list[asyncio.Task[None]] = []  # what `StopWork` cancels

    async def run(self, problem: JobProblem | None) -> None:
        """Run the machine to its end; with `problem`, only to tell the others of it."""
        self.work.bind_log()
        async with asyncio.TaskGroup() as self._tasks:
            beside = [self._spawn(self._sender.run()), self._spawn(self.work.queues.keep_consumed())]
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
            await self.work.close_lines(patience, goes_on=goes_on)
        finally:
            await self._join_stopped()
            await self.work.attempt.release_resources()

    def feed(self, event: events.Event) -> None:
        """Tell the machine of an event, and carry out what it wants."""
        if self._over.done():
            return
        try:
            self.work.log_context.copy().run(self._feed, event)
        except Exception as error:  # noqa: BLE001 - a bug of ours ends the run, not whoever has told of the event
            if not self._over.done():
                self._over.set_exception(error)

    def _feed(self, event: events.Event) -> None:
        now, due = loop_time(), self._machine.wakeup
        if isinstance(event, events.Tick) and due is not None:
            now = max(now, due)  # a loop's timers may be early by its clock's resolution
        self._machine.on(self.work.observe(now), now)
        for action in self._machine.on(event, now):
            self._perform(action)
        if self._timer is not None:
            self._timer.cancel()
        if self._machine.wakeup is not None:
            self._timer = asyncio.get_running_loop().call_at(self._machine.wakeup, self.feed, events.Tick())

    def _perform(self, action: actions.Action) -> None:
        for observe in self._observers:
            observe(action)
        match action:
            case actions.SendHeartbeat() | actions.Send() | actions.Drain():
                self._sender.queue(action, self.work.attempt)
            case actions.AbandonAttempt():
                self.work.attempt.mailbox.closed = True
            case actions.End():
                self._over.set_result(None)
            case actions.StopWork():
                for task in self._stoppable:
                    task.cancel()
            case _:
                self._perform_work(action)

    def _perform_work(self, action: actions.Action) -> None:
        """Begin what takes a while, or ask the agent for it."""
        work = self.work
        match action:
            case actions.OpenQueues(deadline):
                self._begin(work.open_queues(deadline))
            case actions.StartAttempt():
                self._begin(work.watch_outbox(work.attempt))
                self._begin(work.run_attempt(work.attempt))
            case actions.ReplaceAttempt(number, helper):
                self._spawn(self._replace_attempt(number, helper))
            case actions.AskRefusal():
                self._spawn(work.ask_refusal())
            case actions.KeepResult():
                self._spawn(work.keep_result())
            case actions.WriteReport():
                self._spawn(work.write_report())
            case _:
                work.ask_agent(action)

    def _begin(self, work: Work) -> None:
        """Begin what `StopWork` cancels."""
        self._stoppable = [task for task in self._stoppable if not task.done()]
        self._stoppable.append(asyncio.create_task(work, context=self.work.log_context.copy()))

    def _spawn(self, work: Work) -> asyncio.Task[None]:
        return self._tasks.create_task(work, context=self.work.log_context.copy())

    async def _join_stopped(self) -> None:
        """Wait until what was cancelled has ended; a writing thread may take a while."""
        if self._stoppable:
            await asyncio.wait(self._stoppable)
        self._stoppable = []

    async def _replace_attempt(self, number: int, helper: str) -> None:
        await self._join_stopped()
        old: Attempt = await self.work.replace_attempt(number, helper)
        self.feed(events.AttemptReplaced())
        self._sender.leave(old)
