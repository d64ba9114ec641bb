"""Sends a run's control messages, in their order, each as a part of its attempt."""

import asyncio
from collections.abc import Callable
from itertools import count

import structlog

from tercet.agents.attempts.attempt import Attempt
from tercet.agents.machine import actions, events
from tercet.agents.machine.heartbeat import Position, make_heartbeat
from tercet.agents.machine.machine import RunMachine
from tercet.broker.interface.outbox import Undeliverable
from tercet.schemas.messages.kinds import Message

Words = actions.SendHeartbeat | actions.Send | actions.Drain


class ControlSender:
    """Sends what the machine of a run wants to be said.

    Args:
        machine: The machine; a heartbeat says how things are when it leaves.
        life: Number of the agent's life with this run. Messages of a later life are newer.
        feed: Called with `Drained`.
    """

    def __init__(self, machine: RunMachine, life: int, *, feed: Callable[[events.Event], None]) -> None:
        self._machine, self._life, self._feed = machine, life, feed
        self._queue: asyncio.Queue[tuple[Words | None, Attempt]] = asyncio.Queue()
        self._last_beat: Attempt | None = None  # the attempt of a heartbeat that nothing is queued behind
        self._leaving: list[Attempt] = []  # old ones, whose last words are on their way
        self._numbers = count(1)
        self._log = structlog.get_logger()

    def queue(self, action: Words, attempt: Attempt) -> None:
        """Queue what is to be said, or waited for; one heartbeat is as good as two in a row."""
        is_beat = isinstance(action, actions.SendHeartbeat)
        if not (is_beat and self._last_beat is attempt):
            self._queue.put_nowait((action, attempt))
        self._last_beat = attempt if is_beat else None

    def leave(self, attempt: Attempt) -> None:
        """Close an old attempt's outbox, once its last words are out."""
        self._leaving.append(attempt)
        self._queue.put_nowait((None, attempt))
        self._last_beat = None

    async def run(self) -> None:
        """Send for ever."""
        async with asyncio.TaskGroup() as drains:
            while True:
                action, attempt = await self._queue.get()
                match action:
                    case actions.SendHeartbeat():
                        self._last_beat = None
                        await self._send(attempt, make_heartbeat(self._machine, position(attempt)), required=False)
                    case actions.Send(message, required):
                        await self._send(attempt, message, required=required)
                    case actions.Drain(deadline, may_have_left):
                        if may_have_left:
                            attempt.outbox.give_up_unroutable()
                        drains.create_task(self._drain(attempt, deadline))
                    case None:
                        await attempt.close_outbox()
                        self._leaving.remove(attempt)

    async def close(self) -> None:
        """Say nothing more as a part of old attempts."""
        for attempt in self._leaving:
            await attempt.close_outbox()

    async def _send(self, attempt: Attempt, message: Message, *, required: bool) -> None:
        """Send a message to all partners; one that is not reached will find us silent."""
        mailbox, deadline = attempt.mailbox, attempt.context.deadline("verdict")
        life, number = self._life, next(self._numbers)
        try:
            await mailbox.send(message, mailbox.partners, deadline, epoch=life, step=number, required=required)
        except Undeliverable as error:
            self._log.warning("not everybody was told", why=str(error))

    async def _drain(self, attempt: Attempt, deadline: str) -> None:
        try:
            await attempt.outbox.drain(attempt.context.deadline(deadline).seconds)
        except TimeoutError as error:
            self._log.warning("not everybody was told", why=str(error))
        self._feed(events.Drained())


def position(attempt: Attempt) -> Position:
    """Say how far an attempt has come."""
    statistics = attempt.context.statistics
    return Position(statistics.epoch, statistics.step, statistics.steps, statistics.checkpoint)
