"""A broker that allows few channels on a connection is waited for, or refused at start; nothing spins."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiormq
import pytest

from tercet.agents.doctor.broker import _channels
from tercet.agents.doctor.finding import Outcome
from tercet.broker.interface.base import Lane, Overloaded, Queue, Refused
from tercet.broker.rabbitmq import channels as rabbitmq_channels
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.channels import FEW_CHANNELS, LEAST_CHANNELS, MOST_CHANNELS, Channels
from tests.broker.contract import Inbox
from tests.rabbitmq_node import Node

SECONDS = 30.0


def connection(allowed: int, *used: int) -> aiormq.Connection:
    """What is looked at of a connection."""
    tune = SimpleNamespace(channel_max=allowed)
    return cast(aiormq.Connection, SimpleNamespace(connection_tune=tune, channels=dict.fromkeys(used)))


async def all_numbers(channels: Channels) -> list[int]:
    """Every number, all held at once."""
    async with AsyncExitStack() as stack:
        return [await stack.enter_async_context(channels.reserve_number()) for _ in range(channels._free.qsize())]


@pytest.mark.parametrize("allowed", [LEAST_CHANNELS, 16, 20, 36, 64, 128, MOST_CHANNELS, 0, 65_535])
async def test_numbers_are_within_what_is_allowed_and_leave_some_to_the_library(allowed: int) -> None:
    """At both ends; 0 means that any number is."""
    found = await all_numbers(Channels(connection(allowed)))
    assert len(set(found)) == len(found) >= LEAST_CHANNELS // 2
    assert min(found) > 2  # two are open for as long as the connection is
    assert max(found) < (min(allowed, MOST_CHANNELS) or MOST_CHANNELS)


@pytest.mark.parametrize("allowed", range(1, LEAST_CHANNELS))
def test_fewer_than_an_agent_needs_are_refused_with_the_remedy(allowed: int) -> None:
    """Before anything is declared; the doctor says the same."""
    with pytest.raises(Refused, match="channel_max"):
        Channels(connection(allowed))
    found = _channels(allowed)
    assert found is not None
    assert found.outcome is Outcome.FAIL


def test_the_doctor_warns_of_few() -> None:
    """And says nothing where there are enough."""
    few = _channels(LEAST_CHANNELS)
    assert few is not None
    assert few.outcome is Outcome.WARN
    assert _channels(FEW_CHANNELS) is None


async def test_a_free_number_is_waited_for_and_the_event_loop_turns_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a deadline with a name; the longest rested is next."""
    monkeypatch.setattr(rabbitmq_channels, "NUMBER_SECONDS", 0.3)
    channels = Channels(connection(LEAST_CHANNELS, 3))  # the library uses one of them
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(channels.reserve_number()) for _ in range(3)]
        assert 3 not in held
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        turning = asyncio.create_task(turn())
        with pytest.raises(Overloaded, match="deadline 'channel'"):
            await stack.enter_async_context(channels.reserve_number())
        turning.cancel()
        assert turns > 5
    async with channels.reserve_number() as again:
        assert again == held[-1]  # given back first


@pytest.fixture(scope="module", params=[16, 64])
def narrow(request: pytest.FixtureRequest, rabbitmq: Node) -> Iterator[Node]:
    """The run's own node, which allows few channels on a connection for a while."""
    with allowing(rabbitmq, request.param):
        yield rabbitmq


@contextmanager
def allowing(node: Node, most: int) -> Iterator[None]:
    """Let connections that are made in the block have so many channels."""
    before = node.evaluate("{ok, Most} = application:get_env(rabbit, channel_max), Most")
    node.evaluate(f"application:set_env(rabbit, channel_max, {most})")
    try:
        yield
    finally:
        node.evaluate(f"application:set_env(rabbit, channel_max, {before})")


async def test_many_jobs_at_once_open_their_queues_on_few_channels(narrow: Node) -> None:
    """Six jobs of nine queues, of which each takes several questions."""
    bank, card = [await RabbitBroker.connect(narrow.url, name=name, party=name) for name in ("bank", "card")]
    names = [f"tercet.bank.job-{job}.{round_}" for job in range(6) for round_ in range(9)]
    queues = [Queue(name, (("tercet.from.card", name), ("tercet.from.bank", name))) for name in names]
    inboxes: dict[str, Any] = {name: Inbox() for name in names}
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(bank.declare(queue) for queue in queues))
        for name in names:
            await bank.consume(name, inboxes[name], Lane.ONLINE)
        assert all(bank.consuming(name) for name in names)
        await asyncio.gather(*(bank.delete(name) for name in names))
    assert bank.reconnects == card.reconnects == 0
    await bank.close()
    await card.close()


async def test_a_broker_that_allows_too_few_is_refused_at_start(rabbitmq: Node) -> None:
    """With what its operator can do; no number beyond what is allowed is ever used."""
    with allowing(rabbitmq, 5):
        async with asyncio.timeout(SECONDS):
            with pytest.raises(Refused, match="channel_max"):
                await RabbitBroker.connect(rabbitmq.url, name="bank")
