"""Holds one connection to RabbitMQ, and restores it when it is lost.

It has a channel to publish on and one to consume from.

It declares nothing by itself but what a lost consumer needs again; broker/rabbitmq/broker.py declares
queues and exchanges.

aio-pika keeps the connection and the channels alive, and aiormq asks the broker for all that is not a message. Messages
go past both: broker/rabbitmq/publisher.py writes them, and broker/rabbitmq/wire.py reads them. Nothing waits for the
socket to drain; the outbox bounds what is in flight.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from typing import Any, Final, cast

import aiormq
from aio_pika.robust_channel import RobustChannel

from tercet.broker.interface.base import Answer, Disconnected, Envelope, Handler, Refused
from tercet.broker.rabbitmq.alarm import Alarm
from tercet.broker.rabbitmq.channels import Channels
from tercet.broker.rabbitmq.connect import WiredConnection
from tercet.broker.rabbitmq.consumer import Intake, RabbitConsumer, Report, WriteDeadLetter
from tercet.broker.rabbitmq.errors import as_broker_error, call, occupied_error
from tercet.broker.rabbitmq.publisher import Publisher

RPC_SECONDS: Final = 30.0  # a broker that takes longer for a declaration or a consumer is as good as gone
RESTORE_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to restore consumers; the last repeats

Attach = Callable[[str], Awaitable[int]]  # makes sure that a queue exists; returns how many consumers it has


class Link:
    """Holds one of an agent's two connections."""

    def __init__(
        self,
        connection: WiredConnection,
        attach: Attach,
        dead_letter: WriteDeadLetter,
        prefetch: int,
        alarmed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._publishing = cast(RobustChannel, connection.channel(on_return_raises=True))
        self._consuming = cast(RobustChannel, connection.channel(publisher_confirms=False))
        self._attach = attach
        self._dead_letter = dead_letter
        self._prefetch = prefetch
        self._consumers: dict[str, RabbitConsumer] = {}  # by queue name
        self._lost = asyncio.Event()
        self._changing = asyncio.Lock()  # one consumer is attached or detached at a time
        self._tags: dict[str, RabbitConsumer] = {}  # whose deliveries may come; a queue's name is its consumer's tag
        self._intake: Intake | None = None
        self._publisher = Publisher()
        self._waiting: set[Answer] = set()  # for a channel to publish on
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
        await self._attach_publisher()
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

    def send(self, envelope: Envelope) -> Answer:
        """See `Broker.send`."""
        if self._publisher.is_open:
            return self._publisher.send(envelope)
        answer = asyncio.create_task(self._send_on_new_channel(envelope), name=f"publishing {envelope.address}")
        self._waiting.add(answer)
        answer.add_done_callback(self._waiting.discard)
        return answer

    async def _send_on_new_channel(self, envelope: Envelope) -> None:
        doing = f"publishing {envelope.address}"
        if not self._publisher.is_open:
            if self._publishing.is_closed:
                raise Disconnected(f"{doing}: the connection to the broker is down")
            try:
                await call(self._attach_publisher())
            except BaseException as error:
                problem = as_broker_error(error, doing)
                if problem is None or problem is error:
                    raise
                raise problem from error
        await self._publisher.send(envelope)

    async def _attach_publisher(self) -> None:
        channel = cast(aiormq.Channel, await self._publishing.get_underlay_channel())
        if not self._publisher.is_open:
            self._publisher.attach(channel, self._connection.wire)
            self._alarm.listen(cast(aiormq.Connection, channel.connection))

    # Consuming

    async def consume(self, queue_name: str, handler: Handler, report: Report) -> RabbitConsumer:
        """See `Broker.consume`."""
        if queue_name in self._consumers:
            raise occupied_error(queue_name)
        consumer = RabbitConsumer(self, queue_name, handler, report, self._dead_letter)
        try:
            await call(self._start(consumer), to_the_end=True)
        except BaseException:
            await call(consumer.cancel(), to_the_end=True)  # it may hold deliveries already
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
            self._take_in(channel)
            self._tags[name] = consumer
            await channel.basic_consume(name, _pass_by, exclusive=True, consumer_tag=name, timeout=RPC_SECONDS)
        except aiormq.ChannelAccessRefused as error:
            raise (
                occupied_error(name) if "exclusive" in str(error) else Refused(f"consuming {name}: {error}")
            ) from error

    def _take_in(self, channel: aiormq.Channel) -> None:
        if self._intake is None or self._intake.channel is not channel:
            self._intake = Intake(channel, self._connection.wire, self._tags)

    async def detach(self, consumer: RabbitConsumer) -> None:
        """Tell the broker to deliver no more; without a connection there is nothing to tell."""
        if self._closing and self.blocked:  # it would not answer, and the end of the connection tells as much
            return
        if self._intake is not None:
            self._intake.flush()
        async with self._changing:
            name = consumer.queue_name
            if self._consumers.get(name) is consumer:
                del self._consumers[name]
            elif name in self._consumers:
                return
            with suppress(aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError, TimeoutError):
                channel = None if self._consuming.is_closed else await self._consuming.get_underlay_channel()
                if channel is not None and name in cast(aiormq.Channel, channel).consumers:
                    await call(channel.basic_cancel(name, timeout=RPC_SECONDS))
            if self._tags.get(name) is consumer:
                del self._tags[name]

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
        done = [await self._try_restore_one(name) for name in tuple(self._consumers)]
        return all(done)

    async def _try_restore_one(self, name: str) -> bool:
        try:
            await call(self._restore_one(name))
        except BaseException as error:
            if as_broker_error(error, "restoring") is None:
                raise
            return False
        return True

    async def _restore_one(self, name: str) -> None:
        async with self._changing:
            if self._consuming.is_closed:  # nobody waits for it while the lock is held
                raise Disconnected("the connection to the broker is down")
            consumer = self._consumers.get(name)
            channel = cast(aiormq.Channel, await self._consuming.get_underlay_channel())
            if consumer is not None and name not in channel.consumers:
                await self._attach_consumer(consumer)

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
        if self._intake is not None:
            self._intake.flush()
        await self._connection.close()
        self._publisher.close(None)
        if waiting := tuple(self._waiting):
            for answer in waiting:
                answer.cancel()
            await asyncio.wait(waiting)


async def _pass_by(_: Any) -> None:
    """Stand where aiormq wants a consumer; all deliveries are taken before it reads them."""
    raise AssertionError("a delivery has passed the wire")
