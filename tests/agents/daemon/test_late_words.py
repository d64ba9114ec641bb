"""What partners say of a job while an agent is away never becomes a dead letter: nobody has lost anything."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from tercet.agents.daemon.ping import Pinger
from tercet.agents.jobs.announcer import Announcer
from tercet.broker.interface import topology
from tercet.broker.interface.base import Delivery, Lane
from tercet.broker.memory.broker import MemoryBroker
from tests import virtual_time
from tests.agents.policy.test_check import KEYS, announcing, settings_of
from tests.agents.scenes import BANK, CARD, job

LONG = 7200.0  # seconds, far beyond every deadline of an answer


async def heard_late(*, announces: bool = False) -> tuple[list[str], list[str]]:
    """The kinds that reach the card processor's agent when it is back, and its dead letters."""
    memory_broker, kinds = MemoryBroker(), list[str]()
    bank, card = memory_broker.connect(BANK), memory_broker.connect(CARD)
    await card.declare(topology.standing_queue(CARD, [BANK]))
    announced, settings = announcing(job()), settings_of(BANK)
    announcer = Announcer(settings, KEYS[BANK], bank)
    await announcer.inquire(announced, CARD)
    await announcer.resume(announced, CARD)
    if announces:
        await announcer.announce(announced, CARD, lambda: True)
    async with asyncio.TaskGroup() as tasks:

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            tasks.create_task(work)

        pinger = Pinger(settings, KEYS[BANK], bank, spawn)
        await pinger.ping_partners()
    await asyncio.sleep(LONG)

    async def receive(delivery: Delivery) -> None:
        kinds.append(delivery.envelope.kind)
        await delivery.ack()

    consumer = await card.consume(topology.standing_queue(CARD, [BANK]).name, receive, Lane.ONLINE)
    await asyncio.sleep(1)
    await consumer.cancel()
    return kinds, [letter.kind for _, letter in memory_broker.dead_letters]


def test_questions_reach_an_agent_that_is_back_however_late() -> None:
    """Each is answered, or passed over, then; only an announcement is of no use any more."""
    kinds, dead = virtual_time.run(heard_late())
    assert sorted(kinds) == ["inquiry", "ping", "resumption"]
    assert dead == []


def test_an_announcement_that_has_expired_is_a_dead_letter_here_too() -> None:
    """As RabbitMQ makes it."""
    kinds, dead = virtual_time.run(heard_late(announces=True))
    assert "job" not in kinds
    assert dead == ["job"]
