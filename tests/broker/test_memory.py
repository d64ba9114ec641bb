"""The in-process broker keeps the promises, and its hooks do to messages what they say."""

from collections.abc import AsyncIterator

import pytest

from broker.base import Broker
from broker.memory import MemoryBroker
from tests.broker.contract import PREFETCH, BrokerContract, BrokerFactory
from tests.broker.contract import place as place  # a fixture


@pytest.fixture
async def broker_factory() -> AsyncIterator[BrokerFactory]:
    office = MemoryBroker(prefetch=PREFETCH)
    connections: list[Broker] = []

    async def connect(party: str) -> Broker:
        connections.append(office.connect(party))
        return connections[-1]

    yield connect
    for connection in connections:
        await connection.close()


class TestMemoryBrokerKeepsThePromises(BrokerContract):
    """All of them."""
