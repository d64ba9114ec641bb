"""What is written is what pamqp reads, and what pamqp writes is read: each frame of a message's way."""

import struct
from datetime import UTC, datetime
from typing import Any

import pamqp.frame
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from tercet.broker.interface.base import Envelope
from tercet.broker.rabbitmq import frames

texts = st.text(st.characters(codec="utf-8"), max_size=60)
short_texts = texts.filter(lambda text: len(text.encode()) <= 255)
exchanges = st.text("abcXYZ09.-_", max_size=60)  # which pamqp takes
tags = st.integers(1, 2**63 - 1)
channels = st.integers(1, 2047)
bodies = st.binary(max_size=40) | st.integers(0, 20_000).map(bytes)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Any envelope."""
    fields = {name: draw(short_texts) for name in ("routing_key", "kind", "job", "sender")}
    fields["exchange"] = draw(exchanges)
    address = draw(short_texts.filter(bool))
    expires = draw(st.none() | st.integers(0, 10**9))
    return Envelope(**fields, address=address, body=draw(bodies), persistent=draw(st.booleans()), expires=expires)


def read(data: bytes) -> list[tuple[int, Any]]:
    """Channels and frames, as pamqp reads them."""
    found = []
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        found.append((channel, frame))
        data = data[size:]
    return found


def payload(frame: Any) -> bytes:
    """A frame's payload, as pamqp writes it."""
    return pamqp.frame.marshal(frame, 1)[frames.HEAD.size : -1]


@given(channels, envelopes(), st.sampled_from([0, 4096, 131_072]))
def test_an_envelope_is_published_as_it_is(channel: int, envelope: Envelope, most: int) -> None:
    """All its texts, its mode and its time; in frames that are no longer than the broker allows."""
    data = frames.publish_frames(channel, envelope, most)
    (_, publish), (_, header), *chunks = found = read(data)
    assert {number for number, _ in found} == {channel}
    assert (publish.exchange, publish.routing_key, publish.mandatory) == (envelope.exchange, envelope.routing_key, True)
    assert not publish.immediate
    said = header.properties
    texts_of = ("message_type", "message_id", "correlation_id", "app_id")
    assert [getattr(said, name) for name in texts_of] == [
        envelope.kind, envelope.address, envelope.job, envelope.sender
    ]  # fmt: skip
    assert said.delivery_mode == 1 + envelope.persistent
    assert said.expiration == (None if envelope.expires is None else str(int(envelope.expires * 1000)))
    assert header.body_size == len(envelope.body)
    assert b"".join(chunk.value for _, chunk in chunks) == envelope.body
    assert not most or all(len(chunk.value) <= most - frames.OVERHEAD for _, chunk in chunks)


@given(channels, tags, st.booleans())
def test_a_delivery_is_settled_in_the_way_that_is_meant(channel: int, tag: int, many: bool) -> None:
    """Of many together only acks are."""
    settled = frames.ack_frame(channel, tag, many=many) + frames.reject_frame(channel, tag)
    (_, ack), (_, reject), (number, nack) = read(settled + frames.give_back_frame(channel, tag))
    assert isinstance(ack, Basic.Ack)
    assert isinstance(reject, Basic.Reject)
    assert isinstance(nack, Basic.Nack)
    assert (ack.delivery_tag, ack.multiple) == (tag, many)
    assert (reject.delivery_tag, reject.requeue) == (tag, False)
    assert (nack.delivery_tag, nack.multiple, nack.requeue) == (tag, False, True)
    assert number == channel


@given(short_texts, tags, st.booleans(), exchanges, short_texts)
def test_a_delivery_is_read(consumer: str, tag: int, redelivered: bool, exchange: str, key: str) -> None:
    """From where, for whom, and by which tag it is settled."""
    deliver = payload(Basic.Deliver(consumer, tag, redelivered, exchange, key))
    assert deliver[:4] == frames.DELIVER
    assert frames.read_delivery(deliver) == (consumer, tag, redelivered, exchange, key)


@given(tags, st.booleans())
def test_a_confirm_is_read(tag: int, many: bool) -> None:
    """Yes or no, to one or to many."""
    for frame, which in ((Basic.Ack(tag, many), frames.ACK), (Basic.Nack(tag, many, requeue=False), frames.NACK)):
        assert payload(frame)[:4] == which
        assert frames.read_answer(payload(frame), 4) == (tag, many)


FOREIGN = {
    "content_type": short_texts,
    "content_encoding": short_texts,
    "headers": st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 9), max_size=3),
    "delivery_mode": st.sampled_from([1, 2]),
    "priority": st.integers(0, 9),
    "reply_to": short_texts,
    "expiration": short_texts,
    "timestamp": st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    "user_id": short_texts,
}
OWN = dict.fromkeys(("correlation_id", "message_id", "message_type", "app_id"), short_texts)


@given(st.fixed_dictionaries({}, optional=FOREIGN | OWN), st.integers(0, frames.MOST_BYTES))
def test_properties_are_found_among_others(properties: dict[str, Any], size: int) -> None:
    """A partner may set any of them, and leave ours out."""
    header = payload(ContentHeader(0, size, Basic.Properties(**properties)))
    assert frames.body_size(header) == size
    wanted = [properties.get(name) or "" for name in ("correlation_id", "message_id", "message_type", "app_id")]
    assert list(frames.read_properties(header)) == wanted


@given(st.binary(max_size=255))
def test_a_text_that_is_none_is_read_with_question_marks(raw: bytes) -> None:
    """And what follows it from the right place."""
    header = struct.pack(">HHQH", 60, 0, 5, 1 << 7 | 1 << 3) + bytes([len(raw)]) + raw + b"\x04bank"
    found = frames.read_properties(header)
    assert found.sender == "bank"
    assert len(found.address.encode()) <= len(raw)
