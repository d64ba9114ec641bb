"""A job's queues are all consumed, or none is: whenever an attempt is given up in mid-opening, the next one can."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.daemon import health
from tercet.agents.machine.events import Ordered
from tercet.agents.machine.outcomes import Restart
from tercet.agents.runs.queues import REOPEN_BEATS, JobQueues
from tercet.agents.simulation.simulate import introduce
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, Consumer, Delivery, Disconnected, Envelope, Handler, Lane, Queue
from tercet.broker.memory.broker import MemoryBroker, MemoryConnection
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.address import Round
from tercet.schemas.messages.kinds import Job
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, QUICK, Scene, make_table, party_settings, scene, three
from tests.agents.scenes import job as job_of

TURNS = 3  # of the event loop that a call to the broker takes before and after what it does
EVERY = 7  # of the moments for another attempt one in so many is tried: each turn of a call comes, of other calls
HEARD = {"accepted", "ready", "aligned", "training", "released", "done"}  # by then the label party was heard


class Slow:
    """A broker that is somewhere else: each call takes some turns of the event loop, before and after it is done.

    Like RabbitMQ's side it takes a consumer back whose call is cancelled.
    """

    def __init__(self, inner: MemoryConnection) -> None:
        self._inner = inner
        self.waits = 0  # so often a call was waited for

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def _wait(self) -> None:
        for _ in range(TURNS):
            self.waits += 1
            await asyncio.sleep(0)

    async def declare(self, queue: Queue) -> None:
        """See `Broker.declare`."""
        await self._wait()
        await self._inner.declare(queue)
        await self._wait()

    async def consume(self, queue_name: str, handler: Handler, lane: Lane) -> Consumer:
        """See `Broker.consume`."""
        await self._wait()
        consumer = await self._inner.consume(queue_name, handler, lane)
        try:
            await self._wait()
        except BaseException:
            await consumer.cancel()
            raise
        return consumer


@dataclass
class Place:
    """One party's queues of one job, at a broker that takes its time."""

    queues: JobQueues
    connection: MemoryConnection
    broker: Slow
    heard: list[str] = field(default_factory=list)

    @property
    def consumed(self) -> set[str]:
        """The names of the job's queues that have a consumer."""
        memory_broker = self.connection.broker
        return {name for name, queue in memory_broker.queues.items() if queue.consumer is not None}

    @property
    def all(self) -> set[str]:
        """The names of those that should have one."""
        return {topology.job_queue_name(BANK, "credit-1", round_) for round_ in topology.ROUNDS["data"]}


def place(folder: Path) -> Place:
    """The bank's, of a job whose description says who takes part."""
    folder.mkdir(exist_ok=True)
    make_table(folder / f"{BANK}.csv", label=True)
    settings = {party: party_settings(folder, party) for party in (BANK, CARD, NOTARY)}
    memory_broker, (own, _) = MemoryBroker(), introduce(settings, folder)[BANK]
    connection, heard = memory_broker.connect(BANK), list[str]()

    async def deliver(delivery: Delivery) -> None:
        heard.append(delivery.envelope.address)
        await delivery.ack()

    job = Job.model_construct(id="credit-1", description=job_of())
    broker = Slow(connection)
    return Place(JobQueues(broker, own, job, deliver), connection, broker, heard)


def said(round_: Round, address: str) -> Envelope:
    """What the card processor says to the bank."""
    key = topology.routing_key("credit-1", round_, BANK)
    return Envelope(topology.exchange(CARD), key, b"", "progress", address, "credit-1", CARD)


async def cut_short(opening: Awaitable[None], turns: int) -> bool:
    """Whether it was still at work after so many turns of the event loop, and was cancelled then."""
    task = asyncio.ensure_future(opening)
    for _ in range(turns):
        await asyncio.sleep(0)
    there = not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return there


async def turns_of(folder: Path) -> int:
    """Of the event loop, to open all queues undisturbed."""
    undisturbed = place(folder)
    task, turns = asyncio.ensure_future(undisturbed.queues.open(1.0)), 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert undisturbed.consumed == undisturbed.all
    return turns


async def test_whenever_the_opening_is_cancelled_none_is_consumed_and_the_next_one_consumes_all(
    tmp_path: Path,
) -> None:
    """At each turn of the event loop; what came meanwhile is heard once they are open."""
    last = await turns_of(tmp_path)
    assert last > TURNS * len(topology.ROUNDS["data"])
    for turn in range(last):
        here = place(tmp_path)
        assert await cut_short(here.queues.open(1.0), turn), turn
        assert here.consumed == set(), turn
        assert not here.connection.consumers
        await here.queues.open(1.0)
        assert here.consumed == here.all, turn
        assert here.queues.are_consumed
        await here.connection.publish(said(Round.CONTROL, f"at {turn}"), Lane.ONLINE)
        for _ in range(5):
            await asyncio.sleep(0)
        assert here.heard == [f"at {turn}"]
        await here.queues.cancel_consumers()
        assert here.consumed == set()


async def test_cancelled_twice_the_consumers_are_given_back_all_the_same(tmp_path: Path) -> None:
    """While they are being given back, and another opening waits for that."""
    last = await turns_of(tmp_path)
    for turn in range(0, last, 5):
        here = place(tmp_path)
        first = asyncio.ensure_future(here.queues.open(1.0))
        for _ in range(turn):
            await asyncio.sleep(0)
        again = asyncio.ensure_future(here.queues.open(1.0))
        first.cancel()
        await asyncio.sleep(0)
        first.cancel()
        await again
        await asyncio.wait([first])
        assert here.consumed == here.all


async def test_two_openings_at_once_are_one(tmp_path: Path) -> None:
    """The second finds all done."""
    here = place(tmp_path)
    await asyncio.gather(here.queues.open(1.0), here.queues.open(1.0))
    assert here.consumed == here.all


class Refusing(Slow):
    """Fails at the call with this number, in a way that nobody has thought of."""

    def __init__(self, inner: MemoryConnection, number: int, error: Exception) -> None:
        super().__init__(inner)
        self._number, self._error, self._calls = number, error, 0

    async def _wait(self) -> None:
        self._calls += 1
        if self._calls == self._number:
            raise self._error
        await super()._wait()


@pytest.mark.parametrize("error", [Disconnected("away"), RuntimeError("a bug")], ids=["broker", "bug"])
async def test_whatever_goes_wrong_none_is_consumed_and_nothing_is_declared_later(
    tmp_path: Path, error: Exception
) -> None:
    """An error of the broker, or of our own; and no declaration is still on its way."""
    calls = 4 * len(topology.ROUNDS["data"]) - 1
    for number in range(1, calls, 3):
        here = place(tmp_path)
        here.queues._broker = Refusing(here.connection, number, error)
        with pytest.raises(type(error)):
            await here.queues.open(-1.0)
        assert here.consumed == set()
        declared = set(here.connection.broker.queues)
        for _ in range(2 * TURNS):
            await asyncio.sleep(0)
        assert set(here.connection.broker.queues) == declared


class Distant(Slow):
    """A broker at which each call takes as long as queues may go without a consumer."""

    consumed = 0

    async def _wait(self) -> None:
        await asyncio.sleep(REOPEN_BEATS * QUICK.heartbeat)

    async def consume(self, queue_name: str, handler: Handler, lane: Lane) -> Consumer:
        """See `Broker.consume`."""
        self.consumed += 1
        return await super().consume(queue_name, handler, lane)


async def test_queues_that_are_still_being_opened_are_not_opened_again(tmp_path: Path) -> None:
    """However long that takes: it would cost a busy broker as much again, and deliver twice."""
    here = place(tmp_path)
    here.queues._broker = distant = Distant(here.connection)
    keeping = asyncio.create_task(here.queues.keep_consumed())
    await here.queues.open(1.0)
    await asyncio.sleep(2 * QUICK.heartbeat)
    keeping.cancel()
    assert (distant.consumed, here.consumed) == (len(here.all), here.all)


# --- whole agents


class Far(Scene):
    """A scene in which the broker takes its time, and the label party begins another attempt while a job is opened."""

    turn = 0  # of the card processor's calls for a job, at which that happens

    def broker_of(self, connection: MemoryConnection) -> Broker:
        """The card processor's is slow."""
        return Disturbed(connection, self) if connection.party == CARD else connection

    def restart(self) -> None:
        """What the label party does after a fault that may pass: its next heartbeat tells of another attempt."""
        for run in self.agents[BANK].runs:
            run.feed(Ordered(Restart(run.attempts.number + 1, NOTARY)))


class Disturbed(Slow):
    """The card processor's way to the broker."""

    def __init__(self, inner: MemoryConnection, stage: Far) -> None:
        super().__init__(inner)
        self._stage = stage

    async def _wait(self) -> None:
        for _ in range(TURNS):
            self._stage.turn -= 1
            if self._stage.turn == 0:
                self._stage.restart()
            await asyncio.sleep(0.0005)  # what the label party says meanwhile arrives


async def test_no_late_start_hangs(tmp_path: Path) -> None:
    """Another attempt comes at any moment at which a party opens the job's queues: it accepts, and hears of the end."""
    settings = three(tmp_path, PATIENT.model_copy(update={"heartbeat": 0.02}))
    for party, own in settings.items():
        settings[party] = own.model_copy(update={"recovery": Recovery(attempts=20)})
    last = 2 * TURNS * 2 * len(topology.ROUNDS["data"])
    async with scene(settings, tmp_path, make=Far) as stage:
        assert isinstance(stage, Far)
        await stage.start()
        again = 0
        moments = range(1, last + 1, EVERY)
        for number in moments:
            stage.turn = number
            name = stage.submit(job_of(f"late-{number}"))
            await stage.until(lambda: stage.turn <= 0 and stage.state(CARD, name) in HEARD, seconds=20)  # noqa: B023
            stage.agents[BANK].cancel(name)
            ended = await stage.ended(name, seconds=20)
            assert {status.state for status in ended.values()} == {"cancelled"}, number
            again += ended[CARD].attempt > 1
        assert again > len(moments) / 2


async def test_a_job_whose_consumers_are_gone_opens_its_queues_again_and_hears_that_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has taken them away; health and metrics know it until then."""
    async with scene(three(tmp_path, PATIENT.model_copy(update={"heartbeat": 0.1})), tmp_path) as stage:
        await stage.start()
        monkeypatch.setattr(health, "UNHEARD_SECONDS", 0.3)
        name = stage.submit(job_of(epochs=2000))
        await stage.until(lambda: stage.state(CARD, name) == "training")
        (run,), connection = stage.agents[CARD].runs, stage.connection(CARD)
        consumers = run._shell.work.queues._consumers
        for consumer in consumers:
            await consumer.cancel()
        assert not run._shell.work.queues.are_consumed
        await stage.until(lambda: bool(health.health_problems(stage.agents[CARD], connection)))
        assert health.count_unconsumed(stage.agents[CARD]) == 1
        assert "a running job's queues are not consumed" in health.readiness_problems(stage.agents[CARD], connection)
        stage.agents[BANK].cancel(name)
        ended = await stage.ended(name)
        assert {status.state for status in ended.values()} == {"cancelled"}
        assert health.health_problems(stage.agents[CARD], connection) == []
