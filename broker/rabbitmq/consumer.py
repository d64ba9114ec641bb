"""Consumes deliveries of RabbitMQ and settles them, across any number of channels.

It opens and restores no channel: broker/rabbitmq/link.py does; and it decides nothing about what is in a delivery.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar, cast

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from tercet.broker.interface.base import REFUSED, Envelope, Handler
from tercet.broker.interface.dispatch import Dispatcher

T = TypeVar("T")
Report = Callable[[Envelope, BaseException], None]
WriteDeadLetter = Callable[
    [Envelope, str], Awaitable[bool]
]  # keeps a dead letter with the reason; returns whether it is kept


class Origin(Protocol):
    """Names what a consumer needs of its connection."""

    async def detach(self, consumer: "RabbitConsumer") -> None:
        """Tell the broker to deliver no more."""

    def retire(self, consumer: "RabbitConsumer") -> None:
        """Cancel a consumer whose handler has failed."""


async def to_the_end(work: Awaitable[T]) -> T:
    """Await to the end even when cancelled meanwhile, then let the cancellation through.

    Cancelling a call half way makes aiormq close the channel, and with it everybody else's consumers.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


def envelope_of(message: DeliveredMessage) -> Envelope:
    """Return a message as it came; everything in it may be a lie."""
    delivery, properties = cast(Basic.Deliver, message.delivery), message.header.properties
    return Envelope(
        exchange=delivery.exchange or "",
        routing_key=delivery.routing_key or "",
        body=message.body,
        kind=properties.message_type or "",
        address=properties.message_id or "unaddressed",
        job=properties.correlation_id or "",
        sender=properties.app_id or "",
    )


class RabbitDelivery:
    """One arrival, settled by its consumer on the channel that brought it."""

    __slots__ = ("_consumer", "channel", "envelope", "redelivered", "tag")

    def __init__(self, message: DeliveredMessage, consumer: "RabbitConsumer") -> None:
        delivery = cast(Basic.Deliver, message.delivery)
        self._consumer = consumer
        self.channel = cast(aiormq.Channel, message.channel)
        self.tag = delivery.delivery_tag or 0
        self.redelivered = bool(delivery.redelivered)
        self.envelope = envelope_of(message)

    async def ack(self) -> None:
        """See `Delivery.ack`."""
        if self._consumer.settle(self):
            with suppress(aiormq.ChannelInvalidStateError):  # gone meanwhile: it comes again
                await self.channel.basic_ack(self.tag, wait=False)

    async def reject(self, why: str = REFUSED) -> None:
        """See `Delivery.reject`."""
        if not self._consumer.holds(self):
            return
        buried = await self._consumer.bury(self.envelope, why)  # cancelled here, it comes again
        if self._consumer.settle(self):
            with suppress(aiormq.ChannelInvalidStateError):
                if buried:
                    await self.channel.basic_ack(self.tag, wait=False)
                else:
                    await self.channel.basic_reject(self.tag, requeue=False, wait=False)

    async def give_back(self) -> None:
        """Let the broker deliver it again, from the place it had in the queue."""
        with suppress(aiormq.ChannelInvalidStateError):
            await self.channel.basic_nack(self.tag, requeue=True, wait=False)


class RabbitConsumer:
    """Consumes one queue for a handler, across any number of channels."""

    def __init__(self, link: Origin, queue_name: str, handler: Handler, report: Report, bury: WriteDeadLetter) -> None:
        self.queue_name = queue_name
        self.bury = bury
        self._link = link
        self._report = report
        self._unsettled: dict[RabbitDelivery, None] = {}
        self._dispatcher: Dispatcher[RabbitDelivery] = Dispatcher(handler, self._crashed, f"handler of {queue_name}")

    async def on_message(self, message: DeliveredMessage) -> None:
        """Queue what arrives. Runs as a task of aiormq's, which starts them in order of arrival."""
        delivery = RabbitDelivery(message, self)
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
        await to_the_end(self._link.detach(self))
        try:
            await self._dispatcher.stop()
        finally:
            if not inside:
                await self._give_back()

    async def _give_back(self) -> None:
        # AMQP's cancel leaves unsettled deliveries with the channel, where they would wait for its end.
        unsettled, self._unsettled = self._unsettled, {}
        for delivery in unsettled:
            await delivery.give_back()

    def _crashed(self, delivery: RabbitDelivery, error: BaseException) -> None:
        self._report(delivery.envelope, error)
        self._link.retire(self)
