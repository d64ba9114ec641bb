"""What every broker promises, as tests; memory/test_broker.py and rabbitmq/test_broker.py run them on the two we have.

Nothing here may know which broker it is.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest

from tercet.broker.interface.base import (
    Blocked,
    Broker,
    BrokerError,
    Consumer,
    Delivery,
    Disconnected,
    Envelope,
    Lane,
    NoQueue,
    Occupied,
    Queue,
    Refused,
    Unroutable,
)

PREFETCH = 8
TOO_LARGE = 16 * 1024 * 1024 + 1
PATIENCE = 10.0

T = TypeVar("T")

BrokerFactory = Callable[[str], Awaitable[Broker]]
Shortage = Callable[[], AbstractAsyncContextManager[None]]  # while it lasts the broker is short of memory


class Inbox:
    """A handler that keeps what comes, and settles it unless told to hold."""

    def __init__(self, *, settle: bool = True) -> None:
        self.deliveries: list[Delivery] = []
        self.settle = settle
        self._arrived = asyncio.Condition()

    async def __call__(self, delivery: Delivery) -> None:
        if self.settle:
            await delivery.ack()
        async with self._arrived:
            self.deliveries.append(delivery)
            self._arrived.notify_all()

    async def holds(self, count: int) -> list[Delivery]:
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries

    @property
    def bodies(self) -> list[bytes]:
        return [each.envelope.body for each in self.deliveries]


class Place:
    """Names that no other test uses."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(6)
        self.exchange = f"tercet.from.test-{self.token}"
        self.queue = Queue(f"tercet.test.{self.token}", ((self.exchange, self.key()),))

    def key(self, receiver: str = "card") -> str:
        return f"job.{self.token}.control.to.{receiver}"

    def envelope(self, body: bytes | int = b"sealed", **changes: object) -> Envelope:
        sealed = body if isinstance(body, bytes) else str(body).encode()
        texts = {"exchange": self.exchange, "routing_key": self.key(), "kind": "control", "job": "credit-1a2b3c4d"}
        fields = {"body": sealed, "address": secrets.token_hex(16), "sender": "bank", **texts, **changes}
        return Envelope(**fields)  # type: ignore[arg-type]


@pytest.fixture
def place() -> Place:
    return Place()


async def settled(broker: Broker) -> None:
    """Return when whatever this broker was about to deliver has had time to: a message has gone there and back."""
    probe, inbox = Place(), Inbox()
    await broker.declare(probe.queue)
    consumer = await broker.consume(probe.queue.name, inbox, Lane.ONLINE)
    for _ in range(3):
        await broker.publish(probe.envelope(), Lane.ONLINE)
    await inbox.holds(3)
    await consumer.cancel()
    await broker.delete(probe.queue.name)


async def open_queue(broker: Broker, place: Place, **inbox: bool) -> tuple[Inbox, Consumer]:
    handler = Inbox(**inbox)
    await broker.declare(place.queue)
    return handler, await broker.consume(place.queue.name, handler, Lane.ONLINE)


async def refused_for(broker: Broker, place: Place) -> str:
    """Publish until the broker says that it takes nothing, as RabbitMQ does to those who publish; why."""
    publishing: set[asyncio.Task[None]] = set()
    async with asyncio.timeout(PATIENCE):
        while not broker.blocked:
            publishing.add(asyncio.create_task(broker.publish(place.envelope(b"asking"), Lane.BULK)))
            await asyncio.sleep(0.05)
    for task in publishing:
        task.cancel()
    await asyncio.gather(*publishing, return_exceptions=True)
    return broker.blocked


async def next_inbox(broker: Broker, place: Place, count: int = 1) -> Inbox:
    """What the next consumer of the queue gets, once it is so much."""
    inbox = Inbox()
    await broker.consume(place.queue.name, inbox, Lane.ONLINE)
    await inbox.holds(count)
    return inbox


class BrokerContract:
    """The promises. A subclass lives beside the fixture `broker_factory`, which connects a party by name."""

    @pytest.fixture
    async def broker(self, broker_factory: BrokerFactory) -> Broker:
        return await broker_factory("card")

    @pytest.mark.parametrize("lane", Lane)
    @pytest.mark.parametrize("body", [bytes(range(256)) * 2000, b""], ids=["long", "empty"])
    async def test_a_envelope_arrives_as_it_was_sent(
        self, broker_factory: BrokerFactory, place: Place, lane: Lane, body: bytes
    ):
        """Body, kind, address, job, sender and routing key, on either lane, between two parties."""
        bank, card = await broker_factory("bank"), await broker_factory("card")
        inbox = Inbox()
        await card.declare(place.queue)
        await card.consume(place.queue.name, inbox, lane)
        sent = place.envelope(body, persistent=True)
        await bank.publish(sent, lane)
        (delivery,) = await inbox.holds(1)
        received = delivery.envelope
        assert not delivery.redelivered
        for name in ("body", "kind", "address", "job", "sender", "routing_key", "exchange"):
            assert getattr(received, name) == getattr(sent, name)

    async def test_one_sender_on_one_lane_is_heard_in_order(self, broker: Broker, place: Place):
        """Publishes that were started in order, without waiting for confirms, arrive in order."""
        inbox, _ = await open_queue(broker, place)
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(broker.publish(place.envelope(number), Lane.ONLINE))
        await inbox.holds(200)
        assert inbox.bodies == [str(number).encode() for number in range(200)]

    async def test_sending_waits_for_nothing_and_tells_what_became_of_it(self, broker: Broker, place: Place):
        """In order of the calls; an answer that is given up does no harm, and an error is the answer's."""
        inbox, _ = await open_queue(broker, place)
        answers = [broker.send(place.envelope(number), Lane.ONLINE) for number in range(20)]
        lost = broker.send(place.envelope(routing_key="nobody"), Lane.ONLINE)
        assert not any(answer.done() for answer in answers)
        answers[7].cancel()
        async with asyncio.timeout(PATIENCE):
            answered = await asyncio.gather(*answers, lost, return_exceptions=True)
        assert [type(each) for each in answered if each is not None] == [asyncio.CancelledError, Unroutable]
        await inbox.holds(20)
        assert inbox.bodies == [str(number).encode() for number in range(20)]

    @pytest.mark.parametrize(
        ("pattern", "key", "obtained"),
        [
            ("a.b.c", "a.b.c", True),
            ("a.*.c", "a.b.c", True),
            ("a.*.c", "a.c", False),
            ("a.*", "a.b.c", False),
            ("a.#", "a.b.c", True),
            ("a.#", "a", True),
            ("#", "", True),
            ("#.c", "a.b.c", True),
            ("a.#.c", "a.c", True),
            ("a.#.c", "a.b.b", False),
            ("a.#.*", "a", False),
            ("*.#.c.*", "a.b.c.c.d", True),
        ],
    )
    async def test_bindings_have_topic_wildcards(
        self, broker: Broker, place: Place, pattern: str, key: str, obtained: bool
    ):
        """A star is one word, a hash any number of words."""
        await broker.declare(Queue(place.queue.name, ((place.exchange, pattern),)))
        if obtained:
            await broker.publish(place.envelope(routing_key=key), Lane.ONLINE)
        else:
            with pytest.raises(Unroutable):
                await broker.publish(place.envelope(routing_key=key), Lane.ONLINE)

    async def test_a_queue_bound_twice_gets_a_envelope_once_and_two_queues_get_it_both(
        self, broker: Broker, place: Place
    ):
        """Bindings are a set, queues are copies."""
        twice = Queue(place.queue.name, ((place.exchange, "#"), (place.exchange, place.key())))
        other = Queue(place.queue.name + ".other", ((place.exchange, "#"),))
        first, second = Inbox(), Inbox()
        for queue, inbox in ((twice, first), (other, second)):
            await broker.declare(queue)
            await broker.consume(queue.name, inbox, Lane.ONLINE)
        await broker.publish(place.envelope(), Lane.ONLINE)
        await second.holds(1)
        await settled(broker)
        assert len(first.deliveries) == len(second.deliveries) == 1

    async def test_what_no_queue_takes_is_unroutable(self, broker: Broker, place: Place):
        """Publishing tells, be it the exchange or the binding that is missing; the next envelope goes through."""
        inbox, _ = await open_queue(broker, place)
        with pytest.raises(Unroutable):
            await broker.publish(place.envelope(routing_key="nobody"), Lane.ONLINE)
        with pytest.raises(Unroutable):
            await broker.publish(place.envelope(exchange=place.exchange + ".none"), Lane.ONLINE)
        await until_connected(broker, place)
        await inbox.holds(1)

    async def test_each_of_two_unroutable_envelopes_of_one_address_is_told(self, broker: Broker, place: Place):
        """Two publishes of one address at one time do not swap their answers."""
        await broker.declare(place.queue)
        envelope = place.envelope(routing_key="nobody")
        answers = await asyncio.gather(
            *(broker.publish(envelope, Lane.ONLINE) for _ in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [Unroutable] * 3

    async def test_an_oversized_envelope_is_refused_and_its_neighbours_may_be_repeated(
        self, broker: Broker, place: Place
    ):
        """Only the one that is too large is told that it never will go through."""
        inbox, _ = await open_queue(broker, place)
        sizes = (b"small", bytes(TOO_LARGE), b"smaller")
        publishes = (broker.publish(place.envelope(body), Lane.ONLINE) for body in sizes)
        before, refused, after = await asyncio.gather(*publishes, return_exceptions=True)
        assert isinstance(refused, Refused)
        assert before is None or isinstance(before, Disconnected)
        assert after is None or isinstance(after, Disconnected)
        await until_connected(broker, place)
        await inbox.holds(1)

    async def test_what_was_not_settled_comes_back_when_its_consumer_ends(self, broker: Broker, place: Place):
        """In order, marked as redelivered, and the settled ones do not."""
        inbox, consumer = await open_queue(broker, place, settle=False)
        for number in range(4):
            await broker.publish(place.envelope(number), Lane.ONLINE)
        held = await inbox.holds(4)
        await held[1].ack()
        await held[2].reject()
        await consumer.cancel()
        again = await next_inbox(broker, place, 2)
        await settled(broker)
        assert again.bodies == [b"0", b"3"]
        assert all(each.redelivered for each in again.deliveries)

    async def test_what_was_not_settled_comes_back_when_its_connection_closes(
        self, broker_factory: BrokerFactory, place: Place
    ):
        """To the next connection of that party."""
        card = await broker_factory("card")
        inbox, _ = await open_queue(card, place, settle=False)
        await card.publish(place.envelope(), Lane.ONLINE)
        await inbox.holds(1)
        await card.close()
        (delivery,) = (await next_inbox(await broker_factory("card"), place)).deliveries
        assert delivery.redelivered

    async def test_settling_late_or_twice_does_nothing(self, broker: Broker, place: Place):
        """Neither breaks the connection, and a late settling does not stop what comes again."""
        inbox, consumer = await open_queue(broker, place, settle=False)
        for number in range(2):
            await broker.publish(place.envelope(number), Lane.ONLINE)
        first, second = await inbox.holds(2)
        await first.ack()
        await first.ack()
        await first.reject()
        await consumer.cancel()
        await second.ack()
        again = await next_inbox(broker, place)
        assert again.bodies == [b"1"]

    async def test_no_more_than_the_prefetch_is_out_at_a_time(self, broker: Broker, place: Place):
        """Each settled delivery makes room for one more."""
        inbox, _ = await open_queue(broker, place, settle=False)
        for number in range(PREFETCH + 3):
            await broker.publish(place.envelope(number), Lane.ONLINE)
        await inbox.holds(PREFETCH)
        await settled(broker)
        assert len(inbox.deliveries) == PREFETCH
        await inbox.deliveries[0].ack()
        await inbox.holds(PREFETCH + 1)
        await settled(broker)
        assert len(inbox.deliveries) == PREFETCH + 1

    async def test_a_handler_is_called_one_delivery_at_a_time_in_order(self, broker: Broker, place: Place):
        """Even when it takes longer for the first than for the others."""
        events: list[tuple[str, bytes]] = []
        done = asyncio.Event()

        async def handler(delivery: Delivery) -> None:
            events.append(("begin", delivery.envelope.body))
            for _ in range(3):
                await asyncio.sleep(0)
            await delivery.ack()
            events.append(("end", delivery.envelope.body))
            if delivery.envelope.body == b"4":
                done.set()

        await broker.declare(place.queue)
        for number in range(5):
            await broker.publish(place.envelope(number), Lane.ONLINE)
        await broker.consume(place.queue.name, handler, Lane.ONLINE)
        await asyncio.wait_for(done.wait(), PATIENCE)
        assert events == [(what, str(number).encode()) for number in range(5) for what in ("begin", "end")]

    async def test_a_second_consumer_is_told_that_another_agent_runs(self, broker_factory: BrokerFactory, place: Place):
        """From the same connection, from another, on the other lane; and the first does not notice."""
        broker, double = await broker_factory("card"), await broker_factory("card")
        inbox, _ = await open_queue(broker, place)
        for second, lane in ((broker, Lane.ONLINE), (broker, Lane.BULK), (double, Lane.ONLINE)):
            with pytest.raises(Occupied, match="another agent of this name is running"):
                await second.consume(place.queue.name, Inbox(), lane)
        await broker.publish(place.envelope(), Lane.ONLINE)
        await inbox.holds(1)

    async def test_of_several_that_consume_at_once_one_wins(self, broker_factory: BrokerFactory, place: Place):
        """The others are told, and whatever else they consume from goes on."""
        brokers = [await broker_factory("card") for _ in range(4)]
        await brokers[0].declare(place.queue)
        inboxes = [Inbox() for _ in brokers]
        attempts = [
            broker.consume(place.queue.name, inbox, Lane.ONLINE) for broker, inbox in zip(brokers, inboxes, strict=True)
        ]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        losers = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(each) for each in losers] == [Occupied] * 3
        for broker in brokers:
            await settled(broker)
        await brokers[0].publish(place.envelope(), Lane.ONLINE)
        (winner,) = (n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException))
        await inboxes[winner].holds(1)

    async def test_consuming_from_nothing_says_so(self, broker: Broker, place: Place):
        """And the connection goes on."""
        with pytest.raises(NoQueue, match=place.queue.name):
            await broker.consume(place.queue.name, Inbox(), Lane.ONLINE)
        await settled(broker)

    async def test_what_expires_in_the_queue_is_not_delivered(self, broker: Broker, place: Place):
        """And does not hold up what is behind it."""
        await broker.declare(place.queue)
        await broker.publish(place.envelope(b"stale", expires=0.001), Lane.ONLINE)
        await asyncio.sleep(0.05)
        await broker.publish(place.envelope(b"fresh", expires=60.0), Lane.ONLINE)
        inbox = await next_inbox(broker, place)
        assert inbox.bodies == [b"fresh"]

    async def test_declaring_again_and_all_at_once_changes_nothing(self, broker: Broker, place: Place):
        """A party declares the queues of all rounds concurrently, and again after a restart."""
        queues = [Queue(f"{place.queue.name}.{n}", ((place.exchange, f"to.{n}"),)) for n in range(9)]
        async with asyncio.TaskGroup() as group:
            for queue in queues + queues:
                group.create_task(broker.declare(queue))
        for n in range(9):
            await broker.publish(place.envelope(routing_key=f"to.{n}"), Lane.ONLINE)
        await broker.declare(queues[0])
        inbox = Inbox()
        await broker.consume(queues[0].name, inbox, Lane.ONLINE)
        await inbox.holds(1)
        for queue in queues:
            await broker.delete(queue.name)

    async def test_a_deleted_queue_takes_nothing_and_may_be_deleted_again(self, broker: Broker, place: Place):
        """Its consumer has ended; a queue declared anew under the name is empty."""
        inbox, consumer = await open_queue(broker, place, settle=False)
        await broker.publish(place.envelope(), Lane.ONLINE)
        await inbox.holds(1)
        await broker.delete(place.queue.name)
        await broker.delete(place.queue.name)
        with pytest.raises(Unroutable):
            await broker.publish(place.envelope(), Lane.ONLINE)
        again, _ = await open_queue(broker, place)
        await broker.publish(place.envelope(b"new"), Lane.ONLINE)
        await again.holds(1)
        assert again.bodies == [b"new"]
        await consumer.cancel()
        assert len(inbox.deliveries) == 1

    async def test_a_private_queue_is_its_owners_and_goes_with_it(self, broker_factory: BrokerFactory, place: Place):
        """Nobody else may declare it or consume from it; afterwards nothing is left of it."""
        owner, other = await broker_factory("card"), await broker_factory("bank")
        private = Queue(place.queue.name, place.queue.bindings, private=True)
        inbox = Inbox()
        await owner.declare(private)
        await owner.consume(private.name, inbox, Lane.ONLINE)
        await other.publish(place.envelope(), Lane.ONLINE)
        await inbox.holds(1)
        with pytest.raises(Occupied):
            await other.declare(private)
        with pytest.raises(ValueError, match="online lane"):
            await owner.consume(private.name, inbox, Lane.BULK)
        await owner.close()
        with pytest.raises(NoQueue):
            await other.consume(private.name, Inbox(), Lane.ONLINE)

    async def test_closing_waits_for_the_handler_that_runs(self, broker_factory: BrokerFactory, place: Place):
        """It can settle; no other delivery is begun, and that one comes back."""
        broker = await broker_factory("card")
        begun, go = asyncio.Event(), asyncio.Event()
        ended: list[bytes] = []

        async def handler(delivery: Delivery) -> None:
            begun.set()
            await go.wait()
            await delivery.ack()
            ended.append(delivery.envelope.body)

        await broker.declare(place.queue)
        for number in range(2):
            await broker.publish(place.envelope(number), Lane.ONLINE)
        await broker.consume(place.queue.name, handler, Lane.ONLINE)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        closing = asyncio.create_task(broker.close())
        await asyncio.sleep(0.3)  # the broker is told by then that no more is wanted
        assert not closing.done()
        go.set()
        await asyncio.wait_for(closing, PATIENCE)
        assert ended == [b"0"]
        again = await next_inbox(await broker_factory("card"), place)
        assert again.bodies == [b"1"]

    @pytest.mark.parametrize(("settles", "comes_again"), [(True, [b"1"]), (False, [b"0", b"1"])])
    async def test_a_handler_may_end_its_own_consumer(
        self, broker: Broker, place: Place, settles: bool, comes_again: list[bytes]
    ):
        """It does not wait for itself, and may still settle its delivery; without a word of it that comes again."""
        ended = asyncio.Event()
        consumers: list[Consumer] = []

        async def handler(delivery: Delivery) -> None:
            await consumers[0].cancel()
            if settles:
                await delivery.ack()
            ended.set()

        await broker.declare(place.queue)
        consumers.append(await broker.consume(place.queue.name, handler, Lane.ONLINE))
        for number in range(2):
            await broker.publish(place.envelope(number), Lane.ONLINE)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        await consumers[0].cancel()
        again = await next_inbox(broker, place, len(comes_again))
        await settled(broker)
        assert again.bodies == comes_again

    async def test_an_exception_of_a_handler_shows_and_loses_nothing(self, broker: Broker, place: Place):
        """`failed` tells, the consumer ends, and the delivery comes to the next one."""

        async def handler(_: Delivery) -> None:
            raise ZeroDivisionError

        await broker.declare(place.queue)
        consumer = await broker.consume(place.queue.name, handler, Lane.ONLINE)
        await broker.publish(place.envelope(), Lane.ONLINE)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(asyncio.shield(broker.failed), PATIENCE)
        await consumer.cancel()
        (delivery,) = (await next_inbox(broker, place)).deliveries
        assert delivery.redelivered

    @pytest.mark.parametrize("turns", range(6))
    async def test_a_consume_that_is_cancelled_leaves_no_consumer(
        self, broker_factory: BrokerFactory, place: Place, turns: int
    ):
        """At whatever await it is hit: the next one gets the queue and everything in it."""
        broker, other = await broker_factory("card"), await broker_factory("card")
        await broker.declare(place.queue)
        await broker.publish(place.envelope(), Lane.ONLINE)
        attempt = asyncio.create_task(broker.consume(place.queue.name, Inbox(settle=False), Lane.ONLINE))
        for _ in range(turns**3):
            await asyncio.sleep(0)
        if attempt.cancel():
            with pytest.raises(asyncio.CancelledError):
                await attempt
        else:
            await (await attempt).cancel()
        await next_inbox(other, place)

    async def test_a_question_that_is_cancelled_says_so(self, broker: Broker, place: Place):
        """At whatever moment: of whoever returns all the same, nobody knows that it should have ended."""
        for tenths in range(60):
            question = broker.declare(place.queue) if tenths % 3 else broker.delete(place.queue.name)
            attempt = asyncio.create_task(question)
            await asyncio.sleep(tenths / 10_000)
            if attempt.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await attempt
        await open_queue(broker, place)

    @pytest.mark.parametrize("turns", range(5))
    async def test_a_publish_that_is_cancelled_does_no_harm(self, broker: Broker, place: Place, turns: int):
        """The envelope may or may not arrive, once; the next one of the same address does."""
        inbox, _ = await open_queue(broker, place)
        envelope = place.envelope(b"hit")
        attempt = asyncio.create_task(broker.publish(envelope, Lane.ONLINE))
        for _ in range(turns):
            await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait([attempt])
        await broker.publish(envelope, Lane.ONLINE)
        await broker.publish(place.envelope(b"last"), Lane.ONLINE)
        while b"last" not in inbox.bodies:
            await inbox.holds(len(inbox.deliveries) + 1)
        assert inbox.bodies in ([b"hit", b"last"], [b"hit", b"hit", b"last"])

    @pytest.mark.parametrize("turns", range(5))
    async def test_a_cancel_that_is_cancelled_still_gives_back(self, broker: Broker, place: Place, turns: int):
        """The consumer has ended or can be ended again; what it held comes back."""
        inbox, consumer = await open_queue(broker, place, settle=False)
        await broker.publish(place.envelope(), Lane.ONLINE)
        await inbox.holds(1)
        attempt = asyncio.create_task(consumer.cancel())
        for _ in range(turns):
            await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait([attempt])
        await consumer.cancel()
        await next_inbox(broker, place)

    async def test_a_broker_that_is_short_takes_nothing_until_it_is_well_again(
        self, broker_factory: BrokerFactory, place: Place, shortage: Shortage
    ):
        """And says why. What is in queues is delivered meanwhile, and queues are declared."""
        bank, card = await broker_factory("bank"), await broker_factory("card")
        inbox, _ = await open_queue(card, place)
        await bank.publish(place.envelope(b"before"), Lane.ONLINE)
        assert bank.blocked == ""
        async with shortage():
            assert await refused_for(bank, place) == bank.blocked != ""
            for lane in Lane:
                with pytest.raises(Blocked, match=bank.blocked):
                    await bank.publish(place.envelope(b"meanwhile"), lane)
            await card.declare(Queue(f"{place.queue.name}.another", ((place.exchange, "another"),)))
            await inbox.holds(1)
        async with asyncio.timeout(PATIENCE):
            while bank.blocked:  # noqa: ASYNC110 - its end is told by no event
                await asyncio.sleep(0.01)
        await bank.publish(place.envelope(b"after"), Lane.ONLINE)
        arrived = 2
        while b"after" not in inbox.bodies:  # what was on its way when the alarm came may come before
            arrived = len(await inbox.holds(arrived)) + 1
        assert b"meanwhile" not in inbox.bodies
        await card.delete(f"{place.queue.name}.another")

    async def test_after_closing_everything_says_that_it_is_closed(self, broker: Broker, place: Place):
        """Closing again is nothing; using it is an error that a sender would retry elsewhere."""
        await broker.close()
        await broker.close()
        with pytest.raises(Disconnected):
            await broker.publish(place.envelope(), Lane.ONLINE)
        assert isinstance(broker.send(place.envelope(), Lane.ONLINE).exception(), Disconnected)
        with pytest.raises(Disconnected):
            await broker.declare(place.queue)
        with pytest.raises(Disconnected):
            await broker.consume(place.queue.name, Inbox(), Lane.ONLINE)


async def until_connected(broker: Broker, place: Place) -> None:
    """Publish until it goes through, as an outbox would: a refused publish may cost the channel it was on."""
    await until_done(lambda: broker.publish(place.envelope(), Lane.ONLINE), Disconnected)


async def until_done(attempt: Callable[[], Awaitable[T]], error: type[BrokerError]) -> T:
    """Try again as long as this error comes of it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await attempt()
            except error:
                await asyncio.sleep(0.01)
