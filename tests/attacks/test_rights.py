"""What the broker itself refuses to a party with a login of its own, and what little it lets her see."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import aio_pika
import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tercet.broker.interface import topology
from tercet.broker.interface.base import Lane
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.definitions import CONNECTIONS
from tercet.schemas.messages.address import Round
from tests.attacks.field import EVE, Raw, eves_connection
from tests.broker.contract import Inbox
from tests.guarded import VHOST, Guarded

JOB = "credit-0a1b2c3d"
BANKS = topology.exchange("bank")
JOBS = topology.standing_queue("bank", ["card"]).name
ROUND = topology.job_queue_name("bank", JOB, Round.CONTROL)
TO_CARD = topology.routing_key(JOB, Round.CONTROL, "card")
SECONDS = 5

Attempt = Callable[[AbstractChannel], Awaitable[Any]]


async def bind(channel: AbstractChannel, source: str, key: str) -> None:
    await channel.queue_declare("tercet.eve.catch", timeout=SECONDS)
    await channel.queue_bind("tercet.eve.catch", source, key, timeout=SECONDS)


async def bind_exchange(channel: AbstractChannel, key: str) -> None:
    await channel.exchange_declare("tercet.eve.relay", exchange_type="fanout", timeout=SECONDS)
    await channel.exchange_bind("tercet.eve.relay", BANKS, key, timeout=SECONDS)


def dead_lettering(exchange: str, key: str) -> Attempt:
    arguments: dict[str, Any] = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key}
    return lambda channel: channel.queue_declare("tercet.eve.bounce", arguments=arguments, timeout=SECONDS)


def publish(exchange: str, key: str) -> Attempt:
    return lambda channel: channel.basic_publish(b"as another", exchange=exchange, routing_key=key)


async def listen(channel: AbstractChannel, queue: str) -> None:
    async def ignore(_: object) -> None: ...

    await channel.basic_consume(queue, ignore, timeout=SECONDS)


ATTEMPTS: dict[str, Attempt] = {
    # what waits for another
    "get from a standing queue": lambda channel: channel.basic_get(JOBS, timeout=SECONDS),
    "consume a standing queue": lambda channel: listen(channel, JOBS),
    "consume a job's queue": lambda channel: listen(channel, ROUND),
    "consume dead letters": lambda channel: listen(channel, "tercet.bank.dead-letters"),
    "purge": lambda channel: channel.queue_purge(JOBS, timeout=SECONDS),
    "delete a queue": lambda channel: channel.queue_delete(JOBS, timeout=SECONDS),
    "delete an exchange": lambda channel: channel.exchange_delete(BANKS, timeout=SECONDS),
    # what is on its way to another
    "bind everything": lambda channel: bind(channel, BANKS, "#"),
    "bind another's key": lambda channel: bind(channel, BANKS, TO_CARD),
    "bind by wildcards": lambda channel: bind(channel, BANKS, "job.*.*.to.*"),
    "bind by a wildcard behind her name": lambda channel: bind(channel, BANKS, "#.to.eve.#"),
    "bind by a wildcard for the name": lambda channel: bind(channel, BANKS, "#.to.#"),
    "bind by a newline": lambda channel: bind(channel, BANKS, "#.to.eve\n"),
    "bind a party whose name begins alike": lambda channel: bind(channel, BANKS, "#.to.bank-2"),
    "bind the broker's dead letters": lambda channel: bind(channel, topology.DEAD_EXCHANGE, "bank"),
    "bind an exchange of her own": lambda channel: bind_exchange(channel, "#"),
    "bind the default topic exchange": lambda channel: bind(channel, "amq.topic", "#"),
    # names of others
    "declare another's queue": lambda channel: channel.queue_declare(
        topology.job_queue_name("bank", "later-0a1b2c3d", Round.CONTROL), timeout=SECONDS
    ),
    "declare another's exchange": lambda channel: channel.exchange_declare(
        "tercet.from.newcomer", exchange_type="topic", timeout=SECONDS
    ),
    "declare a queue without a name": lambda channel: channel.queue_declare("", exclusive=True, timeout=SECONDS),
    "declare a name that begins like hers": lambda channel: channel.queue_declare("tercet.eve-2.jobs", timeout=SECONDS),
    # in the name of others
    "publish as another": publish(BANKS, TO_CARD),
    "publish by the default exchange": publish("", JOBS),
    "publish as the broker's dead letters": publish(topology.DEAD_EXCHANGE, "bank"),
    "publish by another topic exchange": publish("amq.topic", TO_CARD),
    "an alternate exchange": lambda channel: channel.exchange_declare(
        "tercet.eve.alternate", exchange_type="fanout", arguments={"alternate-exchange": BANKS}, timeout=SECONDS
    ),
    "her dead letters through another's exchange": dead_lettering(BANKS, TO_CARD),
    "her dead letters through the default exchange": dead_lettering("", JOBS),
    "her dead letters among another's": dead_lettering(topology.DEAD_EXCHANGE, "bank"),
    "her exchange into another's": lambda channel: channel.exchange_bind(
        BANKS, topology.exchange(EVE), "#", timeout=SECONDS
    ),
    "her exchange into another's queue": lambda channel: channel.queue_bind(
        JOBS, topology.exchange(EVE), "#", timeout=SECONDS
    ),
}


@pytest.fixture
async def bank(guarded: Guarded) -> AsyncIterator[Inbox]:
    """Bank's queues, and what comes into its standing one."""
    broker = await RabbitBroker.connect(guarded.bare_url, name="bank", party="bank", credentials=guarded.login("bank"))
    standing, inbox = topology.standing_queue("bank", ["card"]), Inbox()
    job = topology.job_queue("bank", JOB, Round.CONTROL, ["card"])
    await broker.declare(standing)
    await broker.declare(job)
    await broker.consume(standing.name, inbox, Lane.ONLINE)
    yield inbox
    await broker.delete(standing.name)
    await broker.delete(job.name)
    await broker.close()


@pytest.fixture
async def eve(guarded: Guarded) -> AsyncIterator[Raw]:
    """Her connection."""
    async with eves_connection(guarded) as raw:
        yield raw
        await raw.ask(lambda channel: channel.queue_delete("tercet.eve.catch"))
        await raw.ask(lambda channel: channel.exchange_delete("tercet.eve.relay"))


def waiting(guarded: Guarded, queue: str) -> tuple[int, int]:
    """How many messages and consumers a queue has, by the broker's own account."""
    messages, consumers, _ = guarded.queues()[queue]
    return messages, consumers


async def refused(eve: Raw, attempt: Attempt) -> bool:
    """Whether she may not."""
    try:
        await eve.ask(attempt)
    except aiormq.ChannelAccessRefused:
        return True
    return False


async def test_the_broker_refuses_all_that_is_not_her_own(eve: Raw, bank: Inbox, guarded: Guarded):
    """Reading, binding, declaring and publishing; bank's queues are what they were, and it has heard nothing."""
    allowed = [name for name, attempt in ATTEMPTS.items() if not await refused(eve, attempt)]
    assert allowed == []
    assert waiting(guarded, JOBS) == (0, 1)
    assert bank.deliveries == []
    exchanges = guarded.node.evaluate(f'rabbit_exchange:list(<<"{VHOST}">>)')
    assert "tercet.from.bank" in exchanges
    assert "tercet.from.newcomer" not in exchanges
    assert "tercet.eve.alternate" not in exchanges


async def say(channel: AbstractChannel, properties: aiormq.spec.Basic.Properties) -> None:
    await channel.basic_publish(b"copy", exchange=topology.exchange(EVE), routing_key="nowhere", properties=properties)


async def test_copies_of_what_she_says_go_to_nobody_who_does_not_listen_to_her(eve: Raw, bank: Inbox, guarded: Guarded):
    """CC and BCC name keys at her own exchange, where bank's queue is not bound here."""
    key = topology.announce_key(JOB, "bank")
    for header in ("CC", "BCC"):
        properties = aiormq.spec.Basic.Properties(headers={header: [key, JOBS]})
        await eve.ask(partial(say, properties=properties))
    assert waiting(guarded, JOBS) == (0, 1)
    assert bank.deliveries == []


async def test_a_count_is_all_that_she_can_learn_of_a_queue_whose_name_she_knows(eve: Raw, bank: Inbox):
    """Messages that wait and consumers, never one of them; from 4.3 on RabbitMQ tells her not even that.

    docs/broker.md says so. A job's id has eight digits of a digest that only its parties know.
    """
    try:
        looked = await eve.ask(lambda channel: channel.queue_declare(ROUND, passive=True))
    except aiormq.ChannelAccessRefused:
        return
    assert (looked.message_count, looked.consumer_count) == (0, 0)
    with pytest.raises(aiormq.ChannelNotFoundEntity):
        await eve.ask(lambda channel: channel.queue_declare("tercet.bank.other-0a1b2c3d.control", passive=True))


async def opened(guarded: Guarded, stack: AsyncExitStack, most: int) -> int:
    """How many connections of hers there are when the broker takes no more."""
    for number in range(most):
        try:
            await stack.enter_async_context(await aio_pika.connect(guarded.url(EVE)))
        except aiormq.AMQPError:
            return number
    return most


async def test_connections_without_end_are_refused_and_are_her_own_loss(guarded: Guarded, bank: Inbox):
    """Each user may have so many; bank's are its own."""
    async with AsyncExitStack() as stack:
        assert await opened(guarded, stack, 2 * CONNECTIONS) <= CONNECTIONS
        broker = await RabbitBroker.connect(guarded.bare_url, name="bank", credentials=guarded.login("bank"))
        await broker.close()
