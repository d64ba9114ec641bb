"""The outbox sends in order without waiting, repeats until the deadline, and is the same after any cancellation."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tercet.broker.interface.base import Answer, Disconnected, Envelope, Lane, Overloaded, Refused, Unroutable
from tercet.broker.interface.outbox import Outbox, Undeliverable
from tercet.broker.memory.broker import MemoryBroker, MemoryConnection
from tests.broker.contract import Place, next_inbox, open_queue
from tests.broker.contract import place as place  # a fixture


class Gate:
    """Confirms nothing until it is opened; counts what it holds."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting: list[bytes] = []

    async def __call__(self, envelope: Envelope) -> None:
        self.waiting.append(envelope.body)
        await self.open.wait()


class Clock:
    """Time that passes only in sleeps, and a record of them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.on_sleep()
        await asyncio.sleep(0)


@pytest.fixture
async def bank(place: Place) -> AsyncIterator[MemoryConnection]:
    """At a broker where card has declared the queue."""
    memory_broker = MemoryBroker(prefetch=10_000)
    await memory_broker.connect("card").declare(place.queue)
    connection = memory_broker.connect("bank")
    yield connection
    await connection.close()


async def turns(count: int = 5) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def post(outbox: Outbox, envelope: Envelope, lane: Lane = Lane.ONLINE, **changes: bool) -> None:
    await outbox.post(envelope, lane, deadline=5.0, name="step", **changes)


async def test_posting_waits_for_no_confirm(bank: MemoryConnection, place: Place):
    """A hundred envelopes are out before the first is confirmed, in order."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank)
    for number in range(100):
        await post(outbox, place.envelope(number))
    await turns()
    assert gate.waiting == [str(number).encode() for number in range(100)]
    assert outbox.unconfirmed == 100
    gate.open.set()
    await outbox.drain(5.0)
    assert outbox.unconfirmed == 0
    await outbox.close()


@given(st.lists(st.integers(0, 400), max_size=40), st.integers(1, 500), st.integers(1, 5))
def test_no_more_is_out_than_the_window_holds_and_order_is_kept(sizes: list[int], max_bytes: int, max_envelopes: int):
    """Whatever the sizes: concurrent posters go out in order of their calls; a giant goes out alone; all arrive."""

    async def run() -> None:
        place, out, seen = Place(), Counter[str](), list[bytes]()

        async def confirm(envelope: Envelope) -> None:
            seen.append(envelope.body)
            out.update(bytes=len(envelope.body), envelopes=1)
            assert out["envelopes"] <= max_envelopes
            assert out["bytes"] <= max_bytes or out["envelopes"] == 1
            await turns(len(envelope.body) % 7)
            out.update(bytes=-len(envelope.body), envelopes=-1)

        memory_broker = MemoryBroker(confirm=confirm)
        bank = memory_broker.connect("bank")
        await bank.declare(place.queue)
        outbox = Outbox(bank, max_bytes=max_bytes, max_unconfirmed=max_envelopes)
        bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(post(outbox, place.envelope(body)))
        await outbox.drain(5.0)
        assert seen == bodies
        assert sum(counter.bytes for counter in outbox.sent.values()) == sum(sizes)
        await outbox.close()

    asyncio.run(run())


async def test_a_full_lane_does_not_hold_up_the_other(bank: MemoryConnection, place: Place):
    """Bulk fills its own window; a pre-activation goes out at once."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank, max_bytes=10)
    await post(outbox, place.envelope(b"0123456789"), Lane.BULK)
    blocked = asyncio.create_task(post(outbox, place.envelope(b"x"), Lane.BULK))
    await turns()
    assert not blocked.done()
    await asyncio.wait_for(post(outbox, place.envelope(b"online")), 5.0)
    gate.open.set()
    await blocked
    await outbox.close()


async def test_an_unroutable_envelope_is_repeated_until_its_receiver_is_there(bank: MemoryConnection):
    """The same bytes, after growing pauses."""
    place, clock = Place(), Clock()
    outbox = Outbox(bank, pauses=(0.1, 0.2, 0.4), clock=clock, sleep=clock.sleep)
    await post(outbox, place.envelope(b"ciphertext"))
    declared: list[asyncio.Task[None]] = []

    def later() -> None:
        if len(clock.slept) == 4:
            declared.append(asyncio.create_task(bank.declare(place.queue)))

    clock.on_sleep = later
    await outbox.drain(5.0)
    await asyncio.gather(*declared)
    inbox = await next_inbox(bank.broker.connect("card"), place)
    assert inbox.bodies == [b"ciphertext"]
    assert clock.slept[:4] == [0.1, 0.2, 0.4, 0.4]
    assert not outbox.failed.done()
    await outbox.close()


async def test_what_nobody_takes_until_the_deadline_fails_by_name(bank: MemoryConnection):
    """The report names address, deadline, receiver and reason; the outbox goes on sending to others."""
    place, clock = Place(), Clock()
    outbox = Outbox(bank, clock=clock, sleep=clock.sleep)
    lost = place.envelope(b"the content", address="credit/1/0/3/bank/card")
    await outbox.post(lost, Lane.ONLINE, deadline=2.5, name="step")
    with pytest.raises(
        Undeliverable, match=rf"credit/1/0/3/bank/card for {place.key()}.*step, 2.5 s.*no queue"
    ) as reported:
        await asyncio.wait_for(asyncio.shield(outbox.failed), 5.0)
    assert (reported.value.address, reported.value.deadline_name) == (lost.address, "step")
    assert (reported.value.job, reported.value.routing_key) == (lost.job, place.key())
    assert isinstance(reported.value.reason, Unroutable)
    assert "the content" not in str(reported.value) + repr(reported.value)
    assert 1002.0 <= clock.now <= 1003.0
    await bank.declare(place.queue)
    await post(outbox, place.envelope())
    await outbox.drain(5.0)
    assert outbox.sent["control"].messages == 1
    await outbox.close()


async def test_what_is_refused_fails_at_once(place: Place):
    """There is no use in repeating it."""
    memory_broker, clock = MemoryBroker(may_write=lambda _party, _exchange: False), Clock()
    outbox = Outbox(memory_broker.connect("bank"), clock=clock, sleep=clock.sleep)
    await post(outbox, place.envelope())
    with pytest.raises(Undeliverable, match="may not write") as reported:
        await asyncio.wait_for(asyncio.shield(outbox.failed), 5.0)
    assert isinstance(reported.value.reason, Refused)
    assert clock.slept == []
    await outbox.close()


async def test_a_lost_connection_delays_and_loses_nothing(bank: MemoryConnection, place: Place):
    """What was out and what is posted meanwhile arrives when the connection is back."""
    clock = Clock()
    inbox, _ = await open_queue(bank.broker.connect("card"), place)
    outbox = Outbox(bank, clock=clock, sleep=clock.sleep)
    await post(outbox, place.envelope(b"before"))
    bank.disconnect()
    await post(outbox, place.envelope(b"during"))
    clock.on_sleep = lambda: bank.reconnect() if len(clock.slept) > 3 else None
    await outbox.drain(5.0)
    await inbox.holds(2)
    assert set(inbox.bodies) == {b"before", b"during"}
    assert not outbox.failed.done()
    await outbox.close()


async def test_optional_envelopes_are_dropped_quietly(bank: MemoryConnection, place: Place):
    """Progress for a console that has gone is no failure, and is not repeated: it is counted, and fills no log."""
    clock = Clock()
    outbox = Outbox(bank, clock=clock, sleep=clock.sleep)
    with capture_logs() as logs:
        await post(outbox, place.envelope(routing_key="gone"), required=False)
        await outbox.drain(5.0)
    assert outbox.dropped == {"control": 1}
    assert [line["log_level"] for line in logs] == ["debug"]
    assert (outbox.sent, outbox.unconfirmed, clock.slept) == ({}, 0, [])
    assert not outbox.failed.done()
    await outbox.close()


async def test_a_publish_that_is_never_confirmed_ends_at_the_deadline(bank: MemoryConnection, place: Place):
    """On real time: a broker that hangs does not hang its users."""
    bank.broker.confirm = Gate()
    outbox = Outbox(bank)
    await outbox.post(place.envelope(), Lane.ONLINE, deadline=0.05, name="release")
    with pytest.raises(Undeliverable, match=r"release.*not confirmed") as reported:
        await asyncio.wait_for(asyncio.shield(outbox.failed), 5.0)
    assert reported.value.reason is None
    await outbox.close()


@pytest.mark.parametrize("last", [Unroutable, Disconnected, Overloaded])
async def test_a_failure_keeps_what_the_broker_said_last(
    bank: MemoryConnection,
    place: Place,
    last: type[Unroutable | Disconnected | Overloaded],
):
    """Whose fault it is depends on it: the receiver's, or that of the way there."""
    answers = iter([Overloaded("full"), Unroutable("nobody there")])

    async def refuse(_: Envelope) -> None:
        raise next(answers, last("the last word"))

    bank.broker.confirm, clock = refuse, Clock()
    outbox = Outbox(bank, clock=clock, sleep=clock.sleep)
    await post(outbox, place.envelope())
    with pytest.raises(Undeliverable, match="the last word") as reported:
        await asyncio.wait_for(asyncio.shield(outbox.failed), 5.0)
    assert type(reported.value.reason) is last
    await outbox.close()


async def test_a_window_that_stays_full_fails_the_poster(bank: MemoryConnection, place: Place):
    """With the deadline's name; the window's state is as before."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank, max_unconfirmed=1)
    await post(outbox, place.envelope(b"a"))
    with pytest.raises(Undeliverable, match="ready"):
        await outbox.post(place.envelope(b"b"), Lane.ONLINE, deadline=0.02, name="ready")
    gate.open.set()
    await outbox.drain(5.0)
    await post(outbox, place.envelope(b"c"))
    await outbox.drain(5.0)
    assert gate.waiting == [b"a", b"c"]
    await outbox.close()


async def test_counts_by_kind_are_of_what_was_confirmed(bank: MemoryConnection, place: Place):
    """Messages and bytes, for status and benchmarks."""
    outbox = Outbox(bank)
    for size in (10, 20):
        await post(outbox, place.envelope(bytes(size), kind="masked-inputs"), Lane.BULK)
    await post(outbox, place.envelope(bytes(5), kind="progress"))
    assert outbox.sent == {}
    await outbox.drain(5.0)
    counts = {kind: (counter.messages, counter.bytes) for kind, counter in outbox.sent.items()}
    assert counts == {"masked-inputs": (2, 30), "progress": (1, 5)}
    await outbox.close()


async def test_a_bug_in_the_broker_is_not_swallowed(bank: MemoryConnection, place: Place):
    """It shows in `failed` as what it is."""

    async def broken(_: Envelope) -> None:
        raise ZeroDivisionError

    bank.broker.confirm = broken
    outbox = Outbox(bank)
    await post(outbox, place.envelope())
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(asyncio.shield(outbox.failed), 5.0)
    await outbox.close()


async def test_drain_that_is_late_names_an_envelope(bank: MemoryConnection, place: Place):
    """And leaves it on its way, as one that is cancelled does: it only watched."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank)
    envelope = place.envelope()
    await post(outbox, envelope)
    with pytest.raises(TimeoutError, match=envelope.address):
        await outbox.drain(0.01)
    draining = asyncio.create_task(outbox.drain(5.0))
    await turns()
    draining.cancel()
    await asyncio.wait([draining])
    gate.open.set()
    await outbox.drain(5.0)
    assert outbox.sent["control"].messages == 1
    await outbox.close()


@pytest.mark.parametrize("after", range(4))
async def test_a_post_that_is_cancelled_is_not_sent_and_takes_no_room(bank: MemoryConnection, place: Place, after: int):
    """Before, while and just after it is let in; those behind it go on in order."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank, max_unconfirmed=1)
    await post(outbox, place.envelope(b"first"))
    hit = asyncio.create_task(post(outbox, place.envelope(b"hit")))
    behind = [asyncio.create_task(post(outbox, place.envelope(b"behind %d" % n))) for n in range(3)]
    await turns(after)
    gate.open.set()
    await turns(after)
    cancelled = hit.cancel()
    await asyncio.wait([hit, *behind], timeout=5.0)
    await outbox.drain(5.0)
    sent = [b"first", *([] if hit.cancelled() else [b"hit"]), *(b"behind %d" % n for n in range(3))]
    assert gate.waiting == sent
    assert cancelled or not hit.cancelled()
    await outbox.close()


async def test_a_post_cancelled_in_the_moment_it_is_let_in_gives_the_room_back(bank: MemoryConnection, place: Place):
    """The narrowest window of all: room granted, task not yet run."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank, max_unconfirmed=1)
    await post(outbox, place.envelope(b"first"))
    hit = asyncio.create_task(post(outbox, place.envelope(b"hit")))
    behind = asyncio.create_task(post(outbox, place.envelope(b"behind")))
    await turns()
    (sending,) = outbox._sending
    assert sending.answer is not None
    sending.answer.add_done_callback(lambda _: hit.cancel())  # runs right behind the outbox's own callback
    gate.open.set()
    await asyncio.wait([hit, behind], timeout=5.0)
    assert hit.cancelled()
    await outbox.drain(5.0)
    assert gate.waiting == [b"first", b"behind"]
    await outbox.close()


async def test_nobody_passes_one_who_has_been_let_in_and_has_not_run_yet(bank: MemoryConnection, place: Place):
    """A small envelope posted in that very moment would fit, and must wait all the same."""
    bank.broker.confirm = gate = Gate()
    outbox = Outbox(bank, max_bytes=3)
    await post(outbox, place.envelope(b"11"))
    hit = asyncio.create_task(post(outbox, place.envelope(b"22")))

    async def in_between() -> None:
        await gate.open.wait()
        await asyncio.sleep(0)  # now the first envelope's room has been given to the second
        await post(outbox, place.envelope(b"3"))

    await turns()
    passing = asyncio.create_task(in_between())
    await turns()
    gate.open.set()
    await asyncio.gather(hit, passing)
    await outbox.drain(5.0)
    assert gate.waiting == [b"11", b"22", b"3"]
    await outbox.close()


async def test_closing_gives_up_turns_away_and_may_be_repeated(bank: MemoryConnection, place: Place):
    """Nothing runs on afterwards, not even what had just been posted; who waits for room is told."""
    bank.broker.confirm = Gate()
    outbox = Outbox(bank, max_unconfirmed=2)
    await post(outbox, place.envelope())
    await turns()
    await post(outbox, place.envelope(b"just now"))
    blocked = asyncio.create_task(post(outbox, place.envelope()))
    await turns(1)
    await outbox.close()
    await outbox.close()
    with pytest.raises(RuntimeError, match="closed"):
        await blocked
    with pytest.raises(RuntimeError, match="closed"):
        await post(outbox, place.envelope())
    assert outbox.unconfirmed == 0
    assert not outbox.failed.done()


class Mute:
    """Answers only what it is told to; keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers: list[Answer] = []

    def send(self, envelope: Envelope, _lane: Lane) -> Answer:
        self.sent.append(envelope.body)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


async def test_what_goes_through_at_once_takes_no_task_and_no_timer_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One timer watches over all, until none is left; what fails takes a task, which repeats it."""
    loop, mute = asyncio.get_running_loop(), Mute()
    outbox, timers, call_at = Outbox(mute), [], loop.call_at  # type: ignore[arg-type]

    def counted(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(call_at(*arguments, **options))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", counted)
    tasks = asyncio.all_tasks()
    for number in range(50):
        await post(outbox, Envelope("e", "k", b"%d" % number, "kind", f"a{number}", "job", "sender"))
    assert (asyncio.all_tasks(), len(timers), outbox.unconfirmed) == (tasks, 1, 50)
    for answer in mute.answers[1:]:
        answer.set_result(None)
    await turns()
    assert (asyncio.all_tasks(), outbox.unconfirmed) == (tasks, 1)
    mute.answers[0].set_exception(Unroutable("not yet"))
    await turns()
    (repeating,) = asyncio.all_tasks() - tasks
    assert "a0" in repeating.get_name()
    await outbox.close()
    assert asyncio.all_tasks() == tasks


async def test_each_first_attempt_is_given_up_in_its_own_time() -> None:
    """Whatever the deadlines, and in whatever order they were posted."""
    mute, timed_out = Mute(), list[str]()
    outbox = Outbox(mute, attempt=0.2)  # type: ignore[arg-type]
    for name, deadline in (("long", 9.0), ("short", 0.05), ("between", 0.1)):
        envelope = Envelope("e", "k", name.encode(), "kind", name, "job", "sender")
        await outbox.post(envelope, Lane.ONLINE, deadline=deadline, name=name, required=True)
        mute.answers[-1].add_done_callback(lambda _, name=name: timed_out.append(name))  # type: ignore[misc]
    await asyncio.sleep(0.15)
    assert timed_out == ["short", "between"]
    await asyncio.sleep(0.1)
    assert timed_out == ["short", "between", "long"]
    assert mute.sent == [b"long", b"short", b"between", b"long"]
    assert outbox.unconfirmed == 1
    mute.answers[-1].set_result(None)
    await outbox.drain(5.0)
    with pytest.raises(Undeliverable, match="short"):
        await outbox.failed
    await outbox.close()


async def test_an_answer_that_somebody_else_gives_up_is_no_loss() -> None:
    """The envelope goes out once more."""
    mute = Mute()
    outbox = Outbox(mute)  # type: ignore[arg-type]
    await post(outbox, Envelope("e", "k", b"sealed", "kind", "address", "job", "sender"))
    mute.answers[0].cancel()
    await turns()
    mute.answers[1].set_result(None)
    await outbox.drain(5.0)
    assert (mute.sent, outbox.sent["kind"].messages) == ([b"sealed"] * 2, 1)
    await outbox.close()


async def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    """The room was given back once."""
    mute, surprises = Mute(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: surprises.append(context))
    outbox = Outbox(mute)  # type: ignore[arg-type]
    await post(outbox, Envelope("e", "k", b"sealed", "kind", "address", "job", "sender"))
    mute.answers[0].set_result(None)
    await outbox.close()
    await turns()
    assert outbox.in_flight == {"online": 0, "bulk": 0}
    assert (outbox.sent, surprises) == ({}, [])
