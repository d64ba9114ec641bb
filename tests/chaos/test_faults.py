"""The faulty broker does what its plan says and nothing else, so that what is found with it is the agents' doing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tercet.broker.interface.base import Broker, Delivery, Envelope, Lane, Queue, Unroutable
from tercet.broker.memory.broker import MemoryBroker
from tercet.schemas.core.names import NAME_PATTERN
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.address import Address, Round
from tests.chaos.faults import FaultyBroker
from tests.chaos.plans import Chances, Plan, Point, marker, plan_file
from tests.chaos.runs import training_job
from tests.chaos.scenarios import PARTIES, STAGES, everything

JOB, OTHER = "credit-01234567", "other-01234567"
MANY = 200


def address(number: int, job: str = JOB, round_: str = Round.ACTIVATIONS) -> Address:
    """Of the card processor's n-th message to the bank."""
    return Address(job, 1, round_, "output", 0, number, "card", "bank")


def envelope(number: int, job: str = JOB, round_: str = Round.ACTIVATIONS) -> Envelope:
    """That message."""
    at = str(address(number, job, round_))
    return Envelope("tercet.from.card", f"job.{job}.to.bank", b"sealed", "masked activation", at, job, "card")


class Killed(BaseException):
    """In place of a signal."""


def kill() -> None:
    """What the process would not survive."""
    raise Killed


class Inbox:
    """Notes which messages came, in their order."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.steps.append(int(delivery.envelope.address.split("/")[5]))
        await delivery.ack()


async def faulty(folder: Path, plan: Plan, *jobs: str, of: str = JOB) -> tuple[FaultyBroker, Inbox, MemoryBroker]:
    """The card processor's broker with a plan of a job, what comes into a queue of each job, and what is between."""
    place, inbox = MemoryBroker(), Inbox()
    bank = place.connect("bank")
    for job in jobs or (JOB,):
        await bank.declare(Queue(f"of {job}", (("tercet.from.card", f"job.{job}.to.bank"),)))
        await bank.consume(f"of {job}", inbox, Lane.ONLINE)
    return FaultyBroker(place.connect("card"), "card", written(folder, plan, of), kill), inbox, place


def written(folder: Path, plan: Plan, job: str = JOB) -> Path:
    """The folder, with a plan for a job."""
    plan_file(folder, job).write_text(plan.model_dump_json())
    return folder


async def arrived(inbox: Inbox, count: int) -> list[int]:
    """What has come, once it is so many."""
    async with asyncio.timeout(10):
        while len(inbox.steps) < count:  # noqa: ASYNC110 - told by no event
            await asyncio.sleep(0.01)
    return inbox.steps


async def send_all(broker: Broker, count: int, **envelopes: Any) -> None:
    """So many messages, handed over side by side as an outbox does."""
    await asyncio.gather(*(broker.publish(envelope(number, **envelopes), Lane.ONLINE) for number in range(count)))


async def one_by_one(broker: Broker, count: int) -> None:
    """So many messages, each when the one before it is confirmed."""
    for number in range(count):
        await broker.publish(envelope(number), Lane.ONLINE)


async def test_what_has_no_plan_passes_as_it_is(tmp_path: Path) -> None:
    """Consoles' messages, and jobs that nobody wants to disturb."""
    nasty = Plan(seed=1, chances=Chances(drop=1.0, drops=MANY, droppable=tuple(Round)))
    broker, inbox, _ = await faulty(tmp_path, nasty, JOB, OTHER, of=OTHER)
    await send_all(broker, MANY)
    assert await arrived(inbox, MANY) == list(range(MANY))
    await send_all(broker, MANY, job=OTHER)
    assert len(inbox.steps) == MANY


async def test_messages_are_lost_though_confirmed_and_no_more_than_allowed(tmp_path: Path) -> None:
    """Of the rounds that may be lost, by a chance."""
    plan = Plan(seed=2, chances=Chances(drop=0.5, drops=7, droppable=("activations",)))
    broker, inbox, _ = await faulty(tmp_path, plan)
    await send_all(broker, MANY)
    assert len(await arrived(inbox, MANY - 7)) == MANY - 7
    await send_all(broker, MANY, round_=Round.CONTROL)
    assert len(await arrived(inbox, 2 * MANY - 7)) == 2 * MANY - 7


@pytest.mark.parametrize("chances", [Chances(delay=0.3, longest=0.05), Chances(reorder=0.3)])
async def test_what_is_delayed_or_reordered_all_comes_in_another_order(tmp_path: Path, chances: Chances) -> None:
    """Nothing is lost."""
    broker, inbox, _ = await faulty(tmp_path, Plan(seed=3, chances=chances))
    await send_all(broker, MANY)
    steps = await arrived(inbox, MANY)
    assert sorted(steps) == list(range(MANY))
    assert steps != sorted(steps)


async def test_doubled_messages_come_twice_and_nothing_is_left_to_do_after_closing(tmp_path: Path) -> None:
    """The second copy is as the first; it may come when the queue is gone."""
    plan = Plan(seed=4, chances=Chances(double=0.5, latest=0.05))
    broker, inbox, _ = await faulty(tmp_path, plan)
    await send_all(broker, MANY)
    twice = sum(plan.fate(address(number), 1).again is not None for number in range(MANY))
    assert MANY / 3 < twice < MANY * 2 / 3
    assert set(await arrived(inbox, MANY + twice)) == set(range(MANY))
    assert len(inbox.steps) == MANY + twice
    await broker.publish(envelope(MANY), Lane.ONLINE)
    await broker.close()


async def test_errors_of_the_broker_reach_whoever_publishes(tmp_path: Path) -> None:
    """An outbox repeats by them."""
    broker, _, _ = await faulty(tmp_path, Plan(seed=5), OTHER)
    with pytest.raises(Unroutable):
        await broker.publish(envelope(0), Lane.ONLINE)


@pytest.mark.parametrize(("when", "reached"), [("before", 3), ("after", 4)])
async def test_a_process_dies_at_its_message_and_not_again_in_its_next_life(
    tmp_path: Path, when: Any, reached: int
) -> None:
    """Before the message has left, or when it is confirmed."""
    point = Point(party="card", rounds=("activations",), count=4, when=when)
    broker, inbox, place = await faulty(tmp_path, Plan(seed=6, points=(point,)))
    with pytest.raises(Killed):
        await one_by_one(broker, MANY)
    assert len(await arrived(inbox, reached)) == reached
    assert marker(tmp_path, JOB, 0).exists()
    await send_all(FaultyBroker(place.connect("card"), "card", tmp_path, kill), MANY)
    await arrived(inbox, reached + MANY)


async def test_a_process_dies_between_handing_over_and_confirm(tmp_path: Path) -> None:
    """The message is on its way, and the sender does not know."""
    point = Point(party="card", rounds=("activations/output",), count=1, when="between")
    broker, inbox, place = await faulty(tmp_path, Plan(seed=7, points=(point,)))
    confirming = asyncio.Event()

    async def never(_: Envelope) -> None:
        confirming.set()
        await asyncio.Event().wait()

    place.confirm = never
    with pytest.raises(Killed):
        await broker.publish(envelope(0), Lane.ONLINE)
    assert confirming.is_set()
    assert await arrived(inbox, 1) == [0]


async def test_a_point_after_another_counts_from_there_and_others_points_are_not_mine(tmp_path: Path) -> None:
    """The second death of a run, and one that is only told."""
    points = (
        Point(party="bank", rounds=("activations",), count=2),
        Point(party="card", rounds=("activations",), count=1, kills=False),
        Point(party="card", rounds=("activations",), count=3, after=1),
    )
    broker, inbox, _ = await faulty(tmp_path, Plan(seed=8, points=points))
    with pytest.raises(Killed):
        await one_by_one(broker, MANY)
    assert await arrived(inbox, 3) == [0, 1, 2]
    assert [marker(tmp_path, JOB, number).exists() for number in range(3)] == [False, True, True]


async def test_a_process_dies_before_a_message_is_handled_and_it_comes_again(tmp_path: Path) -> None:
    """An arrival counts as well as a departure."""
    place = MemoryBroker()
    inbox, bank = Inbox(), place.connect("bank")
    died = asyncio.Event()
    point = Point(party="bank", rounds=("activations",), way="in", count=2)
    broker = FaultyBroker(bank, "bank", written(tmp_path, Plan(seed=9, points=(point,))), died.set)
    await broker.declare(Queue("q", (("tercet.from.card", f"job.{JOB}.to.bank"),)))
    await broker.consume("q", inbox, Lane.ONLINE)
    card = place.connect("card")
    await card.publish(envelope(0), Lane.ONLINE)
    await arrived(inbox, 1)
    assert not died.is_set()
    await card.publish(envelope(1), Lane.ONLINE)
    await asyncio.wait_for(died.wait(), 10)


def test_a_plan_survives_its_file_and_fates_follow_from_seed_and_address_alone() -> None:
    """So a run can be run again from what it prints."""
    for scenario in everything(17):
        plan = scenario.plan
        assert Plan.model_validate_json(plan.model_dump_json(exclude_defaults=True)) == plan
        addresses = [address(number) for number in range(20)]
        assert [plan.fate(a, 1) for a in addresses] == [plan.fate(a, 1) for a in reversed(addresses)][::-1]
    assert everything(17) == everything(17)
    assert everything(17) != everything(18)


def test_there_are_fifty_scenarios_and_each_agent_and_the_broker_die_in_each_stage() -> None:
    """The names are jobs' names, and each has one of its own."""
    scenarios = everything(18)
    assert len(scenarios) >= 50
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    names = {scenario.name for scenario in scenarios}
    assert names >= {f"{who}-{stage}" for stage in STAGES for who in (*PARTIES, "broker")}
    assert all(isinstance(training_job(s.name, s.model), TrainingJob) for s in scenarios), NAME_PATTERN
