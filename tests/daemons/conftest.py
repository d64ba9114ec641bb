"""What only tests of whole daemons need."""

import asyncio
from collections.abc import Callable

import aio_pika
import aiormq
import pytest

from tercet.broker.interface import topology

PARTIES = {"bank": "data", "card": "data", "notary": "helper"}


@pytest.fixture
def queues_of(amqp_url: str) -> Callable[[str], list[str]]:
    """Asks the broker which queues of a job there are."""
    return lambda job: asyncio.run(_queues_of(amqp_url, job))


async def _queues_of(url: str, job: str) -> list[str]:
    names = [topology.job_queue_name(p, job, r) for p, role in PARTIES.items() for r in topology.ROUNDS[role]]
    async with await aio_pika.connect(url) as connection:
        return [name for name in names if await _exists(connection, name)]


async def _exists(connection: aio_pika.abc.AbstractConnection, name: str) -> bool:
    channel = await connection.channel()
    try:
        await channel.declare_queue(name, passive=True)
    except aiormq.ChannelNotFoundEntity:
        return False
    await channel.close()
    return True
