"""Finds out which cells have the minimum of each class, from shares of their counts.

Nobody but the owner of a cell learns whether it passes, and nobody learns a count.

For a count p in shares modulo M the helper draws r, in two streams "S" of the owner j and the label party L, and deals
the truth table T[x] = (x - r mod M >= least) of M bits: L has a stream "T", and j is dealt the rest. Both open
u = p + r mod M, which is uniform, and look up their shares of T[u]. So each has an XOR share of (p >= least).

A cell passes if that holds for each class. Two bits x and y become their product by dealt bits c = a b:

    d = x + a,  e = y + b     both open      x y = c + d b + e a + d e      modulo 2, d e at L alone

j and L have streams "Z" of a, b and c, but j is dealt its share of c. Pair by pair the bits of a cell become one. L
tells j its share of that.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.ring import Words, expect
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, received_words
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.plan import StatisticsPlan

ONE, WORD = np.uint64(1), np.uint64(64)


class Gates(NamedTuple):
    """Holds the bits of products of some cells, (cells, products) each."""

    a: Words
    b: Words
    c: Words


def class_shares(plan: StatisticsPlan, share: Words, rows: Words | None = None) -> Words:
    """Compute shares modulo M of the rows of each class, (cells, classes).

    Args:
        plan: The job's agreed numbers.
        share: Of the sums of targets, (cells, targets).
        rows: Of each cell, (cells,), at its owner alone: the first class has what the others leave.
    """
    rest = np.uint64(0) - share.sum(axis=1, dtype=np.uint64)
    first = rest if rows is None else rest + rows
    return np.column_stack([first, share]) & np.uint64(plan.table - 1)


class CellChecks:
    """Plays party `me`'s part: the label party's with all partners, or a partner's.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        masks: Shared with the helper.
    """

    def __init__(self, me: int, plan: StatisticsPlan, masks: Masks) -> None:
        self._me, self._plan, self._masks = me, plan, masks
        self._is_label = me == plan.label

    def run(self, step: Step, shares: Mapping[int, Words]) -> Script[Words]:
        """Check some cells.

        Args:
            step: One of `plan.check_steps()`.
            shares: Of the rows of each class, (cells of the party, classes) by the other end: `class_shares`.

        Returns:
            1 for each cell of the step that passes, (cells,); nothing at the label party.
        """
        some = {i: share[step.start : step.stop] for i, share in shares.items()}
        some = {i: share for i, share in some.items() if len(share)}
        dealt: dict[int, tuple[Words, Gates]] = {}
        for i, share in some.items():
            dealt[i] = yield from self._receive_dealt(step, i, len(share))
        shifts = {i: share + self._draw("S", step, i, share.shape) for i, share in some.items()}
        places = yield from self._open("cell opening", 0, shifts)
        bits = {i: look_up(dealt[i][0], places[i] & np.uint64(self._plan.table - 1)) for i in some}
        bits = yield from self._multiply(bits, {i: gates for i, (_, gates) in dealt.items()})
        for i, share in bits.items() if self._is_label else ():
            yield Send("cell marks", 0, (i,), share)
        if self._is_label or not bits:
            return np.zeros(0, np.uint64)
        ((label, mine),) = bits.items()
        theirs = received_words((yield Receive("cell marks", 0, {label: mine.shape})))[label]
        return ((mine ^ expect(theirs, mine.shape, "the label party's shares of marks")) & ONE)[:, 0]

    def _multiply(self, bits: dict[int, Words], gates: Mapping[int, Gates]) -> Script[dict[int, Words]]:
        """Multiply all bits of each cell, round by round; (cells, 1) by the other end."""
        used = 0
        for turn, pairs in enumerate(rounds(self._plan.tests)):
            now = {i: Gates(*(words[:, used : used + pairs] for words in each)) for i, each in gates.items()}
            masked = {i: np.hstack([each.a, each.b]) ^ bits[i][:, : 2 * pairs] for i, each in now.items()}
            opened = yield from self._open("gate opening", turn, masked, xor=True)
            for i, each in now.items():
                d, e = opened[i][:, :pairs] & ONE, opened[i][:, pairs:] & ONE
                made = each.c ^ d & each.b ^ e & each.a ^ (d & e if self._is_label else np.uint64(0))
                bits[i] = np.hstack([made, bits[i][:, 2 * pairs :]])
            used += pairs
        return bits

    def _open(self, kind: str, turn: int, mine: Mapping[int, Words], *, xor: bool = False) -> Script[dict[int, Words]]:
        """Exchange shares with each other end; return their sums."""
        for i, words in mine.items():
            yield Send(kind, turn, (i,), words)
        due = {i: (words.shape[0], words.shape[1]) for i, words in mine.items()}
        theirs = received_words((yield Receive(kind, turn, due))) if due else {}
        found = {i: expect(theirs[i], shape, f"{kind} of party {i}") for i, shape in due.items()}
        return {i: mine[i] ^ words if xor else mine[i] + words for i, words in found.items()}

    def _receive_dealt(self, step: Step, i: int, cells: int) -> Script[tuple[Words, Gates]]:
        """Make the shares of tables and of products, those that the owner is dealt with them."""
        plan = self._plan
        gates = split_gates(self._draw("Z", step, i, (cells, 3 * (plan.tests - 1))))
        shape, size = table_shape(plan, cells), dealt_words(plan, cells)
        if self._is_label:
            return self._draw("T", step, i, shape), gates
        words = received_words((yield Receive("cell tables", 0, {HELPER: (1, size)})))[HELPER]
        words = expect(words, (1, size), "the tables that the helper dealt")
        products = words[0, shape[0] * shape[1] :].reshape(gates.c.shape)
        return words[0, : shape[0] * shape[1]].reshape(shape), gates._replace(c=products)

    def _draw(self, mask: str, step: Step, i: int, shape: tuple[int, int]) -> Words:
        """Draw a stream of this party and the helper, about cells of one of the two ends."""
        return self._masks(mask, i if self._is_label else self._me, self._me, step, shape)


def deal_tables(plan: StatisticsPlan, j: int, masks: Mapping[int, Masks], step: Step) -> Words:
    """Deal partner j its shares of tables and products of a step, (1, words), as the helper."""
    cells, both = plan.checked(j, step), (j, plan.label)
    count, width = table_shape(plan, cells)
    r = sum((masks[i]("S", j, i, step, (cells, plan.tests)) for i in both), np.uint64(0))
    tables = truth_tables(plan, r.reshape(-1)) ^ masks[plan.label]("T", j, plan.label, step, (count, width))
    mine, labels = (split_gates(masks[i]("Z", j, i, step, (cells, 3 * (plan.tests - 1)))) for i in both)
    products = (mine.a ^ labels.a) & (mine.b ^ labels.b) ^ labels.c
    return np.concatenate([tables.reshape(1, -1), products.reshape(1, -1)], axis=1)


def rounds(bits: int) -> Iterator[int]:
    """Yield how many pairs of a cell's bits are multiplied in each round, until one bit is left."""
    while bits > 1:
        yield bits // 2
        bits -= bits // 2


def table_shape(plan: StatisticsPlan, cells: int) -> tuple[int, int]:
    """Return the shape of packed tables of some cells: one for each cell and class."""
    return cells * plan.tests, plan.table // 64


def dealt_words(plan: StatisticsPlan, cells: int) -> int:
    """Count the words that the owner of some cells is dealt."""
    count, width = table_shape(plan, cells)
    return count * width + cells * (plan.tests - 1)


def split_gates(words: Words) -> Gates:
    """Split a stream of bits, the lowest of each word."""
    return Gates(*np.hsplit(words & ONE, 3))


def truth_tables(plan: StatisticsPlan, r: Words) -> Words:
    """Make the tables of (x - r mod M >= least), one packed row for each r.

    All bits are 1 but those of the `least` values from r on.
    """
    tables = np.full((len(r), plan.table // 64), ~np.uint64(0))
    rows = np.arange(len(r))
    for value in range(min(plan.least, plan.table)):
        place = (r + np.uint64(value)) & np.uint64(plan.table - 1)
        tables[rows, place // WORD] ^= ONE << place % WORD
    return tables


def look_up(tables: Words, places: Words) -> Words:
    """Look bits up in packed tables, (tables, words), at (cells, classes) places."""
    flat = places.reshape(-1)
    bits: Words = tables[np.arange(len(flat)), flat // WORD] >> flat % WORD & ONE
    return bits.reshape(places.shape)
