"""RabbitMQ through aio-pika keeps the promises."""

from collections.abc import AsyncIterator

import pytest

from broker.base import Broker
from broker.rabbitmq import RabbitBroker
from tests.broker.contract import PREFETCH, BrokerContract, BrokerFactory
from tests.broker.contract import place as place  # a fixture


@pytest.fixture
async def broker_factory(amqp_url: str) -> AsyncIterator[BrokerFactory]:
    connections: list[Broker] = []

    async def connect(party: str) -> Broker:
        connections.append(await RabbitBroker.connect(amqp_url, name=party, prefetch=PREFETCH))
        return connections[-1]

    yield connect
    for connection in connections:
        await connection.close()


class TestRabbitBrokerKeepsThePromises(BrokerContract):
    """All of them."""
