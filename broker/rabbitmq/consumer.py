"""Consumes deliveries of RabbitMQ and settles them, across any number of channels.

It opens and restores no channel: broker/rabbitmq/link.py does; and it decides nothing about what is in a delivery.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import takewhile
from typing import Final, Protocol, cast

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from tercet.broker.interface.base import REFUSED, Envelope, Handler
from tercet.broker.interface.dispatch import Dispatcher
from tercet.broker.rabbitmq import frames
from tercet.broker.rabbitmq.errors import call
from tercet.broker.rabbitmq.wire import Wire

UNADDRESSED: Final = "unaddressed"
ACK_SECONDS: Final = 0.002  # how long an ack waits for something else to be written
MOST_ACKS: Final = 16  # that wait; far below the prefetch, so that the broker never waits for them

Report = Callable[[Envelope, BaseException], None]
WriteDeadLetter = Callable[
    [Envelope, str], Awaitable[bool]
]  # keeps a dead letter with the reason; returns whether it is kept


class ConsumerConnection(Protocol):
    """Names what a consumer needs of its connection."""

    async def detach(self, consumer: "RabbitConsumer") -> None:
        """Tell the broker to deliver no more."""

    def retire(self, consumer: "RabbitConsumer") -> None:
        """Cancel a consumer whose handler has failed."""


def envelope_of(message: DeliveredMessage) -> Envelope:
    """Return a message as it came; everything in it may be a lie."""
    delivery, properties = cast(Basic.Deliver, message.delivery), message.header.properties
    return Envelope(
        exchange=delivery.exchange or "",
        routing_key=delivery.routing_key or "",
        body=message.body,
        kind=properties.message_type or "",
        address=properties.message_id or UNADDRESSED,
        job=properties.correlation_id or "",
        sender=properties.app_id or "",
    )


class Intake:
    """Hands one channel's deliveries to their consumers, and settles them.

    Nobody waits for an ack. So acks go with what is written next, and many of them in one frame.
    """

    def __init__(self, channel: aiormq.Channel, wire: Wire, consumers: Mapping[str, "RabbitConsumer"]) -> None:
        """`consumers` are by tag, and may change."""
        self.channel, self._wire, self._consumers = channel, wire, consumers
        self._unsettled: dict[int, None] = {}  # tags, in the order of arrival
        self._accepted: set[int] = set()  # of them, those whose acks have not left
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        wire.listen(channel.number, self)
        wire.let_ride(self._acks)

    @property
    def is_closed(self) -> bool:
        """Tell whether what came here comes again, and nothing can be settled."""
        return self._ended or self._wire.is_closing or self.channel.is_closed

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        """Hand a delivery on; one for nobody stays unsettled, and comes again when the channel ends."""
        came, properties = frames.read_delivery(method), frames.read_properties(header)
        self._unsettled[came.tag] = None
        consumer = self._consumers.get(came.consumer)
        if consumer is not None:
            envelope = Envelope(
                exchange=came.exchange,
                routing_key=came.routing_key,
                body=body,
                kind=properties.kind,
                address=properties.address or UNADDRESSED,
                job=properties.job,
                sender=properties.sender,
            )
            consumer.receive(RabbitDelivery(came.tag, envelope, consumer, self, redelivered=came.redelivered))

    def on_answer(self, tag: int, *, many: bool, positive: bool) -> None:
        """Hear nothing: nobody publishes here."""

    def on_close(self, error: BaseException) -> None:  # noqa: ARG002 - aiormq tells what for
        """Settle nothing more."""
        self._ended = True

    def accept(self, tag: int) -> None:
        """Ack a delivery soon."""
        self._accepted.add(tag)
        if len(self._accepted) >= MOST_ACKS:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ACK_SECONDS, self.flush)

    def flush(self) -> None:
        """Let all acks leave."""
        if self._accepted:
            self._wire.flush()

    def _acks(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        accepted, self._accepted = self._accepted, set()
        if not accepted or self.is_closed:
            return b""
        number = self.channel.number
        first = list(takewhile(accepted.__contains__, self._unsettled))
        leaving = [frames.ack_frame(number, first[-1], many=len(first) > 1)] if first else []
        leaving += [frames.ack_frame(number, tag) for tag in sorted(accepted.difference(first))]
        for tag in accepted:
            del self._unsettled[tag]
        return b"".join(leaving)

    def refuse(self, tag: int, frame: Callable[[int, int], bytes]) -> None:
        """Settle a delivery in another way.

        At once, as an ack that leaves later may mean all before it.
        """
        del self._unsettled[tag]
        if not self.is_closed:
            self._wire.write(frame(self.channel.number, tag))


class RabbitDelivery:
    """One arrival, settled by its consumer on the channel that brought it."""

    __slots__ = ("_consumer", "channel", "envelope", "redelivered", "tag")

    def __init__(
        self, tag: int, envelope: Envelope, consumer: "RabbitConsumer", channel: Intake, *, redelivered: bool
    ) -> None:
        self.tag, self.envelope, self.channel, self.redelivered = tag, envelope, channel, redelivered
        self._consumer = consumer

    async def ack(self) -> None:
        """See `Delivery.ack`."""
        if self._consumer.settle(self):
            self.channel.accept(self.tag)

    async def reject(self, why: str = REFUSED) -> None:
        """See `Delivery.reject`."""
        if not self._consumer.holds(self):
            return
        written = await self._consumer.dead_letter(self.envelope, why)  # cancelled here, it comes again
        if not self._consumer.settle(self):
            return
        if written:
            self.channel.accept(self.tag)
        else:
            self.channel.refuse(self.tag, frames.reject_frame)

    def give_back(self) -> None:
        """Let the broker deliver it again, from the place it had in the queue."""
        self.channel.refuse(self.tag, frames.give_back_frame)


class RabbitConsumer:
    """Consumes one queue for a handler, across any number of channels."""

    def __init__(
        self, link: ConsumerConnection, queue_name: str, handler: Handler, report: Report, dead_letter: WriteDeadLetter
    ) -> None:
        self.queue_name = queue_name
        self.dead_letter = dead_letter
        self._link = link
        self._report = report
        self._unsettled: dict[RabbitDelivery, None] = {}
        self._dispatcher: Dispatcher[RabbitDelivery] = Dispatcher(handler, self._crashed, f"handler of {queue_name}")

    def receive(self, delivery: RabbitDelivery) -> None:
        """Queue what arrives."""
        self._unsettled[delivery] = None
        self._dispatcher.put(delivery)

    def holds(self, delivery: RabbitDelivery) -> bool:
        """Tell whether the delivery is still open."""
        return delivery in self._unsettled

    def settle(self, delivery: RabbitDelivery) -> bool:
        """Settle a delivery; tell whether it was still open."""
        return delivery in self._unsettled and self._unsettled.pop(delivery) is None

    def forget_deliveries(self) -> None:
        """Forget what came on channels that are closed: it comes again."""
        self._unsettled = {each: None for each in self._unsettled if not each.channel.is_closed}
        self._dispatcher.drop(lambda delivery: delivery.channel.is_closed)

    async def cancel(self) -> None:
        """See `Consumer.cancel`."""
        inside = self._dispatcher.in_handler()
        await call(self._link.detach(self), to_the_end=True)
        try:
            await self._dispatcher.stop()
        finally:
            if not inside:
                self._give_back()

    def _give_back(self) -> None:
        # AMQP's cancel leaves unsettled deliveries with the channel, where they would wait for its end.
        unsettled, self._unsettled = self._unsettled, {}
        for delivery in unsettled:
            delivery.give_back()

    def _crashed(self, delivery: RabbitDelivery, error: BaseException) -> None:
        self._report(delivery.envelope, error)
        self._link.retire(self)
