"""Acks wait a little and go together, and never settle what nobody has accepted."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from tercet.broker.rabbitmq.consumer import ACK_SECONDS, MOST_ACKS, Intake, RabbitDelivery
from tercet.broker.rabbitmq.wire import Wire


class Broker:
    """Stands behind a wire, and knows what is unsettled; a tag that is settled twice is an error, as RabbitMQ's."""

    def __init__(self) -> None:
        self.unsettled: list[int] = []
        self.acked: list[int] = []
        self.others: list[tuple[int, str]] = []
        self.frames = 0
        self.tag = 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        while data:
            size, _, frame = pamqp.frame.unmarshal(data)
            self.settle(frame)
            data = data[size:]

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def settle(self, frame: Any) -> None:
        self.frames += 1
        tag = frame.delivery_tag
        assert tag in self.unsettled
        many = [one for one in self.unsettled if one <= tag] if getattr(frame, "multiple", False) else [tag]
        self.unsettled = [one for one in self.unsettled if one not in many]
        if isinstance(frame, Basic.Ack):
            self.acked += many
        else:
            self.others.append((tag, frame.name))


class Party:
    """Takes deliveries of two queues on one channel."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.wire = Wire(asyncio.get_running_loop())
        self.wire.connect(self.broker)  # type: ignore[arg-type]
        self.deliveries: dict[int, RabbitDelivery] = {}
        channel: Any = SimpleNamespace(number=2, is_closed=False)
        self.intake = Intake(channel, self.wire, {"mine": self})  # type: ignore[dict-item]

    def receive(self, delivery: RabbitDelivery) -> None:
        self.deliveries[delivery.tag] = delivery

    def arrive(self, queue: str = "mine") -> None:
        self.broker.tag += 1
        self.broker.unsettled.append(self.broker.tag)
        deliver = Basic.Deliver(queue, self.broker.tag, False, "exchange", "key")
        for frame in (deliver, ContentHeader(0, 0, Basic.Properties(message_id="a"))):
            self.wire.feed_data(pamqp.frame.marshal(frame, 2))

    def settle(self, way: str, tag: int) -> None:
        if way == "accept":
            self.intake.accept(tag)
        else:
            self.deliveries[tag].give_back()


steps = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "strange", "accept", "accept", "refuse", "flush"]), st.integers(0, 99)
    ),
    min_size=20,
    max_size=60,
)


@given(steps)
def test_what_is_acked_is_what_was_accepted(steps: list[tuple[str, int]]) -> None:
    """Whatever comes in between: other settlements, deliveries of a queue that nobody consumes, writes."""

    async def example() -> None:
        party = Party()
        accepted, refused = set[int](), set[int]()
        for what, number in steps:
            still = [tag for tag in party.deliveries if tag not in accepted | refused]
            if what in ("arrive", "strange"):
                party.arrive("mine" if what == "arrive" else "of nobody")
            elif what == "flush":
                party.intake.flush()
            elif still:
                tag = still[number % min(3, len(still))]  # acks of many are of the oldest
                (accepted if what == "accept" else refused).add(tag)
                party.settle(what, tag)
            assert set(party.broker.acked) <= accepted
        await asyncio.sleep(0)
        party.intake.flush()
        assert set(party.broker.acked) == accepted
        assert {tag for tag, _ in party.broker.others} == refused

    asyncio.run(example())


async def test_a_burst_is_acked_in_one_frame() -> None:
    """And no more wait than some."""
    party = Party()
    for _ in range(MOST_ACKS + 1):
        party.arrive()
    for tag in range(1, MOST_ACKS):
        party.intake.accept(tag)
    assert party.broker.frames == 0
    party.intake.accept(MOST_ACKS)
    assert (party.broker.frames, len(party.broker.acked)) == (1, MOST_ACKS)
    party.intake.accept(MOST_ACKS + 1)
    party.wire.write(pamqp.frame.marshal(Basic.Ack(0, False), 1)[:0])  # anything that leaves
    assert len(party.broker.acked) == MOST_ACKS + 1


async def test_an_ack_that_nothing_takes_along_leaves_by_itself() -> None:
    """Soon."""
    party = Party()
    party.arrive()
    party.intake.accept(1)
    await asyncio.sleep(20 * ACK_SECONDS)
    assert party.broker.acked == [1]


@pytest.mark.parametrize("how", ["told", "known"])
async def test_on_a_closed_channel_nothing_is_settled(how: str) -> None:
    """It comes again; another frame on that number would cost the connection."""
    party = Party()
    for _ in range(2):
        party.arrive()
    party.intake.accept(1)
    if how == "told":
        party.intake.on_close(Exception())
    else:
        party.intake.channel.is_closed = True  # type: ignore[misc]
    party.intake.flush()
    party.deliveries[2].give_back()
    assert party.broker.unsettled == [1, 2]


async def test_a_delivery_that_goes_back_leaves_before_the_acks_that_would_cover_it() -> None:
    """Else it would be accepted with them, and lost."""
    party = Party()
    for _ in range(3):
        party.arrive()
    party.intake.accept(2)
    party.intake.accept(3)
    party.deliveries[1].give_back()
    assert party.broker.others == [(1, "Basic.Nack")]
    assert party.broker.acked == [2, 3]
