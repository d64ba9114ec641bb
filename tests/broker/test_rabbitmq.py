"""RabbitMQ through aio-pika keeps the promises."""

from collections.abc import AsyncIterator

import pytest

from broker.base import Broker
from broker.rabbitmq import RabbitBroker
from tests.broker.contract import PREFETCH, BrokerContract, BrokerFactory, Shortage
from tests.broker.contract import place as place  # a fixture
from tests.rabbitmq_node import Node, short_of_memory


@pytest.fixture
async def broker_factory(request: pytest.FixtureRequest) -> AsyncIterator[BrokerFactory]:
    short = "shortage" in request.fixturenames  # which is of the run's own node
    url = request.getfixturevalue("rabbitmq").url if short else request.getfixturevalue("amqp_url")
    connections: list[Broker] = []

    async def connect(party: str) -> Broker:
        connections.append(await RabbitBroker.connect(url, name=party, prefetch=PREFETCH))
        return connections[-1]

    yield connect
    for connection in connections:
        await connection.close()


@pytest.fixture
def shortage(rabbitmq: Node) -> Shortage:
    return lambda: short_of_memory(rabbitmq)


class TestRabbitBrokerKeepsThePromises(BrokerContract):
    """All of them."""
