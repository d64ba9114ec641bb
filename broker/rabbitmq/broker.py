"""Keeps the promises of broker/interface/base.py on RabbitMQ 3.10 and later.

It uses aio-pika.

Holds one agent's two connections and what it declares. broker/interface/topology.py decides names. This
module sets no policies and never logs or raises a password or a body.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Self, TypeVar

import aiormq
import structlog
from pamqp.common import FieldValue

from tercet.broker.interface.base import (
    CONNECT_SECONDS,
    Answer,
    Blocked,
    BrokerError,
    Disconnected,
    Envelope,
    Handler,
    Lane,
    NoQueue,
    Queue,
)
from tercet.broker.interface.dead_letters import DeadLetterWriter
from tercet.broker.interface.dispatch import check_lane
from tercet.broker.rabbitmq.connect import address_of, connect_robust
from tercet.broker.rabbitmq.consumer import RabbitConsumer
from tercet.broker.rabbitmq.errors import as_broker_error, call
from tercet.broker.rabbitmq.link import RPC_SECONDS, Link
from tercet.broker.rabbitmq.tolerant import install_readers

HEARTBEAT_SECONDS: Final = 10  # a silent peer is given up after about three of them
PREFETCH: Final = 64  # deliveries; they are acknowledged from the inbox, so this only hides the round trip
_ARGUMENTS: Final[dict[str, FieldValue]] = {"x-queue-type": "classic"}  # limits, expiry and dead letters are policies
_CLOSED: Final = "this connection to the broker has been closed"

install_readers()  # before a frame is read

T = TypeVar("T")

log = structlog.get_logger(__name__)


class RabbitBroker:
    """Gives one party access to RabbitMQ, made by `connect`.

    Keeps the promises of `broker.interface.base.Broker`.
    """

    def __init__(self, party: str | None = None) -> None:
        self._dead_letters = None if party is None else DeadLetterWriter(self, party)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._links: dict[Lane, Link] = {}
        self._declared: dict[str, Queue] = {}
        self._closed = False

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        party: str | None = None,
        credentials: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        external: bool = False,
        prefetch: int = PREFETCH,
        deadline: float = CONNECT_SECONDS,
        heartbeat: int = HEARTBEAT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Self:
        """Open both connections, trying for `deadline` seconds while nobody answers.

        Args:
            url: amqp:// or amqps://, host, port and virtual host.
            name: shown for the connections in the management page, with the lane.
            party: whose queue takes what is refused here; without one it is rejected, and what becomes of it is for
                the broker's policies to say.
            credentials: user and password; they take the place of the URL's.
            tls: for amqps://, which authorities to trust and, for mutual TLS, our certificate.
            external: log in by that certificate (SASL EXTERNAL) and not by name and password.
            prefetch: unsettled deliveries that one consumer may hold.
            deadline: seconds.
            heartbeat: seconds.
            clock: what the deadline is measured with.
            sleep: how to wait between attempts.

        Raises:
            Refused: the broker answers and will not have us; trying again is no use.
            Disconnected: nobody answered until the deadline.
            ValueError: the URL is none of the two kinds.
        """
        address = address_of(url, credentials, external=external, heartbeat=heartbeat)
        broker = cls(party)
        until = clock() + deadline
        try:
            for lane in Lane:
                properties = {"connection_name": f"tercet {name} {lane}"}
                connection = await connect_robust(address, tls, properties, until=until, clock=clock, sleep=sleep)
                broker._links[lane] = Link(
                    connection, broker._attach, broker._write_dead_letter, prefetch, broker._on_alarm
                )
                await call(broker._links[lane].open())
        except BaseException:
            await broker.close()
            raise
        return broker

    @property
    def connected(self) -> bool:
        """Tell whether both connections stand."""
        return not self._closed and all(link.connected for link in self._links.values())

    @property
    def reconnects(self) -> int:
        """The number of times that a connection has come back since the first."""
        return sum(link.reconnects for link in self._links.values())

    @property
    def dead_letter_count(self) -> int:
        """The number of refused messages that are kept as dead letters."""
        return 0 if self._dead_letters is None else self._dead_letters.written

    @property
    def blocked(self) -> str:
        """See `Broker.blocked`. One connection that is told speaks for both."""
        return next((link.blocked for link in self._links.values() if link.blocked), "")

    def _on_alarm(self, why: str) -> None:
        if why:
            log.error("the broker takes no messages", why=why)
        else:
            log.warning("the broker takes messages again")

    def consuming(self, queue_name: str) -> bool:
        """Tell whether deliveries of a queue come through now."""
        return any(link.consuming(queue_name) for link in self._links.values())

    async def declare(self, queue: Queue) -> None:
        """See `Broker.declare`."""
        self._check()
        await self._declare(queue)
        self._declared[queue.name] = queue

    async def _declare(self, queue: Queue) -> int:
        doing = f"declaring the queue {queue.name}"
        try:
            return await self._on_own_channel(lambda channel: _declare_queue(channel, queue))
        except aiormq.ChannelNotFoundEntity:  # an exchange is made by whoever needs it first
            for exchange in dict.fromkeys(exchange for exchange, _ in queue.bindings):
                await self.declare_exchange(exchange)
            return await self.ask(doing, lambda channel: _declare_queue(channel, queue))
        except BaseException as error:
            raise as_broker_error(error, doing) or error from error

    async def declare_exchange(self, name: str) -> None:
        """Make sure that a durable topic exchange of this name exists.

        Idempotent; raises as `declare` does.
        """
        self._check()
        try:
            await self._on_own_channel(
                lambda channel: channel.exchange_declare(name, passive=True, timeout=RPC_SECONDS)
            )
        except aiormq.ChannelNotFoundEntity:
            await self.ask(
                f"creating the exchange {name}",
                lambda channel: channel.exchange_declare(
                    name, exchange_type="topic", durable=True, timeout=RPC_SECONDS
                ),
            )
        except aiormq.ChannelAccessRefused:
            # RabbitMQ 4.2.6 and 4.3.0 let only those look who may create, later ones all who have any right.
            # The exchange may be there: if it is not, or we have no right, the next message or binding says so.
            log.debug("may not look for an exchange", exchange=name)
        except BaseException as error:
            raise as_broker_error(error, f"looking for the exchange {name}") or error from error

    async def delete(self, queue_name: str) -> None:
        """See `Broker.delete`."""
        self._check()
        for link in self._links.values():
            consumer = link.consumer(queue_name)
            if consumer is not None:
                await consumer.cancel()
        self._declared.pop(queue_name, None)
        await self.ask(
            f"deleting the queue {queue_name}", lambda channel: channel.queue_delete(queue_name, timeout=RPC_SECONDS)
        )

    async def publish(self, envelope: Envelope, lane: Lane) -> None:
        """See `Broker.publish`."""
        await self.send(envelope, lane)

    def send(self, envelope: Envelope, lane: Lane) -> Answer:
        """See `Broker.send`."""
        if self._closed:
            return _answer(Disconnected(_CLOSED))
        for link in self._links.values():
            if link.blocked:  # more would only fill the socket, and hold up what else goes through it
                return _answer(Blocked(link.blocked))
        return self._links[lane].send(envelope)

    async def consume(self, queue_name: str, handler: Handler, lane: Lane) -> RabbitConsumer:
        """See `Broker.consume`."""
        self._check()
        known = self._declared.get(queue_name)
        check_lane(queue_name, lane, private=known is not None and known.private)
        try:
            return await self._links[lane].consume(queue_name, handler, self._report)
        except BaseException as error:
            raise as_broker_error(error, f"consuming from {queue_name}") or error from error

    async def close(self) -> None:
        """See `Broker.close`."""
        self._closed = True
        async with AsyncExitStack() as stack:  # of all, also where one fails
            for link in self._links.values():
                stack.push_async_callback(link.close)

    def _check(self) -> None:
        if self._closed:
            raise Disconnected(_CLOSED)

    def _report(self, envelope: Envelope, error: BaseException) -> None:
        log.error("handler failed", kind=envelope.kind, address=envelope.address, error=type(error).__name__)
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _write_dead_letter(self, envelope: Envelope, why: str) -> bool:
        return self._dead_letters is not None and await self._dead_letters.write(envelope, why)

    async def _attach(self, queue_name: str) -> int:
        known = self._declared.get(queue_name)
        if known is not None:
            return await self._declare(known)
        try:
            return await self._on_own_channel(lambda channel: _look_for_queue(channel, queue_name))
        except aiormq.ChannelNotFoundEntity as error:
            raise NoQueue(f"there is no queue {queue_name}; declare it first") from error

    async def ask(self, doing: str, ask: Callable[[aiormq.Channel], Awaitable[T]]) -> T:
        """Ask the broker on a channel of its own, which is closed afterwards.

        Whatever is unsettled there comes back.

        Raises:
            BrokerError: it refuses, or is away; names what we were `doing`.
        """
        try:
            return await self._on_own_channel(ask)
        except BaseException as error:
            raise as_broker_error(error, doing) or error from error

    async def _on_own_channel(self, ask: Callable[[aiormq.Channel], Awaitable[T]]) -> T:
        async def asked() -> T:
            # Private queues belong to the connection that declares them, so all is declared on the one for control.
            async with self._links[Lane.ONLINE].own_channel() as channel:
                return await ask(channel)

        return await call(asked(), to_the_end=True)


def _answer(error: BrokerError) -> Answer:
    answer: Answer = asyncio.get_running_loop().create_future()
    answer.set_exception(error)
    return answer


async def _declare_queue(channel: aiormq.Channel, queue: Queue) -> int:
    done = await channel.queue_declare(
        queue.name,
        durable=not queue.private,
        exclusive=queue.private,
        arguments=_ARGUMENTS,
        timeout=RPC_SECONDS,
    )
    for exchange, pattern in queue.bindings:
        await channel.queue_bind(queue.name, exchange, pattern, timeout=RPC_SECONDS)
    return done.consumer_count or 0


async def _look_for_queue(channel: aiormq.Channel, queue_name: str) -> int:
    done = await channel.queue_declare(queue_name, passive=True, timeout=RPC_SECONDS)
    return done.consumer_count or 0
