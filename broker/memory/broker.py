"""Keeps RabbitMQ's promises in one process, for simulation and for tests.

Only texts and bytes cross it, never an object of a party; what a test wants to go wrong goes through its own hooks.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from tercet.broker.interface.base import (
    REFUSED,
    Answer,
    Blocked,
    Disconnected,
    Envelope,
    Handler,
    Lane,
    NoQueue,
    Occupied,
    Queue,
    Refused,
    Unroutable,
)
from tercet.broker.interface.dead_letters import DeadLetter, make_letter
from tercet.broker.interface.dispatch import Dispatcher, check_lane
from tercet.broker.memory.memory_queue import Entry, Faults, MemoryQueue, matches, no_faults

MAX_DEAD_LETTERS: Final = 1000
MAX_BODY_BYTES: Final = 16 * 1024 * 1024  # RabbitMQ 4's default

Tap = Callable[[Envelope], None]  # sees every envelope that a sender hands over
Confirm = Callable[[Envelope], Awaitable[None]]


async def confirm_at_once(_envelope: Envelope) -> None:
    """Confirm in the next round of the event loop."""
    await asyncio.sleep(0)


def allow_any_write(_party: str, _exchange: str) -> bool:
    """Let everybody write everywhere."""
    return True


class MemoryBroker:
    """Routes envelopes between the parties' connections.

    Build it inside a running event loop.

    Args:
        faults: decides for each envelope and queue what goes wrong.
        tap: sees every envelope that a sender hands over, as the broker's operator would.
        confirm: awaited between taking an envelope and confirming it.
        prefetch: unsettled deliveries that one consumer may hold.
        may_write: (party, exchange) -> whether the party may publish there.
    """

    def __init__(
        self,
        *,
        faults: Faults = no_faults,
        tap: Tap = lambda _envelope: None,
        confirm: Confirm = confirm_at_once,
        prefetch: int = 64,
        may_write: Callable[[str, str], bool] = allow_any_write,
    ) -> None:
        self.faults = faults
        self.tap = tap
        self.confirm = confirm
        self.prefetch = prefetch
        self.may_write = may_write
        self.queues: dict[str, MemoryQueue] = {}
        self.bindings: dict[str, set[tuple[str, str]]] = {}  # by exchange: (pattern, queue name)
        self.dead_letters: deque[tuple[str, DeadLetter]] = deque(maxlen=MAX_DEAD_LETTERS)  # with who refused
        self.blocked = ""  # why nothing is taken; for tests, see `shortage`
        self._held: dict[str, list[Envelope]] = {}

    def connect(self, party: str) -> "MemoryConnection":
        """Return a party's access. One party may have several, as two processes would."""
        return MemoryConnection(self, party)

    @contextmanager
    def hold(self, party: str) -> Iterator[None]:
        """Treat a party as hung while the block lasts.

        What it sends and what is sent to it waits.

        Its own publishes are confirmed, since a hung process does not look at confirms either.
        """
        self._held.setdefault(party, [])
        try:
            yield
        finally:
            for envelope in self._held.pop(party, []):
                for queue in self._route(envelope):
                    queue.arrive(envelope, ())
            for queue in self.queues.values():
                queue.pump()

    @contextmanager
    def shortage(self, why: str = "low on memory") -> Iterator[None]:
        """Take no messages while the block lasts; deliver what is in queues."""
        self.blocked = why
        try:
            yield
        finally:
            self.blocked = ""

    def is_held(self, party: str) -> bool:
        """Tell whether `hold` is in force for this party."""
        return party in self._held

    def accept(self, envelope: Envelope, party: str) -> None:
        """Take an envelope from a party: routes it, or raises what `Broker.publish` does."""
        if not self.may_write(party, envelope.exchange):
            raise Refused(f"{party} may not write to the exchange {envelope.exchange}")
        if len(envelope.body) > MAX_BODY_BYTES:
            raise Refused(f"{envelope.address}: {len(envelope.body)} bytes are more than the broker's {MAX_BODY_BYTES}")
        queues = self._route(envelope)
        if not queues:
            raise Unroutable(f"no queue takes {envelope.routing_key} from {envelope.exchange}")
        self.tap(envelope)
        if party in self._held:
            self._held[party].append(envelope)
            return
        for queue in queues:
            queue.arrive(envelope, self.faults(envelope, queue.name))

    def _route(self, envelope: Envelope) -> list[MemoryQueue]:
        names = dict.fromkeys(
            queue
            for pattern, queue in self.bindings.get(envelope.exchange, ())
            if matches(pattern, envelope.routing_key)
        )
        return [self.queues[name] for name in names]

    def declare(self, queue: Queue, owner: "MemoryConnection") -> None:
        """Create what is missing of a queue and its bindings."""
        existing = self.queues.get(queue.name)
        if existing is None:
            self.queues[queue.name] = MemoryQueue(
                queue.name,
                owner if queue.private else None,
                lambda envelope: self.dead_letter(queue.name.split(".")[1], envelope, f"expired in {queue.name}"),
            )
        elif existing.owner is not (owner if queue.private else None):
            raise Occupied(f"the queue {queue.name} belongs to another connection, or is private to one")
        for exchange, pattern in queue.bindings:
            self.bindings.setdefault(exchange, set()).add((pattern, queue.name))

    def dead_letter(self, party: str, envelope: Envelope, why: str) -> None:
        """Keep a dead letter of an envelope that was refused, or has expired in a queue."""
        self.dead_letters.append((party, make_letter(envelope, why, datetime.now(UTC))))

    def delete(self, name: str) -> None:
        """Remove a queue, its bindings and what is in it."""
        queue = self.queues.pop(name, None)
        for exchange, bound in [*self.bindings.items()]:
            self.bindings[exchange] = {binding for binding in bound if binding[1] != name}
            if not self.bindings[exchange]:
                del self.bindings[exchange]
        if queue is not None and queue.consumer is not None:
            queue.consumer.forget()


class _MemoryDelivery:
    """Holds one entry on its way through a handler."""

    __slots__ = ("_consumer", "entry", "envelope", "redelivered")

    def __init__(self, entry: Entry, consumer: "MemoryConsumer") -> None:
        self.entry = entry
        self.envelope = entry.envelope
        self.redelivered = entry.redelivered
        self._consumer = consumer

    async def ack(self) -> None:
        self._consumer.settle(self)

    async def reject(self, why: str = REFUSED) -> None:
        if self._consumer.settle(self):
            self._consumer.dead_letter(self.envelope, why)


class MemoryConsumer:
    """Takes a queue's deliveries for one connection, while that is up."""

    def __init__(self, queue: MemoryQueue, handler: Handler, connection: "MemoryConnection") -> None:
        self._queue = queue
        self._connection = connection
        self._unsettled: dict[_MemoryDelivery, None] = {}
        self._dispatcher = Dispatcher(handler, self._crashed, f"handler of {queue.name}")
        queue.consumer = self

    def has_room(self) -> bool:
        """Tell whether the prefetch, the connection and a `hold` let one more delivery in."""
        return len(self._unsettled) < self._connection.broker.prefetch and self._connection.is_up

    def deliver(self, entry: Entry) -> None:
        """Queue an entry for the handler."""
        delivery = _MemoryDelivery(entry, self)
        self._unsettled[delivery] = None
        self._dispatcher.put(delivery)

    def settle(self, delivery: _MemoryDelivery) -> bool:
        """Settle a delivery; tell whether it was still open.

        It no longer is, unless it has been given back meanwhile.
        """
        if delivery not in self._unsettled:
            return False
        del self._unsettled[delivery]
        self._queue.pump()
        return True

    def dead_letter(self, envelope: Envelope, why: str) -> None:
        """Keep a dead letter of an envelope that was refused."""
        self._connection.broker.dead_letter(self._connection.party, envelope, why)

    def give_back(self) -> None:
        """Give unsettled deliveries back to the queue; a running handler goes on."""
        unsettled, self._unsettled = self._unsettled, {}
        self._dispatcher.drop(lambda delivery: delivery in unsettled)
        self._queue.give_back(delivery.entry for delivery in unsettled)

    def forget(self) -> None:
        """Drop all deliveries: the queue has been deleted, and nothing comes again."""
        self._unsettled.clear()
        self._dispatcher.drop(lambda _: True)

    async def cancel(self) -> None:
        """Take no more; give back what is unsettled when the running handler has ended."""
        self._connection.consumers.discard(self)
        inside = self._dispatcher.in_handler()
        if self._queue.consumer is self:
            self._queue.consumer = None
        try:
            await self._dispatcher.stop()
        finally:
            if not inside:
                self.give_back()

    def _crashed(self, delivery: _MemoryDelivery, error: BaseException) -> None:
        self._connection.consumers.discard(self)
        if self._queue.consumer is self:
            self._queue.consumer = None
        self.give_back()
        self._connection.report(delivery.envelope, error)


class MemoryConnection:
    """Gives one party access to a `MemoryBroker`.

    Keeps the promises of `broker.interface.base.Broker`.
    """

    def __init__(self, broker: MemoryBroker, party: str) -> None:
        self.broker = broker
        self.party = party
        self.consumers: set[MemoryConsumer] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._disconnected = False
        self._closed = False
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands."""
        return not (self._disconnected or self._closed)

    @property
    def blocked(self) -> str:
        """See `Broker.blocked`; here everybody is told."""
        return self.broker.blocked

    @property
    def dead_letter_count(self) -> int:
        """The number of refused messages that are kept as dead letters."""
        return sum(party == self.party for party, _ in self.broker.dead_letters)

    def consuming(self, queue_name: str) -> bool:
        """Tell whether deliveries of a queue come through now."""
        queue = self.broker.queues.get(queue_name)
        return self.connected and queue is not None and queue.consumer in self.consumers

    @property
    def is_up(self) -> bool:
        """Tell whether deliveries come through: not cut, not closed, not held."""
        return self.connected and not self.broker.is_held(self.party)

    def report(self, _envelope: Envelope, error: BaseException) -> None:
        """Let `failed` show what a handler let out."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def disconnect(self) -> None:
        """Lose the connection until `reconnect`, for tests.

        Unsettled deliveries come again, publishing raises.
        """
        self._disconnected = True
        for consumer in self.consumers:
            consumer.give_back()

    def reconnect(self) -> None:
        """Restore the connection and its consumers, for tests."""
        self._disconnected = False
        self.reconnects += 1
        for queue in self.broker.queues.values():
            queue.pump()

    def _check(self) -> None:
        if not self.connected:
            raise Disconnected(f"{self.party} has no connection to the in-process broker")

    async def declare(self, queue: Queue) -> None:
        """See `Broker.declare`."""
        self._check()
        self.broker.declare(queue, self)
        await asyncio.sleep(0)

    async def delete(self, queue_name: str) -> None:
        """See `Broker.delete`."""
        self._check()
        queue = self.broker.queues.get(queue_name)
        mine = [each for each in self.consumers if queue is not None and queue.consumer is each]
        self.broker.delete(queue_name)
        for consumer in mine:
            await consumer.cancel()

    async def publish(self, envelope: Envelope, lane: Lane) -> None:  # noqa: ARG002  one lane is as good as another here
        """See `Broker.publish`."""
        self._accept(envelope)
        await self.broker.confirm(envelope)
        self._check()

    def send(self, envelope: Envelope, lane: Lane) -> Answer:
        """See `Broker.send`."""
        if self.broker.confirm is not confirm_at_once:
            return asyncio.ensure_future(self.publish(envelope, lane))
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        try:
            self._accept(envelope)
        except Exception as error:  # noqa: BLE001 - whoever awaits the answer decides
            answer.set_exception(error)
        else:
            loop.call_soon(self._confirm, answer)
        return answer

    def _accept(self, envelope: Envelope) -> None:
        self._check()
        if self.blocked:
            raise Blocked(self.blocked)
        self.broker.accept(envelope, self.party)

    def _confirm(self, answer: Answer) -> None:
        if answer.done():
            return
        try:
            self._check()
        except Disconnected as error:
            answer.set_exception(error)
        else:
            answer.set_result(None)

    async def consume(self, queue_name: str, handler: Handler, lane: Lane) -> MemoryConsumer:
        """See `Broker.consume`."""
        self._check()
        queue = self.broker.queues.get(queue_name)
        if queue is None:
            raise NoQueue(f"there is no queue {queue_name}; declare it first")
        check_lane(queue_name, lane, private=queue.owner is not None)
        if queue.consumer is not None or queue.owner not in (None, self):
            raise Occupied(f"{queue_name} has a consumer: another agent of this name is running")
        consumer = MemoryConsumer(queue, handler, self)
        self.consumers.add(consumer)
        queue.pump()
        return consumer

    async def close(self) -> None:
        """See `Broker.close`."""
        for consumer in tuple(self.consumers):
            await consumer.cancel()
        self._closed = True
        for name in [each.name for each in self.broker.queues.values() if each.owner is self]:
            self.broker.delete(name)
