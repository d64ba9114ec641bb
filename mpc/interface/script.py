"""Defines the events by which a role says what it wants next, without any I/O.

A script is a generator of these.

Whoever drives it sends, waits and answers; it knows neither messages nor a clock. So one and the same text of the
protocol runs over a broker, in a test that delivers in any order, and in a benchmark.
"""

from collections.abc import Generator, Mapping
from typing import NamedTuple, TypeVar

from tercet.mpc.arithmetic.ring import Words, total

HELPER = -1  # beside the data parties' numbers


class Send(NamedTuple):
    """Send these words to each of them. `turn` numbers messages of one kind within a step.

    What goes `along` is of other kinds and travels with it, but is waited for by itself. So does what is for another
    step: of `later` each has so many steps after this one, or before it if below 0, and a kind.
    """

    kind: str
    turn: int
    to: tuple[int, ...]
    words: Words
    along: tuple[tuple[str, Words], ...] = ()
    later: tuple[tuple[int, str, Words], ...] = ()


class Receive(NamedTuple):
    """Wait for one message of a kind from each sender, of the shape that is due from it."""

    kind: str
    turn: int
    shapes: Mapping[int, tuple[int, int]]


class Signal(NamedTuple):
    """Tells that the stage of this name is done for one step more."""

    name: str


class Await(NamedTuple):
    """Waits until another script of the same role signals this stage for this step."""

    name: str


Event = Send | Receive | Signal | Await
Reply = Mapping[int, Words] | None
T = TypeVar("T")
Script = Generator[Event, Reply, T]
"""A `Receive` is answered with the words by sender, anything else with None. It may return something to its caller."""


def received_words(answer: Reply) -> Mapping[int, Words]:
    """Return the answer to a `Receive`."""
    assert answer is not None
    return answer


def receive_sum(kind: str, turn: int, mine: Words, others: tuple[int, ...]) -> Script[Words]:
    """Receive a share from each other data party; return the sum of all, this party's with them."""
    due = dict.fromkeys(others, (mine.shape[0], mine.shape[1]))
    return total([mine, *received_words((yield Receive(kind, turn, due))).values()])


def sum_shares(kind: str, turn: int, mine: Words, others: tuple[int, ...]) -> Script[Words]:
    """Send a share to every other data party; return the sum of all."""
    yield Send(kind, turn, others, mine)
    return (yield from receive_sum(kind, turn, mine, others))
