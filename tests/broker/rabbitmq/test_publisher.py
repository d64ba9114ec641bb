"""The publisher tells of each envelope what became of it, whatever the broker says and whoever has gone."""

import asyncio
from types import SimpleNamespace
from typing import Any

import aiormq
import pamqp.frame
import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from tercet.broker.interface.base import Answer, BrokerError, Disconnected, Envelope, Overloaded, Refused, Unroutable
from tercet.broker.rabbitmq import frames
from tercet.broker.rabbitmq.publisher import Publisher


class Line:
    """A wire and a channel that keep what is written."""

    def __init__(self, number: int = 1) -> None:
        self.written: list[bytes] = []
        self.is_closing = self.is_closed = False
        self.number = number
        self.connection = SimpleNamespace(is_closed=False, connection_tune=SimpleNamespace(frame_max=0))
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def listen(self, number: int, heard: Publisher) -> None:
        assert number == self.number

    def write(self, data: bytes) -> None:
        self.written.append(data)

    @property
    def bodies(self) -> list[bytes]:
        return [data[:-1].rpartition(b"=")[2] for data in self.written]


def attached(publisher: Publisher) -> Line:
    line = Line()
    publisher.attach(line, line)  # type: ignore[arg-type]
    return line


def envelope(address: str, body: bytes = b"") -> Envelope:
    return Envelope("exchange", "key", b"=" + (body or address.encode()), "kind", address, "job", "bank")


def comes_back(publisher: Publisher, address: str) -> None:
    """The broker returns a message that no queue takes."""
    method, header = (
        pamqp.frame.marshal(frame, 1)[7:-1]
        for frame in (
            Basic.Return(312, "NO_ROUTE", "exchange", "key"),
            ContentHeader(0, 1, Basic.Properties(message_id=address)),
        )
    )
    publisher.on_message(method, header, b"=")


async def outcome(answer: Answer) -> type[BrokerError] | None:
    try:
        await asyncio.wait_for(answer, 1)
    except BrokerError as error:
        return type(error)
    return None


async def test_one_confirm_may_be_for_many_and_leaves_those_behind_it() -> None:
    """RabbitMQ confirms up to a tag."""
    publisher = Publisher()
    attached(publisher)
    answers = [publisher.send(envelope(f"a{number}")) for number in range(4)]
    publisher.on_answer(3, many=True, positive=True)
    assert [answer.done() for answer in answers] == [True, True, True, False]
    publisher.on_answer(4, many=False, positive=False)
    assert [await outcome(answer) for answer in answers] == [None, None, None, Overloaded]


async def test_what_comes_back_is_unroutable_and_its_neighbours_are_not() -> None:
    """By its address; the confirm behind it tells that the broker is done with it."""
    publisher = Publisher()
    attached(publisher)
    answers = [publisher.send(envelope(address)) for address in ("here", "nowhere", "there")]
    comes_back(publisher, "nowhere")
    comes_back(publisher, "of nobody")
    assert not any(answer.done() for answer in answers)
    publisher.on_answer(3, many=True, positive=True)
    assert [await outcome(answer) for answer in answers] == [None, Unroutable, None]


async def test_those_of_one_address_go_one_after_another_without_those_given_up() -> None:
    """Each has its own answer."""
    publisher = Publisher()
    line = attached(publisher)
    first, unwanted, last = (publisher.send(envelope("a", body)) for body in (b"1", b"2", b"3"))
    other = publisher.send(envelope("b"))
    assert line.bodies == [b"1", b"b"]
    unwanted.cancel()
    comes_back(publisher, "a")
    publisher.on_answer(1, many=False, positive=True)
    assert line.bodies == [b"1", b"b", b"3"]
    publisher.on_answer(3, many=True, positive=True)
    assert [await outcome(answer) for answer in (first, other, last)] == [Unroutable, None, None]


async def test_an_answer_that_was_given_up_holds_its_address_until_the_broker_has_spoken() -> None:
    """Else a return of the one could be taken for the other's."""
    publisher = Publisher()
    line = attached(publisher)
    publisher.send(envelope("a", b"1")).cancel()
    second = publisher.send(envelope("a", b"2"))
    assert line.bodies == [b"1"]
    comes_back(publisher, "a")
    publisher.on_answer(1, many=False, positive=True)
    publisher.on_answer(2, many=False, positive=True)
    assert await outcome(second) is None


async def test_a_late_confirm_is_that_of_the_repeat_that_waits_behind() -> None:
    """Else an envelope whose confirms are slower than an attempt would be sent again for ever."""
    publisher = Publisher()
    line, same = attached(publisher), envelope("a")
    first = publisher.send(same)
    first.cancel()
    again, other = publisher.send(same), publisher.send(envelope("a", b"another"))
    publisher.on_answer(1, many=False, positive=True)
    assert again.done()
    assert again.exception() is None
    assert not other.done()
    assert line.bodies == [b"a", b"another"]


async def test_a_channel_that_the_broker_closes_is_used_no_more() -> None:
    """All who wait are told whose fault it is, at once; nothing is written until there is another channel."""
    publisher = Publisher()
    line = attached(publisher)
    large, behind = publisher.send(envelope("large", bytes(99))), publisher.send(envelope("large"))
    other = publisher.send(envelope("other"))
    publisher.on_close(aiormq.ChannelPreconditionFailed(None, "message size 100 is larger than max size 10"))
    assert [await outcome(answer) for answer in (large, behind, other)] == [Refused, Disconnected, Disconnected]
    assert not publisher.is_open
    assert await outcome(publisher.send(envelope("later"))) is Disconnected
    with pytest.raises(Disconnected):
        publisher.attach(line, line)  # type: ignore[arg-type]  # aiormq does not know yet
    assert len(line.written) == 2
    fresh = attached(publisher)
    answer = publisher.send(envelope("later"))
    publisher.on_answer(1, many=False, positive=True)
    assert await outcome(answer) is None
    assert len(fresh.written) == 1


@pytest.mark.parametrize("reason", [asyncio.CancelledError(), aiormq.AMQPConnectionError("lost"), None])
async def test_a_lost_connection_is_told_and_an_older_one_is_not_heard(reason: Any) -> None:
    """Whatever aiormq says of it."""
    publisher = Publisher()
    old = attached(publisher)
    lost = publisher.send(envelope("a"))
    if reason is None:
        old.closing.cancel()
    else:
        old.closing.set_exception(reason)
    assert await outcome(lost) is Disconnected
    older, newer = attached(publisher), attached(publisher)
    answer = publisher.send(envelope("a"))
    older.closing.cancel()
    await asyncio.sleep(0)
    assert not answer.done()
    assert len(newer.written) == 1
    publisher.close(None)
    assert await outcome(answer) is Disconnected


async def test_a_wire_that_closes_takes_nothing_more() -> None:
    """Also where nobody has been told yet."""
    publisher = Publisher()
    line = attached(publisher)
    line.is_closing = True
    assert not publisher.is_open
    assert await outcome(publisher.send(envelope("a"))) is Disconnected
    assert line.written == []
    assert frames.publish_frames(1, envelope("a"), 0)
