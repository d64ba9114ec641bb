"""Opens a job's queues before a party says `ready`, and deletes them at its end.

Names and bindings are the topology's; what arrives is the mailbox's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from tercet.agents.access.connections import BrokerLink
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError, Consumer, Handler
from tercet.broker.interface.clock import loop_time
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job

PAUSE_SECONDS = 0.25
REOPEN_BEATS = 10  # heartbeats after which queues that are not consumed are opened again

T = TypeVar("T")


async def retry_patiently(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Repeat a call while the broker is briefly away, and return its result.

    Raises:
        BrokerError: it refuses, or is still away after so many seconds.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await call()
        except BrokerError as error:
            if not error.transient or asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


class JobQueues:
    """Opens and closes one party's queues of one job, over all its attempts."""

    def __init__(self, broker: Broker, settings: Settings, job: Job, deliver: Handler) -> None:
        self._broker, self._settings, self._job, self._deliver = broker, settings, job, deliver
        self._consumers: list[Consumer] = []
        self._open = False  # all of them are consumed; said at the end only
        self._last_consumed = loop_time()
        self._log = structlog.get_logger()
        self._changing = asyncio.Lock()  # an attempt may be at work on them when the next one or the end comes

    async def open(self, patience: float) -> None:
        """Declare and consume all queues once; the broker may be away for `patience` seconds.

        Raises:
            BrokerError: the broker refuses, or is away; none is consumed. Nor is any when this is cancelled.
        """
        async with self._changing:
            if self._open:
                return
            try:
                await self._consume_all(patience)
            except BaseException:
                await _to_the_end(self._cancel_consumers())
                raise
            self._open = True

    async def _consume_all(self, patience: float) -> None:
        broker, settings, job = self._broker, self._settings, self._job
        senders = tuple(party for party in job.description.everybody if party in settings.partners)
        rounds = topology.ROUNDS[settings.role]
        queues = {round_: topology.job_queue(settings.party, job.id, round_, senders) for round_ in rounds}
        await _together([retry_patiently(partial(broker.declare, queue), patience) for queue in queues.values()])
        for round_, queue in queues.items():
            consume = partial(broker.consume, queue.name, self._deliver, topology.lane(round_))
            self._consumers.append(await retry_patiently(consume, patience))

    async def reopen(self, patience: float) -> None:
        """Consume the queues anew, after a consumer was lost. Raises as `open`."""
        await self.cancel_consumers()
        await self.open(patience)

    async def keep_consumed(self) -> None:
        """Reopen them, for ever, where nothing comes in though the broker is there.

        Without that nobody could end the job at this party.
        """
        heartbeat, tried = self._settings.deadlines.heartbeat, 0.0
        while True:
            await asyncio.sleep(heartbeat)
            if self.are_consumed:
                self._last_consumed = loop_time()
            elif self._changing.locked():  # they are being opened, or closed
                continue
            elif loop_time() - max(self._last_consumed, tried) > REOPEN_BEATS * heartbeat:
                tried, seconds = loop_time(), self.seconds_unconsumed
                self._log.error("the job's queues are not consumed, and are opened again", seconds=seconds)
                try:
                    await self.reopen(heartbeat)
                except BrokerError as error:
                    self._log.warning("the job's queues cannot be opened", why=str(error))

    @property
    def seconds_unconsumed(self) -> float:
        """Tell how long nothing has come in though the broker was there, as `keep_consumed` saw it."""
        return loop_time() - self._last_consumed

    @property
    def are_consumed(self) -> bool:
        """Tell whether all queues deliver; true where the broker cannot tell, or is away."""
        broker, me, job = self._broker, self._settings.party, self._job.id
        if not isinstance(broker, BrokerLink) or not broker.connected:
            return True
        rounds = topology.ROUNDS[self._settings.role]
        return all(broker.consuming(topology.job_queue_name(me, job, round_)) for round_ in rounds)

    async def cancel_consumers(self) -> None:
        """Take no more from them."""
        async with self._changing:
            await _to_the_end(self._cancel_consumers())

    async def _cancel_consumers(self) -> None:
        self._open = False
        consumers, self._consumers = self._consumers, []
        await asyncio.gather(*(consumer.cancel() for consumer in consumers))

    async def delete_queues(self, patience: float) -> None:
        """Delete them, with what is in them. Raises as the function `delete_queues`."""
        await delete_queues(self._broker, self._settings, self._job.id, patience)


async def _together(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await all calls; after a failure cancel the rest, which would declare queues again."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await to the end despite cancellation; a lost consumer would occupy its queue."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def delete_queues(broker: Broker, settings: Settings, job: str, patience: float) -> None:
    """Delete this party's queues of a job, if the broker is there within `patience` seconds.

    Raises:
        BrokerError: they may still be there.
    """
    names = [topology.job_queue_name(settings.party, job, round_) for round_ in topology.ROUNDS[settings.role]]
    await asyncio.gather(*(retry_patiently(partial(broker.delete, name), patience) for name in names))
