"""A broker that does to messages between agents what a plan says, and kills its own process where the plan says so.

It stands between an agent and its real broker. It keeps the promises of `broker.interface.base.Broker` but
for those that the plan breaks. It never touches what has no plan: consoles' messages, other jobs.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from tercet.broker.interface.base import Answer, Broker, BrokerError, Consumer, Delivery, Envelope, Handler, Lane, Queue
from tercet.schemas.messages.address import Address, MalformedAddress, parse_address
from tests.chaos.plans import Plan, Way, When, marker, read_plan

PASSING_SECONDS = 0.03  # so long a message waits for others to go first
HANDED_OVER = 5  # rounds of the event loop until what is published is in the hands of the operating system


def die() -> None:
    """What a power cut does to this process: nothing is said, flushed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Job:
    """How far one job's plan has come in this life of the agent."""

    def __init__(self, plan: Plan, party: str, folder: Path, job: str) -> None:
        self.plan, self._party, self._folder, self._job = plan, party, folder, job
        self._counts: Counter[int] = Counter()  # by number of a point
        self._times: Counter[Address] = Counter()
        self.lost = 0
        self.handed_over = 0

    def times(self, address: Address) -> int:
        """How often this message has been handed over, this time included."""
        self._times[address] += 1
        return self._times[address]

    def reached(self, way: Way, address: Address) -> dict[int, When]:
        """The points that this message is, each with the moment of it; each is reached once, in whatever life."""
        reached: dict[int, When] = {}
        for number, point in enumerate(self.plan.points):
            if not point.fits(self._party, way, address) or self._spent(number) or not self._armed(point.after):
                continue
            self._counts[number] += 1
            if self._counts[number] == point.count:
                reached[number] = point.when
        return reached

    def _armed(self, after: int | None) -> bool:
        return after is None or self._spent(after)

    def _spent(self, number: int) -> bool:
        return marker(self._folder, self._job, number).exists()

    def note(self, number: int) -> bool:
        """Let everybody know that a point has been reached; whether it kills."""
        marker(self._folder, self._job, number).touch()
        return self.plan.points[number].kills


class FaultyBroker:
    """One party's access to a broker, with faults. `kill` is for tests of this class."""

    def __init__(self, inner: Broker, party: str, folder: Path, kill: Callable[[], None] = die) -> None:
        """`folder` holds the plans of jobs, and marks of what has been reached."""
        self._inner, self._party, self._folder, self._kill = inner, party, folder, kill
        self._jobs: dict[str, _Job | None] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._passed = asyncio.Event()
        self._log = structlog.get_logger()

    @property
    def failed(self) -> asyncio.Future[None]:
        """See `Broker.failed`."""
        return self._inner.failed

    @property
    def blocked(self) -> str:
        """See `Broker.blocked`."""
        return self._inner.blocked

    async def declare(self, queue: Queue) -> None:
        """See `Broker.declare`."""
        await self._inner.declare(queue)

    async def delete(self, queue_name: str) -> None:
        """See `Broker.delete`."""
        await self._inner.delete(queue_name)

    async def publish(self, envelope: Envelope, lane: Lane) -> None:
        """See `Broker.publish`; what is lost is confirmed like everything else."""
        job, address = self._job(envelope), _address(envelope)
        if job is None or address is None:
            await self._inner.publish(envelope, lane)
            return
        times = job.times(address)
        points = job.reached("out", address) if times == 1 else {}
        self._come(job, points, "before")
        fate = job.plan.fate(address, times)
        await asyncio.sleep(fate.delay)
        await self._behind(job, fate.behind)
        if fate.lost and job.lost < job.plan.chances.drops:
            job.lost += 1
            self._log.info("message lost on purpose", address=envelope.address, kind=envelope.kind)
            return
        await self._publish(job, envelope, lane, points)
        if fate.again is not None:
            self._spawn(self._again(envelope, lane, fate.again))
        self._come(job, points, "after")

    def send(self, envelope: Envelope, lane: Lane) -> Answer:
        """See `Broker.send`."""
        return asyncio.ensure_future(self.publish(envelope, lane))

    async def _publish(self, job: _Job, envelope: Envelope, lane: Lane, points: dict[int, When]) -> None:
        job.handed_over += 1
        self._passed.set()
        publishing = asyncio.ensure_future(self._inner.publish(envelope, lane))
        try:
            for _ in range(HANDED_OVER if "between" in points.values() else 0):
                await asyncio.sleep(0)
            self._come(job, points, "between")
            await publishing
        finally:
            publishing.cancel()

    async def _behind(self, job: _Job, places: int) -> None:
        """Let some later messages go first, if there are any soon."""
        goal = job.handed_over + places
        with suppress(TimeoutError):
            async with asyncio.timeout(PASSING_SECONDS):
                while job.handed_over < goal:
                    self._passed.clear()
                    await self._passed.wait()

    async def _again(self, envelope: Envelope, lane: Lane, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(BrokerError):  # its queue may be gone by now
            await self._inner.publish(envelope, lane)

    async def consume(self, queue_name: str, handler: Handler, lane: Lane) -> Consumer:
        """See `Broker.consume`."""

        async def watched(delivery: Delivery) -> None:
            job, address = self._job(delivery.envelope), _address(delivery.envelope)
            points = job.reached("in", address) if job is not None and address is not None else {}
            if job is not None:
                self._come(job, points, "before")
            await handler(delivery)
            if job is not None:
                self._come(job, points, "between")
                self._come(job, points, "after")

        return await self._inner.consume(queue_name, watched, lane)

    async def close(self) -> None:
        """See `Broker.close`."""
        for task in tuple(self._later):
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        await self._inner.close()

    def _job(self, envelope: Envelope) -> _Job | None:
        name = envelope.job
        if name not in self._jobs:
            plan = read_plan(self._folder, envelope)
            self._jobs[name] = None if plan is None else _Job(plan, self._party, self._folder, name)
        return self._jobs[name]

    def _come(self, job: _Job, points: dict[int, When], when: When) -> None:
        for number, moment in points.items():
            if moment == when and job.note(number):
                self._kill()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _address(envelope: Envelope) -> Address | None:
    try:
        return parse_address(envelope.address)
    except MalformedAddress:
        return None
