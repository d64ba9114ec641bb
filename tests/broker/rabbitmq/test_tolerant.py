"""A message with properties that no library expects is a message like any other: refused once, not in circles."""

import asyncio
import struct
from collections.abc import AsyncIterator

import aio_pika
import aiormq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from tercet.broker.interface.base import Lane
from tercet.broker.rabbitmq import tolerant
from tercet.broker.rabbitmq.broker import RabbitBroker
from tests.broker.contract import Inbox, Place, open_queue, settled
from tests.broker.contract import place as place  # a fixture

FLAGS = Basic.Properties.flags
NOT_UTF8 = b"\xff\xfe\x80"


class Raw(Basic.Properties):
    """Properties as they are put on the wire, whatever they are."""

    raw = b""

    def marshal(self) -> bytes:
        return self.raw


class RawText(str):
    """A routing key as it is put on the wire."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode().replace(b"?", b"\xff")


def short(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def nested(depth: int) -> bytes:
    """A table in a table in a table."""
    inner = table(b"")
    for _ in range(depth):
        inner = table(short(b"a") + b"F" + inner)
    return inner


PROPERTIES = {
    **{
        name: (name, short(NOT_UTF8))
        for name in ("content_type", "message_id", "correlation_id", "message_type", "app_id", "reply_to")
    },
    "long and not UTF-8": ("message_id", short(b"\xff" * 255)),
    "a time after all time": ("timestamp", struct.pack(">Q", 2**63 - 1)),
    "a key that is not UTF-8": ("headers", table(short(NOT_UTF8) + b"V")),
    "a time in a table": ("headers", table(short(b"t") + b"T" + struct.pack(">Q", 2**62))),
    "a table that is too deep": ("headers", nested(2000)),
    "a large table": ("headers", table((short(b"k") + b"V") * 20_000)),
}


@pytest.fixture
async def card(amqp_url: str) -> AsyncIterator[RabbitBroker]:
    broker = await RabbitBroker.connect(amqp_url, name="card", party="card")
    yield broker
    await broker.close()


async def publish_raw(url: str, place: Place, properties: Basic.Properties, key: str) -> None:
    """As a partner would who writes frames by hand."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        raw: aiormq.abc.AbstractChannel = await channel.get_underlay_channel()
        await raw.basic_publish(b"poison", exchange=place.exchange, routing_key=key, properties=properties)


@pytest.mark.parametrize("case", PROPERTIES)
async def test_a_strange_property_arrives_once_and_breaks_no_connection(
    amqp_url: str, card: RabbitBroker, place: Place, case: str
):
    """Its form is right, else RabbitMQ would not have taken it; its value is nothing that can be decoded."""
    name, value = PROPERTIES[case]
    properties = Raw()
    properties.raw = struct.pack(">H", FLAGS[name]) + value
    inbox, _ = await open_queue(card, place)
    await publish_raw(amqp_url, place, properties, place.key())
    await inbox.holds(1)
    await card.publish(place.envelope(), Lane.ONLINE)
    first, second = await inbox.holds(2)
    assert (first.envelope.body, first.redelivered) == (b"poison", False)
    assert (second.envelope.body, second.redelivered) == (b"sealed", False)
    await settled(card)
    assert len(inbox.deliveries) == 2


async def test_a_routing_key_that_is_not_utf8_arrives_once(amqp_url: str, card: RabbitBroker, place: Place):
    """A standing queue's bindings have a wildcard that takes any bytes."""
    inbox = Inbox()
    await card.declare(place.queue.__class__(place.queue.name, ((place.exchange, "job.*.announce.to.card"),)))
    await card.consume(place.queue.name, inbox, Lane.ONLINE)
    await publish_raw(amqp_url, place, Basic.Properties(), RawText("job.?.announce.to.card"))
    (delivery,) = await inbox.holds(1)
    assert delivery.envelope.routing_key == "job.?.announce.to.card"
    assert not delivery.redelivered


@given(st.binary(max_size=255), st.binary(max_size=20))
def test_any_text_is_read_and_is_no_longer_than_it_was(value: bytes, rest: bytes):
    """What follows it is read from the right place."""
    end, text = tolerant.read_text(short(value) + rest)
    assert end == 1 + len(value)
    assert len(text.encode()) <= len(value)


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_any_table_is_read(value: bytes, rest: bytes):
    """As empty, where it is none."""
    end, found = tolerant.read_table(table(value) + rest)
    assert end == 4 + len(value)
    assert isinstance(found, dict)


@given(st.integers(0, 2**64 - 1))
def test_any_time_is_read(value: int):
    """However far away."""
    assert tolerant.read_time(struct.pack(">Q", value))[0] == 8


async def test_what_is_usual_is_read_as_before(card: RabbitBroker, place: Place):
    """Texts of all languages among it."""
    inbox, _ = await open_queue(card, place)
    await card.publish(place.envelope(kind="größer", address="名前"), Lane.ONLINE)
    async with asyncio.timeout(10):
        (delivery,) = await inbox.holds(1)
    assert (delivery.envelope.kind, delivery.envelope.address) == ("größer", "名前")
