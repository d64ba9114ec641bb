"""What is refused is kept with the reason, once, for its party alone; and a flood of it leaves a trickle."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.broker.interface import topology
from tercet.broker.interface.base import Delivery, Envelope, Lane
from tercet.broker.interface.dead_letters import BURST, DeadLetter, clean_text
from tercet.broker.interface.rate_limiter import MAX_SENDERS, RateLimiter
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.dead_letters import read_dead_letters
from tercet.schemas.core.visible import escape_invisible
from tests.broker.contract import Inbox, Place, settled
from tests.guarded import Guarded

Connect = Callable[[str], Awaitable[RabbitBroker]]
STRANGE = "\x1b[31mred\u202e\n"


@pytest.fixture
async def connect(guarded: Guarded) -> AsyncIterator[Connect]:
    """A party's access with its own rights; its earlier dead letters are gone."""
    connections = []

    async def connected(party: str) -> RabbitBroker:
        broker = await RabbitBroker.connect(guarded.bare_url, name=party, party=party, credentials=guarded.login(party))
        connections.append(broker)
        await read_dead_letters(broker, party, 10_000, remove=True)
        return broker

    yield connected
    for broker in connections:
        await broker.delete(topology.standing_queue("bank", []).name) if broker is connections[0] else None
        await broker.close()


def refusing(why: str) -> Callable[[Delivery], Awaitable[None]]:
    """A handler that takes nothing."""

    async def handler(delivery: Delivery) -> None:
        await delivery.reject(why)

    return handler


def envelope(sender: str = "eve", body: bytes = b"poison", **changes: object) -> Envelope:
    """Something for bank's standing queue."""
    fields = {
        "exchange": topology.exchange(sender),
        "routing_key": topology.announce_key("x-1", "bank"),
        "body": body,
        "kind": "job",
        "address": "an address",
        "job": "x-1",
        "sender": "card",
    }
    return Envelope(**fields | changes)  # type: ignore[arg-type]


async def found(broker: RabbitBroker, count: int, party: str = "bank") -> list[DeadLetter]:
    """The party's dead letters, once there are so many."""
    async with asyncio.timeout(10):
        while True:
            letters, more = await read_dead_letters(broker, party, 10_000)
            if len(letters) >= count:
                assert more == 0
                return letters
            await asyncio.sleep(0.05)


async def at_rest(broker: RabbitBroker, party: str) -> None:
    """Return when what this party was about to be delivered has had time to: a message has gone there and back."""
    queue, inbox = topology.console_queue(party, Place().token), Inbox()
    await broker.declare(queue)
    await broker.consume(queue.name, inbox, Lane.ONLINE)
    ((exchange, key),) = queue.bindings
    for _ in range(3):
        await broker.publish(envelope(exchange=exchange, routing_key=key), Lane.ONLINE)
    await inbox.holds(3)
    await broker.delete(queue.name)


async def listening(bank: RabbitBroker, handler: Callable[[Delivery], Awaitable[None]]) -> None:
    """Bank's standing queue, consumed."""
    queue = topology.standing_queue("bank", ["card", "eve"])
    await bank.declare(queue)
    await bank.consume(queue.name, handler, Lane.ONLINE)


async def test_what_is_refused_is_kept_with_the_reason_and_does_not_come_again(connect: Connect):
    """Who may publish through the exchange is who has sent it, whatever the letter says; the body is not kept."""
    bank, eve = await connect("bank"), await connect("eve")
    await listening(bank, refusing(f"it does not open {STRANGE}"))
    await eve.publish(envelope(kind=STRANGE, body=b"secret"), Lane.ONLINE)
    (letter,) = await found(bank, 1)
    assert letter.reason == f"it does not open {clean_text(STRANGE)}"
    assert (letter.exchange, letter.sender, letter.kind) == ("tercet.from.eve", "card", clean_text(STRANGE))
    assert (letter.address, letter.job, letter.size) == ("an address", "x-1", 6)
    assert not set(STRANGE) & {"\x1b", "\n"} & set(letter.kind)
    await at_rest(bank, "bank")
    assert await found(bank, 1) == [letter]  # looked at, and refused, once
    assert (await read_dead_letters(bank, "bank", 10, remove=True)).letters == [letter]
    assert (await read_dead_letters(bank, "bank", 10)).letters == []


async def test_a_flood_leaves_a_trickle_and_does_not_hide_what_others_send(connect: Connect):
    """Of one sender's letters some are kept and the rest counted."""
    bank, eve, card = await connect("bank"), await connect("eve"), await connect("card")
    await listening(bank, refusing("no"))
    async with asyncio.TaskGroup() as tasks:
        for number in range(4 * BURST):
            tasks.create_task(eve.publish(envelope(address=f"a {number}", body=bytes(2000)), Lane.ONLINE))
    await card.publish(envelope("card"), Lane.ONLINE)
    letters = await found(bank, BURST + 1)
    senders = [letter.exchange for letter in letters]
    assert senders.count("tercet.from.card") == 1
    assert BURST <= senders.count("tercet.from.eve") <= BURST + 2


async def test_what_expires_in_a_queue_lies_with_the_dead_letters_by_policy(connect: Connect):
    """No agent was there to say so."""
    bank, eve = await connect("bank"), await connect("eve")
    await bank.declare(topology.standing_queue("bank", ["eve"]))
    await eve.publish(envelope(expires=0.001), Lane.ONLINE)
    (letter,) = await found(bank, 1)
    assert letter.reason == "RabbitMQ: expired in tercet.bank.jobs"
    assert (letter.address, letter.size) == ("an address", 6)


async def test_what_is_rejected_without_a_letter_lies_with_the_dead_letters_by_policy(
    guarded: Guarded, connect: Connect
):
    """As by an agent that could write none."""
    bank, eve = await connect("bank"), await connect("eve")
    mute = await RabbitBroker.connect(guarded.bare_url, name="bank", credentials=guarded.login("bank"))
    await listening(mute, refusing("lost"))
    await eve.publish(envelope(), Lane.ONLINE)
    (letter,) = await found(bank, 1)
    assert letter.reason == "RabbitMQ: rejected in tercet.bank.jobs"
    await mute.close()


async def test_a_dead_letter_cannot_be_made_to_go_to_somebody_else(connect: Connect):
    """What RabbitMQ dead-letters goes by the policy's key: copies to other keys are dropped with the sender's own."""
    import aio_pika

    bank, card = await connect("bank"), await connect("card")
    await bank.declare(topology.standing_queue("bank", ["eve"]))
    inbox = Inbox()
    queue = topology.standing_queue("card", ["bank"])
    await card.declare(queue)
    await card.consume(queue.name, inbox, Lane.ONLINE)
    eve = await connect("eve")
    copies = aio_pika.Message(b"poison", headers={"CC": [topology.announce_key("x-1", "card")]}, expiration=0.001)
    await eve.ask(
        "publishing",
        lambda channel: channel.basic_publish(
            copies.body,
            exchange=topology.exchange("eve"),
            routing_key=topology.announce_key("x-1", "bank"),
            properties=copies.properties,
        ),
    )
    await found(bank, 1)
    await at_rest(card, "card")
    assert inbox.deliveries == []  # card does not listen to eve, and bank has passed nothing on
    await card.delete(queue.name)


async def test_without_definitions_the_queue_is_made_at_the_first_letter(amqp_url: str):
    """A user with wider rights needs nothing prepared."""
    place = Place()
    party = f"p-{place.token}"
    broker = await RabbitBroker.connect(amqp_url, name=party, party=party)
    assert await read_dead_letters(broker, party, 10) == ([], 0)
    await broker.declare(place.queue)
    await broker.consume(place.queue.name, refusing("no"), Lane.ONLINE)
    for number in range(3):
        await broker.publish(place.envelope(number), Lane.ONLINE)
    assert [letter.reason for letter in await found(broker, 3, party)] == ["no"] * 3
    letters, more = await read_dead_letters(broker, party, 2, remove=True)
    assert (len(letters), more) == (2, 1)
    await broker.delete(topology.dead_letter_queue(party).name)
    await broker.close()


async def test_a_queue_that_takes_no_letter_stops_no_handler(connect: Connect, guarded: Guarded):
    """Here it has been deleted under way: what is refused then is dropped, and the next is kept again."""
    bank, eve = await connect("bank"), await connect("eve")
    await listening(bank, refusing("no"))
    await eve.publish(envelope(), Lane.ONLINE)
    await found(bank, 1)
    await bank.delete(topology.dead_letter_queue("bank").name)
    await eve.publish(envelope(), Lane.ONLINE)
    await at_rest(bank, "bank")
    await eve.publish(envelope(), Lane.ONLINE)
    (letter,) = await found(bank, 1)
    assert letter.reason == "no"
    guarded.node.load_definitions(guarded.folder / "definitions.json")


async def test_the_in_process_broker_keeps_them_too():
    """For simulation and tests."""
    memory_broker = MemoryBroker()
    card, place = memory_broker.connect("card"), Place()
    await card.declare(place.queue)
    await card.consume(place.queue.name, refusing("because"), Lane.ONLINE)
    await card.publish(place.envelope(), Lane.ONLINE)
    await settled(card)
    ((party, letter),) = memory_broker.dead_letters
    assert (party, letter.reason) == ("card", "because")


@given(st.text(max_size=600))
def test_any_text_is_fit_for_a_terminal_and_for_json(text: str):
    """However strange."""
    cleaned = clean_text(text)
    assert escape_invisible(cleaned) == cleaned
    assert len(cleaned) <= 255
    assert json.loads(json.dumps(cleaned)) == cleaned


def test_an_allowance_is_a_burst_and_then_one_in_so_many_seconds():
    """Each sender's own; how many were withheld is told with the next."""
    now = [0.0]
    limiter = RateLimiter(2, 10.0, lambda: now[0])
    assert [limiter.admit("eve") for _ in range(4)] == [0, 0, None, None]
    assert limiter.admit("card") == 0
    now[0] = 10.0
    assert [limiter.admit("eve") for _ in range(2)] == [2, None]
    for number in range(3 * MAX_SENDERS):
        limiter.admit(f"made up {number}")
    assert len(limiter._buckets) <= MAX_SENDERS + 1
