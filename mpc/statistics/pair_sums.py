"""Computes shares of X_i^T X_j, the products of two parties' columns, at the data parties.

Masks: A_i of i and the helper, and G_ij, i < j, of i and the helper. Batch by batch, and once at the end from the
helper, for each pair i < j

    D_i = X_i - A_i                i -> every other party that correlates
    sum of A_i^T A_j - G_ij        H -> j

    i's share = sum of X_i^T D_j + G_ij             j's share = sum of D_i^T A_j + what is dealt

modulo 2^64. Nothing is rounded.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import Words, expect, transposed_product
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.dealt import Part
from tercet.mpc.statistics.opening import WrongOpening
from tercet.mpc.statistics.packing import split_words
from tercet.mpc.statistics.plan import StatisticsPlan

Pair = tuple[int, int]


class PairSums:
    """Holds party `me`'s shares of X_i^T X_j for its pairs, and its own X^T X.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        numbers: This party's columns to correlate.
        masks: Shared with the helper.
    """

    def __init__(self, me: int, plan: StatisticsPlan, numbers: FeatureSource, masks: Masks) -> None:
        self._me, self._plan, self._numbers, self._masks = me, plan, numbers, masks
        self._others = tuple(sorted({i for pair in plan.pairs() if me in pair for i in pair} - {me}))
        columns = plan.correlated
        self.shares: dict[Pair, Words] = {
            (i, j): np.zeros((columns[i], columns[j]), np.uint64) for i, j in [*plan.pairs(), (me, me)] if me in (i, j)
        }

    def send(self, step: Step) -> Script[None]:
        """Send the batch's columns under one mask to every other party that correlates."""
        rows = self._rows(step)
        self._add((self._me, self._me), rows, rows)
        if self._others:
            yield Send("masked numbers", 0, self._others, rows - self._mask(step))

    def receive(self, step: Step) -> Script[None]:
        """Receive theirs, and add the products."""
        due = {i: (step.rows, self._plan.correlated[i]) for i in self._others}
        if not due:
            return
        received = received_words((yield Receive("masked numbers", 0, due)))
        rows, mask = self._rows(step), self._mask(step)
        for i, shape in due.items():
            masked = expect(received[i], shape, f"the masked numbers of party {i}")
            if self._me < i:
                self._add((self._me, i), rows, masked)
            else:
                self._add((i, self._me), masked, mask)

    def finish(self, step: Step, dealt: Mapping[Part, Words]) -> None:
        """Add what covers the shares, or what the helper has dealt, with the last batch."""
        for i, j in self.shares:
            if self._me == i < j:
                self.shares[i, j] += self._masks("G", i, j, step, self.shares[i, j].shape)
            elif i < j:
                self.shares[i, j] += dealt["pairs", i]

    def _add(self, pair: Pair, a: Words, b: Words) -> None:
        self.shares[pair] += transposed_product(a, b)

    def _rows(self, step: Step) -> Words:
        return self._numbers.read_rows(np.arange(step.start, step.stop))

    def _mask(self, step: Step) -> Words:
        return self._masks("A", self._me, self._me, step, (step.rows, self._plan.correlated[self._me]))


def open_pairs(plan: StatisticsPlan, me: int, shares: Mapping[Pair, Words]) -> Script[dict[Pair, Words]]:
    """Open X_i^T X_j to whom the plan says; return what this party may know, by pair i <= j.

    Raises:
        WrongOpening: products that no standardised columns have.
    """
    pairs = [*plan.pairs(), *((i, i) for i, count in enumerate(plan.correlated) if count)]
    mine = [pair for pair in pairs if me in _readers(plan, pair)]
    others = [i for i in range(len(plan.bins)) if i != me]
    for reader in others:
        theirs = [shares[pair] for pair in pairs if me in pair and reader in _readers(plan, pair)]
        if theirs:
            words = np.concatenate([share.reshape(-1) for share in theirs])
            yield Send("correlation share", 0, (reader,), words[np.newaxis])
    found = {pair: shares[pair] for pair in mine if me in pair}
    shapes = {i: {pair: _shape(plan, pair) for pair in mine if i in pair} for i in others}
    due = {i: (1, sum(rows * columns for rows, columns in each.values())) for i, each in shapes.items() if each}
    received = received_words((yield Receive("correlation share", 0, due))) if due else {}
    for i, size in due.items():
        words = expect(received[i], size, f"the shares of correlations of party {i}")
        for pair, share in zip(shapes[i], split_words(words, shapes[i].values()), strict=True):
            found[pair] = found[pair] + share if pair in found else share
    for pair, products in found.items():
        _check_range(plan, pair, products)
    return found


def _check_range(plan: StatisticsPlan, pair: Pair, products: Words) -> None:
    """Check that products may be those of standardised columns, whose mean is 1 at most.

    Raises:
        WrongOpening: they are beyond twice that, as nearly all words are.
    """
    if (np.abs(decode(products, 2 * plan.fx)) > 2 * plan.rows).any():
        raise WrongOpening(f"products of columns of the parties {pair[0]} and {pair[1]} are out of range")


def _readers(plan: StatisticsPlan, pair: Pair) -> tuple[int, ...]:
    """Return who learns a pair's products; of i and i, how i's own columns go together."""
    return pair if plan.correlations == "pairs" else (plan.label, *(pair[:1] if pair[0] == pair[1] else ()))


def _shape(plan: StatisticsPlan, pair: Pair) -> tuple[int, int]:
    return plan.correlated[pair[0]], plan.correlated[pair[1]]
