"""RabbitMQ through aio-pika keeps the promises."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tercet.broker.interface.base import Broker, Disconnected
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.consumer import RabbitConsumer
from tests.broker.contract import PREFETCH, BrokerContract, BrokerFactory, Place, Shortage, open_queue
from tests.broker.contract import place as place  # a fixture
from tests.rabbitmq_node import Node, short_of_memory


@pytest.fixture
async def broker_factory(request: pytest.FixtureRequest) -> AsyncIterator[BrokerFactory]:
    short = "shortage" in request.fixturenames  # which is of the run's own node
    url = request.getfixturevalue("rabbitmq").url if short else request.getfixturevalue("amqp_url")
    async with AsyncExitStack() as stack:

        async def connect(party: str) -> Broker:
            broker = await RabbitBroker.connect(url, name=party, prefetch=PREFETCH)
            stack.push_async_callback(broker.close)
            return broker

        yield connect


@pytest.fixture
def shortage(rabbitmq: Node) -> Shortage:
    return lambda: short_of_memory(rabbitmq)


class TestRabbitBrokerKeepsThePromises(BrokerContract):
    """All of them."""


async def test_an_end_that_fails_leaves_no_connection(amqp_url: str, place: Place, monkeypatch: pytest.MonkeyPatch):
    """Nor what restores it: that went on for ever, and the program could not end."""
    broker = await RabbitBroker.connect(amqp_url, name="bank")
    await open_queue(broker, place)
    connections = [link._connection for link in broker._links.values()]

    async def lost(_: RabbitConsumer) -> None:
        raise Disconnected("while the consumer ended")

    monkeypatch.setattr(RabbitConsumer, "cancel", lost)
    with pytest.raises(Disconnected):
        await broker.close()
    assert [connection.is_closed for connection in connections] == [True, True]
