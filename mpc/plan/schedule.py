"""Schedules rows and rates of all steps, the same for all parties, from the job alone.

It holds nothing secret: the permutation that `start` and `stop` cut into batches is elsewhere.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

RateKind = Literal["constant", "inverse-time", "exponential", "linear"]
LEAST_ROWS = 32  # a smaller rest of an epoch joins the batch before it


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the job.

    Weights are w = alpha u, with u what is shared; alpha carries the L2 penalty.
    """

    index: int  # t, over the whole job
    epoch: int
    position: int  # within the epoch; (attempt, epoch, position, block) is the address of a mask
    start: int  # the batch is the slice start:stop of the epoch's permutation
    stop: int
    scale: float  # rate / rows / after, snapped: what activation and label are multiplied by before encoding
    alpha: float  # before the step
    after: float  # alpha after it
    least: float = 1.0  # no step of the same pass has a smaller scale

    @property
    def rows(self) -> int:
        """Rows of this batch."""
        return self.stop - self.start


class LookAhead(NamedTuple):
    """Says how far ahead of the steps that are done masked words leave."""

    steps: int = 1
    epoch: int = 0  # steps of an epoch where any may be the last: nothing of one leaves before it is certain

    def steps_before(self, index: int) -> int:
        """Count the steps that must be done before the masked inputs of step `index` leave."""
        return index if self.epoch and index % self.epoch == 0 else index + 1 - self.steps


def batch_sizes(rows: int, batch: int) -> list[int]:
    """Return sizes of an epoch's batches.

    A last, smaller batch is kept; below 32 rows it joins the one before.
    """
    full, rest = divmod(rows, batch)
    sizes = [batch] * full
    if rest and (rest >= LEAST_ROWS or not full):
        sizes.append(rest)
    elif rest:
        sizes[-1] += rest
    return sizes


def rates(kind: RateKind, rate: float, decay: float, *, final: float = 1.0, steps: int = 1) -> Iterator[float]:
    """Yield the learning rate for t = 0, 1, 2, ... without end.

    "linear" falls evenly to `final` of it at the last step.

    Made of + * / alone, which IEEE fixes to the last bit: a power from the mathematical library may differ between
    machines, and then so would the model.
    """
    if kind == "constant":
        yield from itertools.repeat(rate)
    elif kind == "inverse-time":
        yield from (rate / (1.0 + decay * t) for t in itertools.count())
    elif kind == "linear":
        last = max(1, steps - 1)
        yield from (rate * (1.0 - (1.0 - final) * min(t, last) / last) for t in itertools.count())
    else:
        while True:
            yield rate
            rate = rate * decay


def decay_alpha(rate: float, l2: float, alpha: float) -> float:
    """Return alpha after a step at this rate: w shrinks by (1 - rate l2)."""
    return alpha * (1.0 - rate * l2)


def snap_scale(scale: float, bits: int) -> float:
    """Round to a multiple of 2^(1 - bits).

    A label of one half is then encoded at `bits` without rounding.
    """
    return math.ldexp(round(math.ldexp(scale, bits - 1)), 1 - bits)


class OutOfTurn(RuntimeError):
    """A role was asked for something before what it depends on, or twice: our own mistake."""


class Turns:
    """Lets each operation see every step once and in order: a mask must not meet two values."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._next: dict[str, int] = {}

    def begin_step(self, operation: str, step: Step) -> None:
        """Note that this operation now does this step; OutOfTurn if it is not the next one."""
        if step.index != self.next_step(operation):
            raise OutOfTurn(f"{operation}: step {step.index} asked for, step {self.next_step(operation)} is next")
        self._next[operation] = step.index + 1

    def next_step(self, operation: str) -> int:
        """Return the step that this operation has to do next."""
        return self._next.get(operation, self._first)
