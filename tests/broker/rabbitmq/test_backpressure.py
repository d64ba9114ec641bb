"""A slow party slows the job: its queue is bounded, senders wait and fail nothing, and what is in flight is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tercet.broker.interface import topology
from tercet.broker.interface.base import Answer, Delivery, Envelope, Lane, Overloaded
from tercet.broker.interface.outbox import Outbox
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.schemas.messages.address import Round
from tests.guarded import VHOST, Guarded

BODY = bytes(32 * 1024)
QUEUE_BYTES, IN_FLIGHT, LETTERS = 8 * len(BODY), 16 * len(BODY), 150
QUEUE = topology.job_queue("card", "slow-0a1b2c3d", Round.MASKED_INPUTS, ["bank"])


class Counting(RabbitBroker):
    """Knows how often the broker had no room, and how much was on its way at most."""

    full = out = most = 0

    def send(self, envelope: Envelope, lane: Lane) -> Answer:
        self.out += len(envelope.body)
        self.most = max(self.most, self.out)
        answer = super().send(envelope, lane)
        answer.add_done_callback(lambda answer: self._count(envelope, answer))
        return answer

    def _count(self, envelope: Envelope, answer: Answer) -> None:
        self.out -= len(envelope.body)
        self.full += not answer.cancelled() and isinstance(answer.exception(), Overloaded)


@asynccontextmanager
async def two(guarded: Guarded) -> AsyncIterator[tuple[Counting, RabbitBroker]]:
    """A sender and a receiver; the receiver holds few deliveries at a time."""
    bank = await Counting.connect(guarded.bare_url, name="bank", credentials=guarded.login("bank"))
    card = await RabbitBroker.connect(guarded.bare_url, name="card", credentials=guarded.login("card"), prefetch=4)
    try:
        yield bank, card
    finally:
        await card.delete(QUEUE.name)
        await bank.close()
        await card.close()


async def test_a_full_queue_makes_its_sender_wait_and_loses_nothing(guarded: Guarded):
    """The broker refuses what has no room, and the outbox hands it over again until there is."""
    bound = f'{{"max-length-bytes": {QUEUE_BYTES}, "overflow": "reject-publish"}}'
    pattern = rf"^tercet\.card\.{QUEUE.name.split('.')[2]}\."
    guarded.node.call("rabbit_policy:parse_set", VHOST, "small", pattern, bound, "9", "queues", "tests")
    arrived: list[str] = []
    all_here, deepest = asyncio.Event(), 0

    async def slowly(delivery: Delivery) -> None:
        arrived.append(delivery.envelope.address)
        await asyncio.sleep(0.005)
        await delivery.ack()
        if len(set(arrived)) == LETTERS:
            all_here.set()

    async with two(guarded) as (bank, card):
        await card.declare(QUEUE)
        outbox = Outbox(bank, max_bytes=IN_FLIGHT)
        ((exchange, key),) = QUEUE.bindings
        envelopes = [Envelope(exchange, key, BODY, "masked inputs", f"a {n}", "slow", "bank") for n in range(LETTERS)]

        async def post() -> None:
            for envelope in envelopes:
                await outbox.post(envelope, Lane.BULK, deadline=60, name="step")

        posting = asyncio.create_task(post())
        for _ in range(20):
            deepest = max(deepest, await depth(card))
            await asyncio.sleep(0.01)
        assert not posting.done(), "nobody takes anything, and yet all is sent"
        await card.consume(QUEUE.name, slowly, Lane.BULK)
        while not posting.done():
            deepest = max(deepest, await depth(card))
        await posting
        await outbox.drain(60)
        assert not outbox.failed.done()
        await asyncio.wait_for(all_here.wait(), 10)
        await outbox.close()
        assert bank.full > 0
        assert bank.most <= IN_FLIGHT
        # The bound is checked once what is on its way in a batch has been put into the queue.
        assert deepest * len(BODY) <= QUEUE_BYTES + IN_FLIGHT
    guarded.node.call("rabbit_policy:delete", VHOST, "small", "tests")


async def depth(broker: RabbitBroker) -> int:
    """How many envelopes wait in the queue."""
    done = await broker.ask("looking", lambda channel: channel.queue_declare(QUEUE.name, passive=True))
    return done.message_count or 0
