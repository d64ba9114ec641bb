"""Holds one connection to RabbitMQ, and restores it when it is lost.

It has a channel to publish on and one to consume from.

It declares nothing by itself but what a lost consumer needs again; broker/rabbitmq/broker.py declares
queues and exchanges.

aio-pika keeps the connection and the channels alive. Publishing and consuming go to the aiormq channel underneath,
which aio-pika hands out for it (`get_underlay_channel`): for 8 KiB that is 0.17 ms of processor time for a message
there and back instead of 0.28, because no message object is built twice, no second task is started for a delivery, and
nothing waits for the socket to drain (`wait=False`; the outbox bounds what is in flight).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from typing import Final, cast

import aiormq
from aio_pika.robust_channel import RobustChannel
from aio_pika.robust_connection import RobustConnection
from pamqp.commands import Basic

from tercet.broker.interface.base import Disconnected, Envelope, Handler, Refused
from tercet.broker.rabbitmq.alarm import Alarm
from tercet.broker.rabbitmq.channels import Channels
from tercet.broker.rabbitmq.consumer import RabbitConsumer, Report, WriteDeadLetter, to_the_end
from tercet.broker.rabbitmq.errors import as_broker_error, occupied_error, publish_error

RPC_SECONDS: Final = 30.0  # a broker that takes longer for a declaration or a consumer is as good as gone
RESTORE_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to restore consumers; the last repeats
_TRANSIENT, _PERSISTENT = 1, 2  # AMQP's delivery modes

Attach = Callable[[str], Awaitable[int]]  # makes sure that a queue exists; returns how many consumers it has


class Link:
    """Holds one of an agent's two connections."""

    def __init__(
        self,
        connection: RobustConnection,
        attach: Attach,
        bury: WriteDeadLetter,
        prefetch: int,
        alarmed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._publishing = cast(RobustChannel, connection.channel(on_return_raises=True))
        self._consuming = cast(RobustChannel, connection.channel(publisher_confirms=False))
        self._attach = attach
        self._bury = bury
        self._prefetch = prefetch
        self._consumers: dict[str, RabbitConsumer] = {}  # by queue name
        self._lost = asyncio.Event()
        self._changing = asyncio.Lock()  # one consumer is attached or detached at a time
        self._in_flight: dict[str, asyncio.Task[None]] = {}  # by address
        self._sent_on: dict[str, aiormq.Channel] = {}  # those of them that wait for a confirm
        self._channels: tuple[aiormq.Connection, Channels] | None = None  # for one question each
        self._retired: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._alarm = Alarm(alarmed)
        self._closing = False
        self.reconnects = 0

    async def open(self) -> None:
        """Open both channels and start watching over consumers.

        Raises:
            Refused: the broker allows too few channels.
        """
        self._channels_of(self._underlying())
        await self._publishing.initialize()
        await self._consuming.initialize()
        await self._consuming.set_qos(self._prefetch)
        self._consuming.reopen_callbacks.add(self._on_loss)
        self._connection.reconnect_callbacks.add(self._on_reconnect)
        self._keeper = asyncio.create_task(self._keep_consumers(), name="restorer of lost consumers")

    def _on_reconnect(self, *_: object) -> None:
        self.reconnects += 1

    @property
    def connected(self) -> bool:
        """Tell whether the connection and its channels stand."""
        transport = self._connection.transport
        channels = not self._publishing.is_closed and not self._consuming.is_closed
        return channels and transport is not None and not transport.connection.is_closed

    @property
    def blocked(self) -> str:
        """The reason why the broker takes nothing on this connection, or empty.

        It is empty too where the broker has not been asked to.
        """
        return self._alarm.reason

    def consuming(self, queue_name: str) -> bool:
        """Tell whether deliveries of a queue come through on this connection."""
        return self.connected and queue_name in self._consumers and not self._lost.is_set()

    @asynccontextmanager
    async def own_channel(self) -> AsyncIterator[aiormq.Channel]:
        """Open a channel for one question.

        What RabbitMQ refuses closes the channel it was asked on.

        Raises:
            Disconnected: there is no connection at the moment.
            Overloaded: all channels that the broker allows are in use.
            Refused: it allows too few of them.
        """
        async with self._channels_of(self._underlying()).open(RPC_SECONDS) as channel:
            yield channel

    def _underlying(self) -> aiormq.Connection:
        transport = self._connection.transport
        if transport is None or transport.connection.is_closed:
            raise Disconnected("the connection to the broker is down")
        return cast(aiormq.Connection, transport.connection)

    def _channels_of(self, connection: aiormq.Connection) -> Channels:
        if self._channels is None or self._channels[0] is not connection:  # each connection has its own
            self._channels = connection, Channels(connection)
        return self._channels[1]

    # Publishing

    async def publish(self, envelope: Envelope) -> None:
        """See `Broker.publish`."""
        address = envelope.address
        while (earlier := self._in_flight.get(address)) is not None:
            # aiormq matches a returned message by its id: two of one id on their way would be mixed up. Where a
            # connection is lost between a publish and its frames, aiormq leaves that waiting for a confirm for ever.
            channel = self._sent_on.get(address)
            if channel is not None and (channel.is_closed or channel.connection.is_closed):
                earlier.cancel()
            await asyncio.wait([earlier])
        # In a task of its own, which nobody cancels: a message that comes back while its publish is being cancelled
        # ends aiormq's reader of the channel, and soon the whole connection stands still.
        mine = self._in_flight[address] = asyncio.create_task(self._publish(envelope), name=f"publishing {address}")
        mine.add_done_callback(lambda done: self._landed(address, done))
        await asyncio.shield(mine)

    def _landed(self, address: str, done: "asyncio.Task[None]") -> None:
        del self._in_flight[address]
        self._sent_on.pop(address, None)
        if not done.cancelled():
            done.exception()  # whoever published may have left before it showed

    async def _publish(self, envelope: Envelope) -> None:
        properties = Basic.Properties(
            message_type=envelope.kind,
            message_id=envelope.address,
            correlation_id=envelope.job,
            app_id=envelope.sender,
            delivery_mode=_PERSISTENT if envelope.persistent else _TRANSIENT,
            expiration=None if envelope.expires is None else str(int(envelope.expires * 1000)),
        )
        if self._publishing.is_closed:
            raise Disconnected(f"{envelope.address}: the connection to the broker is down")
        try:
            channel = self._sent_on[envelope.address] = await self._open_channel()
            await channel.basic_publish(
                envelope.body,
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
                properties=properties,
                mandatory=True,
                wait=False,
            )
        except Disconnected:
            raise
        except BaseException as error:
            doing = f"{envelope.address} to {envelope.routing_key}"
            meaning = publish_error(error, doing, envelope.exchange, envelope.routing_key, len(envelope.body))
            if meaning is None:
                raise
            raise meaning from error

    async def _open_channel(self) -> aiormq.Channel:
        channel = cast(aiormq.Channel, await self._publishing.get_underlay_channel())
        if channel.is_closed or channel.connection.is_closed:  # aiormq would wait for ever for a confirm
            raise Disconnected("the connection to the broker has just been lost")
        self._alarm.listen(cast(aiormq.Connection, channel.connection))
        return channel

    # Consuming

    async def consume(self, queue_name: str, handler: Handler, report: Report) -> RabbitConsumer:
        """See `Broker.consume`."""
        if queue_name in self._consumers:
            raise occupied_error(queue_name)
        consumer = RabbitConsumer(self, queue_name, handler, report, self._bury)
        try:
            await to_the_end(self._start(consumer))
        except BaseException:
            await to_the_end(consumer.cancel())  # it may hold deliveries already
            raise
        return consumer

    async def _start(self, consumer: RabbitConsumer) -> None:
        async with self._changing:
            await self._attach_consumer(consumer)
            self._consumers[consumer.queue_name] = consumer

    async def _attach_consumer(self, consumer: RabbitConsumer) -> None:
        name = consumer.queue_name
        # Asked first on a channel of its own: RabbitMQ's refusal of a second exclusive consumer would close the
        # channel that all other consumers of this connection use.
        if await self._attach(name):
            raise occupied_error(name)
        try:
            channel = cast(aiormq.Channel, await self._consuming.get_underlay_channel())
            channel.on_consumer_cancel_callbacks.add(self._on_loss)
            await channel.basic_consume(
                name, consumer.on_message, exclusive=True, consumer_tag=name, timeout=RPC_SECONDS
            )
        except aiormq.ChannelAccessRefused as error:
            raise (
                occupied_error(name) if "exclusive" in str(error) else Refused(f"consuming {name}: {error}")
            ) from error

    async def detach(self, consumer: RabbitConsumer) -> None:
        """Tell the broker to deliver no more; without a connection there is nothing to tell."""
        if self._closing and self.blocked:  # it would not answer, and the end of the connection tells as much
            return
        async with self._changing:
            name = consumer.queue_name
            if self._consumers.get(name) is consumer:
                del self._consumers[name]
            elif name in self._consumers:
                return
            with suppress(aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError, TimeoutError):
                channel = None if self._consuming.is_closed else await self._consuming.get_underlay_channel()
                if channel is not None and name in cast(aiormq.Channel, channel).consumers:
                    await channel.basic_cancel(name, timeout=RPC_SECONDS)

    def retire(self, consumer: RabbitConsumer) -> None:
        """Cancel a consumer whose handler has failed, on its behalf."""
        task = asyncio.create_task(consumer.cancel(), name=f"end of {consumer.queue_name}")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    def consumer(self, queue_name: str) -> RabbitConsumer | None:
        """Return the consumer of a queue on this connection."""
        return self._consumers.get(queue_name)

    def _on_loss(self, *_: object) -> None:
        for consumer in self._consumers.values():
            consumer.forget_deliveries()
        self._lost.set()

    async def _keep_consumers(self) -> None:
        # aio-pika would restore them too, but gives up a whole connection when one queue is still held by the dead
        # one, and costs a second task for each delivery.
        while True:
            await self._lost.wait()
            self._lost.clear()
            for pause in chain(RESTORE_PAUSES, repeat(RESTORE_PAUSES[-1])):
                await self._consuming.ready()
                if await self._restore():
                    break
                await asyncio.sleep(pause)

    async def _restore(self) -> bool:
        done = [await self._restore_one(name) for name in tuple(self._consumers)]
        return all(done)

    async def _restore_one(self, name: str) -> bool:
        async with self._changing:
            consumer = self._consumers.get(name)
            if self._consuming.is_closed:
                return False
            try:
                channel = cast(aiormq.Channel, await self._consuming.get_underlay_channel())
                if consumer is not None and name not in channel.consumers:
                    await self._attach_consumer(consumer)
            except BaseException as error:
                if as_broker_error(error, "restoring") is None:
                    raise
                return False
        return True

    async def close(self) -> None:
        """End the consumers in order, then the connection.

        It would else come back by itself for ever.
        """
        self._closing = True
        try:
            await self._end_consumers()
        finally:
            await self._end_connection()

    async def _end_consumers(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        for consumer in tuple(self._consumers.values()):
            await consumer.cancel()
        if self._retired:
            await asyncio.wait(self._retired)

    async def _end_connection(self) -> None:
        await self._connection.close()
        if publishing := tuple(self._in_flight.values()):
            for task in publishing:  # there is no reader any more that it could harm
                task.cancel()
            await asyncio.wait(publishing)
