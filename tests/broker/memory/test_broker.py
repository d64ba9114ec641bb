"""The in-process broker keeps the promises, and its hooks do to messages what they say."""

import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.broker.interface.base import Broker, Disconnected, Envelope, Lane, Refused, Unroutable
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.memory.memory_queue import Delay, Drop, Duplicate, Fault, Faults, Reorder, matches
from tests.broker.contract import PREFETCH, BrokerContract, BrokerFactory, Place, Shortage, open_queue, settled
from tests.broker.contract import place as place  # a fixture


@pytest.fixture
async def memory_broker() -> MemoryBroker:
    return MemoryBroker(prefetch=PREFETCH)


@pytest.fixture
def shortage(memory_broker: MemoryBroker) -> Shortage:
    @asynccontextmanager
    async def short() -> AsyncIterator[None]:
        with memory_broker.shortage():
            yield

    return short


@pytest.fixture
async def broker_factory(memory_broker: MemoryBroker) -> AsyncIterator[BrokerFactory]:
    connections: list[Broker] = []

    async def connect(party: str) -> Broker:
        connections.append(memory_broker.connect(party))
        return connections[-1]

    yield connect
    for connection in connections:
        await connection.close()


class TestMemoryBrokerKeepsThePromises(BrokerContract):
    """All of them."""


# The hooks


async def send(memory_broker: MemoryBroker, place: Place, count: int) -> None:
    bank = memory_broker.connect("bank")
    for number in range(count):
        await bank.publish(place.envelope(number), Lane.ONLINE)


def befalls(second: Fault) -> Faults:
    """A fault for the second of the envelopes."""
    return lambda envelope, _queue: [second] if envelope.body == b"1" else []


@pytest.mark.parametrize(
    ("count", "fault", "arrived"),
    [
        (4, Drop(), [b"0", b"2", b"3"]),
        (4, Duplicate(), [b"0", b"1", b"1", b"2", b"3"]),
        (4, Duplicate(times=2), [b"0", b"1", b"1", b"1", b"2", b"3"]),
        (4, Delay(0.02), [b"0", b"2", b"3", b"1"]),
        (4, Reorder(), [b"0", b"2", b"1", b"3"]),
        (2, Reorder(), [b"0", b"1"]),  # nobody overtakes the last message of a run, which is late and not lost
    ],
)
async def test_a_fault_befalls_the_envelope_it_is_meant_for(
    place: Place, count: int, fault: Fault, arrived: list[bytes]
):
    """All others arrive as they would have."""
    memory_broker = MemoryBroker(faults=befalls(fault))
    inbox, _ = await open_queue(memory_broker.connect("card"), place)
    await send(memory_broker, place, count)
    await inbox.holds(len(arrived))
    assert inbox.bodies == arrived


async def test_a_envelope_overtakes_what_waits(place: Place):
    """When nobody consumes yet, it goes to the head of the queue."""
    memory_broker = MemoryBroker(faults=befalls(Reorder()))
    await memory_broker.connect("card").declare(place.queue)
    await send(memory_broker, place, 3)
    inbox, _ = await open_queue(memory_broker.connect("card"), place)
    await inbox.holds(3)
    assert inbox.bodies == [b"1", b"0", b"2"]


async def test_a_held_party_is_silent_and_deaf_until_it_is_released(place: Place):
    """What it sends is confirmed and waits; what is sent to it waits; then all of it goes through, in order."""
    memory_broker, back = MemoryBroker(), Place()
    inbox, _ = await open_queue(memory_broker.connect("card"), place)
    bank = memory_broker.connect("bank")
    answers, _ = await open_queue(bank, back)
    card = memory_broker.connect("card")
    with memory_broker.hold("card"):
        await send(memory_broker, place, 2)
        for number in range(2):
            await card.publish(back.envelope(number), Lane.ONLINE)
        await settled(bank)
        assert (inbox.bodies, answers.bodies) == ([], [])
    await inbox.holds(2)
    await answers.holds(2)
    assert inbox.bodies == answers.bodies == [b"0", b"1"]


async def test_a_cut_connection_loses_nothing(place: Place):
    """Publishing raises, what was unsettled comes again, consumers come back by themselves."""
    memory_broker = MemoryBroker()
    card = memory_broker.connect("card")
    inbox, _ = await open_queue(card, place, settle=False)
    await send(memory_broker, place, 2)
    await inbox.holds(2)
    await inbox.deliveries[0].ack()
    card.disconnect()
    with pytest.raises(Disconnected):
        await card.publish(place.envelope(), Lane.ONLINE)
    card.reconnect()
    await inbox.holds(3)
    assert inbox.bodies == [b"0", b"1", b"1"]
    assert inbox.deliveries[2].redelivered


async def test_the_tap_sees_what_crosses_once_and_nothing_else(place: Place):
    """Unroutable envelopes do not cross."""
    seen: list[Envelope] = []
    memory_broker = MemoryBroker(tap=seen.append)
    bank = memory_broker.connect("bank")
    await bank.declare(place.queue)
    envelope = place.envelope()
    await bank.publish(envelope, Lane.ONLINE)
    with pytest.raises(Unroutable):
        await bank.publish(place.envelope(routing_key="nobody"), Lane.ONLINE)
    assert seen == [envelope]


async def test_who_may_write_where_is_the_offices_to_say(place: Place):
    """As with RabbitMQ's permissions."""
    memory_broker = MemoryBroker(may_write=lambda party, exchange: exchange.endswith(party))
    with pytest.raises(Refused, match="bank may not write"):
        await memory_broker.connect("bank").publish(place.envelope(), Lane.ONLINE)


@given(st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_topics_match_as_the_regular_expression_would(pattern: list[str], key: list[str]):
    """The definition of AMQP's wildcards, said in another way."""
    words = {"*": r"[abc] ", "#": r"(?:[abc] )*", "a": "a ", "b": "b "}
    expected = re.fullmatch("".join(words[word] for word in pattern), "".join(f"{word} " for word in key)) is not None
    if pattern and key:
        assert matches(".".join(pattern), ".".join(key)) == expected


def changed(place: Place, field: str, value: object) -> Envelope:
    """An envelope that is sound but for one field."""
    fields: dict[str, Any] = {field: value}
    return dataclasses.replace(place.envelope(), **fields)


@pytest.mark.parametrize("field", ["exchange", "routing_key", "kind", "address", "job", "sender"])
@pytest.mark.parametrize("character", ["x", "\N{EURO SIGN}", "\N{GRINNING FACE}"])
def test_a_envelope_that_amqp_cannot_carry_cannot_be_made(place: Place, field: str, character: str):
    """255 bytes of UTF-8 are the most; the error names the field."""
    fits = character * (255 // len(character.encode()))
    assert getattr(changed(place, field, fits), field) == fits
    with pytest.raises(ValueError, match=field):
        changed(place, field, fits + character)


def test_a_envelope_carries_bytes_and_shows_none(place: Place):
    """Nothing mutable crosses, no body in a log."""
    with pytest.raises(TypeError, match="bytearray"):
        changed(place, "body", bytearray(b"mutable"))
    assert "confidential" not in repr(place.envelope(b"confidential"))
