"""The in-process broker's queue against a list: nothing is lost or doubled but by a fault, and order is kept."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tercet.broker.interface.base import Envelope
from tercet.broker.memory.memory_queue import PATIENCE, Delay, Drop, Duplicate, Entry, Fault, MemoryQueue, Reorder
from tests.fuzz.virtual import Clockwork

FAULTS: list[tuple[Fault, ...]] = [(), (), (), (Drop(),), (Duplicate(2),), (Delay(0.5),), (Reorder(),),
                                   (Delay(0.2), Duplicate()), (Reorder(), Duplicate())]  # fmt: skip


class CountingConsumer:
    """A consumer with a prefetch, which notes what it is handed."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.held: list[Entry] = []

    def has_room(self) -> bool:
        return len(self.held) < self.prefetch

    def deliver(self, entry: Entry) -> None:
        assert entry.expires_at > asyncio.get_running_loop().time(), "nobody wants it any more"
        self.held.append(entry)

    def forget(self) -> None:
        self.held.clear()


class QueueMachine(RuleBasedStateMachine):
    """Envelopes come in with faults; a consumer takes, settles, loses its connection, leaves and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Clockwork()
        self.queue = MemoryQueue("tercet.bank.job.control", None)
        self.taker: CountingConsumer | None = None
        self.due: Counter[int] = Counter()  # how often each envelope has to arrive before it is settled
        self.calm: list[int] = []  # those whose order counts, as they came
        self.seen: list[int] = []  # the same, as they were first handed on
        self.number = 0

    @rule(faults=st.sampled_from(FAULTS), expires=st.sampled_from([None, None, None, 0.3]))
    def arrive(self, faults: Sequence[Fault], expires: float | None) -> None:
        """An envelope, which may be lost, doubled, late or early, and which may not be wanted for long."""
        self.number += 1
        envelope = Envelope(
            "tercet.from.card", "key", str(self.number).encode(), "k", "a", "job", "card", expires=expires
        )
        if not any(isinstance(fault, Drop) for fault in faults) and expires is None:
            copies = 1 + sum(fault.times for fault in faults if isinstance(fault, Duplicate))
            self.due[self.number] += copies
        if not faults and expires is None:
            self.calm.append(self.number)
        self.loop.inside(lambda: self.queue.arrive(envelope, faults))

    @precondition(lambda self: self.taker is None)
    @rule(prefetch=st.integers(1, 3))
    def consume(self, prefetch: int) -> None:
        """Somebody takes."""
        self.taker = self.queue.consumer = CountingConsumer(prefetch)
        self.loop.inside(self.queue.pump)

    @precondition(lambda self: self.taker is not None and self.taker.held)
    @rule(which=st.integers(0, 2))
    def settle(self, which: int) -> None:
        """One of those that are held is done with."""
        assert self.taker is not None
        entry = self.taker.held.pop(which % len(self.taker.held))
        number = int(entry.envelope.body)
        if number in self.due:
            self.due[number] -= 1
            assert self.due[number] >= 0, "handed on more often than it came"
        self.loop.inside(self.queue.pump)

    @precondition(lambda self: self.taker is not None)
    @rule(stays=st.booleans())
    def lose(self, stays: bool) -> None:
        """What is unsettled comes again."""
        assert self.taker is not None
        held, self.taker.held = self.taker.held, []
        if not stays:
            self.taker = self.queue.consumer = None
        self.loop.inside(lambda: self.queue.give_back(held))
        again = [entry for entry in held if entry.expires_at > self.loop.time()]
        if self.taker is not None:
            assert [entry.envelope for entry in self.taker.held[: len(again)]] == [entry.envelope for entry in again]
            assert all(entry.redelivered for entry in self.taker.held[: len(again)])

    @rule(seconds=st.sampled_from([0.01, PATIENCE, 0.4, 1.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.loop.advance(seconds)

    @invariant()
    def order_holds(self) -> None:
        """Of envelopes that nothing befell, a later one is never first handed on before an earlier one."""
        held = [] if self.taker is None else [int(entry.envelope.body) for entry in self.taker.held]
        self.seen += [number for number in held if number in set(self.calm) - set(self.seen)]
        assert self.seen == self.calm[: len(self.seen)]

    @invariant()
    def nothing_waits_beside_a_consumer_with_room(self) -> None:
        """It is handed on at once."""
        assert self.taker is None or not self.taker.has_room() or len(self.queue) == 0

    def teardown(self) -> None:
        """In the end everything has come that was not lost on purpose, as often as it should."""
        self.loop.advance(5)
        left = CountingConsumer(10_000)
        if self.taker is not None:
            left.held = self.taker.held
        self.queue.consumer = left
        self.loop.inside(self.queue.pump)
        self.loop.close()
        came = Counter(int(entry.envelope.body) for entry in left.held)
        assert {number: came[number] for number in self.due} == dict(self.due)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
