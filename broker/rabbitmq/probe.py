"""Probes what RabbitMQ lets a party's user do.

It asks the broker itself, on names that nobody uses.

It takes no message from any queue and leaves nothing but the party's own exchange, which the agent needs as well.
"""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import aiormq
from pamqp.commands import Basic
from pamqp.common import FieldValue
from yarl import URL

from tercet.broker.interface import topology
from tercet.broker.interface.base import BrokerError, Disconnected
from tercet.broker.rabbitmq.alarm import Alarm
from tercet.broker.rabbitmq.channels import Channels, allowed_channels
from tercet.broker.rabbitmq.connect import address_of, refusal_of
from tercet.broker.rabbitmq.errors import as_broker_error, call, host_and_port

SECONDS: Final = 10.0  # for each question
HEARTBEAT_SECONDS: Final = 10

Ask = Callable[[aiormq.Channel], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ProbeQuestion:
    """Asks for something that the broker may allow or refuse."""

    right: str  # completes "the broker lets us ..."
    ask: Ask


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Holds the outcome of questions: allowed, refused, or about what does not exist."""

    allowed: tuple[str, ...]
    refused: tuple[str, ...]
    missing: tuple[str, ...]

    def __add__(self, other: "ProbeResult") -> "ProbeResult":
        return ProbeResult(self.allowed + other.allowed, self.refused + other.refused, self.missing + other.missing)


class Probe:
    """Holds one connection, on which each question has a channel of its own.

    A refusal closes the channel.
    """

    def __init__(self, connection: aiormq.Connection, party: str, partners: Iterable[str]) -> None:
        self._connection, self._me, self._partners = connection, party, tuple(partners)
        self._channels: Channels | None = None
        self._alarm_heard = asyncio.Event()  # of an alarm
        self._alarm = Alarm(lambda _: self._alarm_heard.set())
        self._alarm.listen(connection)
        self._token = f"doctor-{secrets.token_hex(8)}"
        self._queue = topology.console_queue(party, self._token)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        party: str,
        partners: Iterable[str],
        *,
        credentials: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        external: bool = False,
    ) -> AsyncIterator[Self]:
        """Log in, once.

        Raises:
            Refused, Disconnected: as `RabbitBroker.connect`.
        """
        address = address_of(url, credentials, external=external, heartbeat=HEARTBEAT_SECONDS)
        properties: dict[str, FieldValue] = {"connection_name": f"tercet {party} doctor"}
        try:
            connection = await aiormq.connect(address, context=tls, client_properties=properties)
        except BaseException as error:
            raise await _why(error, address) or error from error
        try:
            yield cls(connection, party, partners)
        finally:
            with suppress(aiormq.AMQPError, OSError):
                await connection.close()

    @property
    def server(self) -> tuple[str, str]:
        """Product and version, as the broker calls itself."""
        properties: dict[str, Any] = dict(self._connection.server_properties or {})
        return str(properties.get("product", "?"))[:40], str(properties.get("version", "?"))[:40]

    @property
    def channels(self) -> int:
        """The number of channels that it allows on a connection."""
        return allowed_channels(self._connection)

    async def alarm(self) -> str:
        """Return why the broker takes no messages, if it has an alarm.

        Then it answers nothing more on this connection.
        """
        channel = await self._connection.channel(timeout=SECONDS)
        nowhere = _publishing(topology.exchange(self._me), topology.console_key(self._token, self._me))
        publishing = asyncio.ensure_future(nowhere(cast(aiormq.Channel, channel)))
        heard = asyncio.create_task(self._alarm_heard.wait())
        await asyncio.wait([publishing, heard], return_when=asyncio.FIRST_COMPLETED)
        for task in (publishing, heard):
            task.cancel()
        await asyncio.gather(publishing, heard, return_exceptions=True)  # there may be no such exchange yet
        return self._alarm.reason

    async def check_needed(self) -> ProbeResult:
        """Ask for all rights that an agent needs.

        An exchange that is missing is its partner's to make.
        """
        name = topology.exchange(self._me)
        there = await self._ask([ProbeQuestion(f"use the exchange {name}", lambda c: _exchange(c, name, passive=True))])
        create = ProbeQuestion(f"create the exchange {name}", lambda c: _exchange(c, name))
        made = await self._ask([create] if there.missing else [])
        looked = there if there.allowed else made  # a refused look tells nothing: see `RabbitBroker.declare_exchange`
        return looked + await self._ask(self._own())

    async def check_excess(self) -> tuple[str, ...]:
        """Ask for rights that an agent has no need of: it could count, forge or spoil.

        Call after `check_needed`.
        """
        written = await self._ask([*self._of_partners(), *self._of_nobody()])
        overheard = await self._ask(self._between_others())
        # Rights are looked at before names are, but for what may be bound to an exchange, where there is one.
        return written.allowed + written.missing + overheard.allowed

    async def _ask(self, questions: Iterable[ProbeQuestion]) -> ProbeResult:
        allowed, refused, missing = [], [], []
        for question in questions:
            try:
                await call(self._ask_one(question))
            except aiormq.ChannelAccessRefused:
                refused.append(question.right)
            except aiormq.ChannelNotFoundEntity:
                missing.append(question.right)
            except aiormq.PublishError:  # no queue took it, as was meant: writing is allowed
                allowed.append(question.right)
            except BaseException as error:
                raise as_broker_error(error, f"asking whether the broker lets us {question.right}") or error from error
            else:
                allowed.append(question.right)
        return ProbeResult(tuple(allowed), tuple(refused), tuple(missing))

    async def _ask_one(self, question: ProbeQuestion) -> None:
        if self._channels is None:
            self._channels = Channels(self._connection)
        async with self._channels.open(SECONDS, confirms=True) as channel:
            await question.ask(channel)

    # --- the questions

    def _own(self) -> Iterator[ProbeQuestion]:
        queue, exchange = self._queue.name, topology.exchange(self._me)
        key = topology.console_key(self._token, self._me)
        yield ProbeQuestion(
            "declare queues of our own", lambda c: c.queue_declare(queue, exclusive=True, timeout=SECONDS)
        )
        yield ProbeQuestion("bind our queues to our exchange", _binding(queue, exchange, key))
        yield ProbeQuestion("publish to our exchange", _publishing(exchange, key))
        yield ProbeQuestion("read our queues", lambda c: c.basic_get(queue, no_ack=True, timeout=SECONDS))
        for partner in self._partners:
            hear = topology.announce_key(self._token, self._me)
            yield ProbeQuestion(f"hear {partner}", _binding(queue, topology.exchange(partner), hear))

    def _of_partners(self) -> Iterator[ProbeQuestion]:
        for partner in self._partners:
            theirs = f"{topology.PREFIX}.{partner}.{self._token}"
            exchange = topology.exchange(partner)
            yield ProbeQuestion(f"read {partner}'s queues", _reading(theirs))
            yield ProbeQuestion(f"declare or delete {partner}'s queues", _deleting(theirs))
            yield ProbeQuestion(
                f"publish as {partner}", _publishing(exchange, topology.announce_key(self._token, self._me))
            )

    def _between_others(self) -> Iterator[ProbeQuestion]:
        for partner in self._partners:
            exchange, key = topology.exchange(partner), topology.announce_key(self._token, partner)
            for sender in (self._me, *self._partners):
                bind = _binding(self._queue.name, topology.exchange(sender), key)
                yield ProbeQuestion(f"overhear what {sender} says to {partner}", bind)
            yield ProbeQuestion(f"overhear all that {partner} says", _binding(self._queue.name, exchange, "#"))

    def _of_nobody(self) -> Iterator[ProbeQuestion]:
        nowhere = f"{topology.PREFIX}.{self._me}.{self._token}-nowhere"
        yield ProbeQuestion("publish to any queue through the default exchange", _publishing("", nowhere))
        yield ProbeQuestion("publish to amq.topic", _publishing("amq.topic", nowhere))
        yield ProbeQuestion("declare or delete queues of any name", _deleting(self._token))
        yield ProbeQuestion("read queues of any name", _reading(self._token))
        strange = topology.exchange(self._token)
        yield ProbeQuestion(
            "create or delete other parties' exchanges", lambda c: c.exchange_delete(strange, timeout=SECONDS)
        )


async def _why(error: BaseException, address: URL) -> BrokerError | None:
    refused = await refusal_of(error, address)
    if refused is not None or not isinstance(error, (aiormq.AMQPError, OSError, TimeoutError)):
        return refused
    return Disconnected(f"no RabbitMQ answers at {host_and_port(address)} ({str(error) or type(error).__name__})")


async def _exchange(channel: aiormq.Channel, name: str, *, passive: bool = False) -> None:
    await channel.exchange_declare(name, exchange_type="topic", durable=True, passive=passive, timeout=SECONDS)


def _binding(queue: str, exchange: str, key: str) -> Ask:
    return lambda channel: channel.queue_bind(queue, exchange, key, timeout=SECONDS)


def _reading(queue: str) -> Ask:
    return lambda channel: channel.basic_get(queue, no_ack=False, timeout=SECONDS)


def _deleting(queue: str) -> Ask:
    return lambda channel: channel.queue_delete(queue, if_empty=True, timeout=SECONDS)


def _publishing(exchange: str, key: str) -> Ask:
    properties = Basic.Properties(message_type="doctor", expiration="1000")

    async def publish(channel: aiormq.Channel) -> None:
        await channel.basic_publish(
            b"", exchange=exchange, routing_key=key, properties=properties, mandatory=True, timeout=SECONDS
        )

    return publish
