"""The wire takes messages and confirms out, hands on all else as it came, and writes once for many."""

import asyncio
import inspect
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import aiormq
import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection, Queue
from pamqp.header import ContentHeader

from tercet.broker.interface.base import Disconnected, Lane
from tercet.broker.rabbitmq import frames
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.wire import LIVE_SECONDS, Wire
from tests.broker.contract import Place, open_queue
from tests.broker.contract import place as place  # a fixture

OURS, OTHER = 3, 4  # channels


class Hearer:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_answer(self, tag: int, *, many: bool, positive: bool) -> None:
        self.heard.append((tag, many, positive))

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        self.heard.append((method[:4], frames.read_properties(header).address, body))

    def on_close(self, error: BaseException) -> None:
        self.heard.append(type(error))


class Transport:
    """Keeps what is written, by call."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.written.append(b"".join(pieces))


def message(channel: int, address: str, body: bytes, method: Any = None) -> list[bytes]:
    """The frames of one message, in chunks of three bytes."""
    chunks = [ContentBody(body[start : start + 3]) for start in range(0, len(body), 3)]
    header = ContentHeader(0, len(body), Basic.Properties(message_id=address))
    first = method or Basic.Deliver("queue", 1, False, "exchange", "key")
    return [pamqp.frame.marshal(frame, channel) for frame in (first, header, *chunks)]


def plain(frame: Any, channel: int = 0) -> list[bytes]:
    return [pamqp.frame.marshal(frame, channel)]


Piece = tuple[list[bytes], list[Any]]  # frames on the wire, and what is heard of them; else they go to aiormq
pieces = st.one_of(
    st.binary(max_size=9).map(lambda body: (message(OURS, "a", body), [(frames.DELIVER, "a", body)])),
    st.binary(max_size=9).map(
        lambda body: (
            message(OURS, "b", body, Basic.Return(312, "NO_ROUTE", "exchange", "key")),
            [(frames.RETURN, "b", body)],
        )
    ),
    st.integers(1, 99).map(lambda tag: (plain(Basic.Ack(tag, True), OURS), [(tag, True, True)])),
    st.integers(1, 99).map(lambda tag: (plain(Basic.Nack(tag, False, False), OURS), [(tag, False, False)])),
    st.binary(max_size=9).map(lambda body: (message(OTHER, "c", body), [])),
    st.just((plain(Basic.Ack(7, False), OTHER), [])),
    st.just((plain(Queue.BindOk(), OURS), [])),
    st.just((plain(Connection.Unblocked()), [])),
)


async def fed(data: bytes, cuts: Sequence[int]) -> tuple[list[Any], bytes]:
    """What is heard on our channel, and what aiormq gets, of data that come in so many pieces."""
    wire, hearer = Wire(asyncio.get_running_loop()), Hearer()
    wire.listen(OURS, hearer)
    wire._shown_at = wire._clock()  # no sign of life for a second
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(places):
        if start < stop:
            wire.feed_data(data[start:stop])
    wire.feed_eof()
    return hearer.heard, await wire.read()


@given(st.lists(pieces, max_size=8), st.lists(st.integers(0, 2000), max_size=9))
def test_what_is_ours_is_taken_out_however_it_is_cut(several: list[Piece], cuts: list[int]) -> None:
    """And all else is handed on, byte for byte and in order."""

    async def example() -> None:
        heard, left = await fed(b"".join(frame for sent, _ in several for frame in sent), cuts)
        assert heard == [what for _, each in several for what in each]
        assert left == b"".join(frame for sent, each in several if not each for frame in sent)

    asyncio.run(example())


@given(st.lists(st.integers(0, 99), max_size=5))
def test_a_closed_channel_is_told_and_its_number_may_be_anothers(cuts: list[int]) -> None:
    """What comes on the number afterwards belongs to aiormq."""

    async def example() -> None:
        close = plain(Channel.Close(404, "NOT_FOUND - no exchange 'e'", 60, 40), OURS)
        after = message(OURS, "later", b"body") + plain(Basic.Ack(1, False), OURS)
        heard, left = await fed(b"".join(close + after), cuts)
        assert heard == [aiormq.ChannelNotFoundEntity]
        assert left == b"".join(close + after)
        heard, left = await fed(b"".join(plain(Channel.CloseOk(), OURS) + after), cuts)
        assert heard == []

    asyncio.run(example())


WITHOUT_END = plain(Basic.Ack(1, False), OURS)[0][:-1] + b"x"


@pytest.mark.parametrize("data", [b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request", WITHOUT_END])
async def test_what_is_no_frame_is_aiormqs_to_complain_of(data: bytes) -> None:
    """Another version's greeting, another protocol, a frame without its end."""
    assert await fed(data, [3]) == ([], data)


async def test_aiormq_hears_that_the_connection_lives() -> None:
    """RabbitMQ sends no heartbeat while it sends messages, and aiormq gives up what is silent."""
    wire = Wire(asyncio.get_running_loop())
    wire.listen(OURS, Hearer())
    now = wire._clock = lambda: 100.0
    for _ in range(3):
        wire.feed_data(plain(Basic.Ack(1, False), OURS)[0])
    wire._clock = lambda: now() + 2 * LIVE_SECONDS
    wire.feed_data(plain(Basic.Ack(1, False), OURS)[0])
    wire.feed_eof()
    assert await wire.read() == frames.HEARTBEAT * 2


async def test_what_is_written_in_one_turn_goes_together_but_for_the_first() -> None:
    """Somebody may wait for the first; what is in no haste rides along, last."""
    wire, transport = Wire(asyncio.get_running_loop()), Transport()
    wire.connect(transport)  # type: ignore[arg-type]
    rides = [b"ack "]
    wire.let_ride(lambda: rides.pop() if rides else b"")
    for data in (b"first ", b"second ", b"third "):
        wire.write(data)
    assert transport.written == [b"first ack "]
    rides.append(b"more")
    await asyncio.sleep(0)
    assert transport.written[1:] == [b"second third more"]
    wire.write(b"of the next turn")
    assert transport.written[2:] == [b"of the next turn"]
    transport.closing = True
    with pytest.raises(Disconnected):
        wire.write(b"lost")


BROKEN = {
    "a header too short": plain(Basic.Deliver("queue", 1, False, "exchange", "key"), OURS)[0]
    + b"\x02\x00\x03\x00\x00\x00\x01\x00\xce",
    "a body without end": plain(Basic.Deliver("queue", 1, False, "exchange", "key"), OURS)[0]
    + plain(ContentHeader(0, 2**62, Basic.Properties()), OURS)[0],
    "a frame without end": b"\x03\x00\x03\xff\xff\xff\xff",
    "a confirm of nothing": b"\x01\x00\x03\x00\x00\x00\x04" + frames.ACK + b"\xce",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_what_cannot_be_read_ends_the_connection(data: bytes) -> None:
    """It is as if it were lost, and whoever waits for it connects anew."""
    wire, transport, hearer = Wire(asyncio.get_running_loop()), Transport(), Hearer()
    wire.connect(transport)  # type: ignore[arg-type]
    wire.listen(OURS, hearer)
    wire.feed_data(data.ljust(16, b"\x00"))
    assert transport.closing
    assert hearer.heard == []
    with pytest.raises(Disconnected):
        wire.write(b"more")


def test_aiormq_takes_the_transport_that_it_is_given() -> None:
    """It has since 7.2; without it no message could be taken out of what comes."""
    assert "transport_factory" in inspect.signature(aiormq.Connection.__init__).parameters


async def test_no_message_comes_through_aiormq(amqp_url: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither there nor back: its own ways to publish and to deliver are not taken."""

    async def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in ("basic_publish", "basic_ack", "_on_deliver_frame", "_on_confirm_frame"):
        assert hasattr(aiormq.Channel, name)
        monkeypatch.setattr(aiormq.Channel, name, never)
    broker = await RabbitBroker.connect(amqp_url, name="bank")
    inbox, _ = await open_queue(broker, place)
    await broker.publish(place.envelope(), Lane.ONLINE)
    await inbox.holds(1)
    await broker.delete(place.queue.name)
    await broker.close()
