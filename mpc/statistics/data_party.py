"""Plays a data party in a statistics job: a pass over the rows, a check, and what is opened.

Before `open_cells` nobody has anything but masked words and shares, and each owner the marks of its own cells.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode
from tercet.mpc.arithmetic.ring import Signed, Words, expect, to_signed
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.plan.schedule import Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.bin_sums import LabelSums, OwnerSums
from tercet.mpc.statistics.checks import CellChecks, class_shares
from tercet.mpc.statistics.dealt import receive_dealt
from tercet.mpc.statistics.merging import merge_bins
from tercet.mpc.statistics.opening import OwnCells, PartnerCells, open_own, open_partner
from tercet.mpc.statistics.order import RowBins, SecretOrder
from tercet.mpc.statistics.pair_sums import Pair, PairSums, open_pairs
from tercet.mpc.statistics.plan import StatisticsPlan

MOST_SQUARES = 2.0**62  # of a sum of y^2 as a word


class StatisticsParty:
    """Acts as data party `me`. Not to be shared by threads.

    For each step of `plan.steps()` the script `run_step`; several may be driven side by side, begun in order, if the
    last one begins when all others are done. Then for each step of `plan.check_steps()` the script `check_cells`,
    likewise. Then at `plan.opening_step()`, once each: `open_cells`, `open_correlations` where `plan.correlates`, and
    `share_inflation` where correlations go to the label party.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        bins: This party's bins by row, (rows, columns), each below that of `plan.bins[me]`.
        ordered: For each column the leading bins that are intervals of a number; 0 of a category.
        masks: Shared with the helper, for this purpose alone.
        key: 32 random bytes of this party alone: by them its cells have a secret order.
        targets: At the label party `encode_targets`, (rows, targets); elsewhere None.
        numbers: The columns to correlate, standardised, with f_x bits; None if this party has none.

    Raises:
        ValueError: bins, targets or numbers that are not what the plan says.
    """

    def __init__(
        self,
        me: int,
        plan: StatisticsPlan,
        bins: RowBins,
        ordered: tuple[int, ...],
        *,
        masks: Masks,
        key: bytes,
        targets: Words | None = None,
        numbers: FeatureSource | None = None,
    ) -> None:
        _check_inputs(me, plan, bins, ordered, targets=targets, numbers=numbers)
        self.me, self._plan, self._ordered = me, plan, ordered
        self._order = SecretOrder(plan.bins[me], key)
        self._bins, self._rows, self._targets = bins, self._order.count(bins), targets
        self._masks, self._turns = masks, Turns(0)
        self._sums = (
            LabelSums(plan, targets, masks) if targets is not None else OwnerSums(me, plan, bins, self._order, masks)
        )
        self._pairs = PairSums(me, plan, numbers, masks) if numbers is not None else None
        self._parts = [part for part in (self._sums, self._pairs) if part is not None]
        self._checks = CellChecks(me, plan, masks)
        self._marks: list[Words] = []

    def run_step(self, step: Step) -> Script[None]:
        """Exchange a batch's masked words, and add to this party's shares.

        The last step receives what the helper has dealt for the whole pass.

        Raises:
            ShapeProblem: naming the sender of words of a wrong shape.
        """
        self._turns.begin_step("pass", step)
        for part in self._parts:
            yield from part.send(step)
        for part in self._parts:
            yield from part.receive(step)
        if step.index == self._plan.last:
            dealt = yield from receive_dealt(self._plan, self.me)
            for part in self._parts:
                part.finish(step, dealt)

    def check_cells(self, step: Step) -> Script[None]:
        """Find out, at the owner alone, which of its cells have the minimum of each class."""
        self._turns.begin_step("check", step)
        plan = self._plan
        if isinstance(self._sums, LabelSums):
            yield from self._checks.run(step, {j: class_shares(plan, s) for j, s in self._sums.shares.items()})
        else:
            share = class_shares(plan, self._sums.share, self._rows)
            self._marks.append((yield from self._checks.run(step, {plan.label: share})))

    def open_cells(self) -> Script[tuple[list[OwnCells], dict[int, PartnerCells]]]:
        """Open cells that pass, failing ones merged into them.

        Returns:
            This party's own columns, in its own order; and at the label party by partner what it has learnt.

        Raises:
            WrongOpening: naming a partner whose cells cannot be.
        """
        plan, partners = self._plan, dict[int, PartnerCells]()
        if isinstance(self._sums, LabelSums):
            totals = self._sums.totals
            for j, share in self._sums.shares.items():
                if plan.cells(j):
                    partners[j] = yield from open_partner(plan, j, share, totals)
            return self._count_own(), partners
        if not plan.cells(self.me):
            return [], partners
        marks = np.concatenate(self._marks) if plan.tests else (self._rows >= plan.least).astype(np.uint64)
        groups = [
            merge_bins(marks[of_bins] != 0, to_signed(self._rows[of_bins]), ordered)
            for of_bins, ordered in zip(self._cells_by_column(), self._ordered, strict=True)
        ]
        return (
            yield from open_own(plan, self.me, self._order, groups, np.column_stack([self._rows, self._sums.share]))
        ), partners

    def open_correlations(self) -> Script[dict[Pair, Words]]:
        """Open X_i^T X_j, exact with 2 f_x fractional bits, to whom the plan says.

        Returns:
            By pair i <= j what this party may know, its own X_i^T X_i included; (columns of i, columns of j).

        Raises:
            WrongOpening: products that no standardised columns have.
        """
        return (yield from open_pairs(self._plan, self.me, self._pairs.shares if self._pairs is not None else {}))

    def share_inflation(self, factors: Mapping[int, Floats] | None = None) -> Script[Floats]:
        """Tell each owner the VIF of its own columns, as the label party; or receive them.

        Args:
            factors: At the label party by party, (columns,); elsewhere None.

        Returns:
            This party's own, (columns,).
        """
        counts, label = self._plan.correlated, self._plan.label
        if factors is not None:
            for j in self._plan.partners:
                if counts[j]:
                    yield Send("inflation", 0, (j,), factors[j].view(np.uint64)[np.newaxis])
            return factors.get(label, np.zeros(0))
        shape = (1, counts[self.me])
        if not counts[self.me]:
            return np.zeros(0)
        words = received_words((yield Receive("inflation", 0, {label: shape})))[label]
        found: Floats = expect(words, shape, "the label party's inflation factors")[0].view(np.float64)
        return found

    # --- parts of these

    def _cells_by_column(self) -> list[Signed]:
        """Return for each column the cells of its bins, in its own order."""
        return [self._order.cells[column] for column in self._plan.columns(self.me)]

    def _count_own(self) -> list[OwnCells]:
        """Count the label party's own bins, which it knows: each is a cell, however small."""
        assert self._targets is not None
        sums = np.zeros((self._plan.cells(self.me), self._plan.targets), np.uint64)
        for start, of_rows in zip(self._order.starts, self._bins.T, strict=True):
            np.add.at(sums, self._order.cells[start + of_rows], self._targets)
        own = [(tuple(range(len(of_bins))), of_bins) for of_bins in self._cells_by_column()]
        return [OwnCells(groups, to_signed(self._rows[cells]), to_signed(sums[cells])) for groups, cells in own]


def encode_targets(plan: StatisticsPlan, y: Floats) -> Words:
    """Encode the label party's labels, (rows,), as (rows, targets).

    Classes 0, 1, ... become a 0/1 column for each but the first. A count or an amount becomes y, rounded to
    `plan.target_bits`, and its exact square with twice as many.

    Raises:
        ValueError: a class that is not among the plan's, or squares whose sum over all rows could wrap.
    """
    if plan.classes:
        if not np.isin(y, np.arange(plan.classes)).all():
            raise ValueError("a label that is no class of the plan")
        marks: Words = (y[:, np.newaxis] == np.arange(1, plan.classes)).astype(np.uint64)
        return marks
    if float(np.abs(y).max(initial=0.0)) > np.sqrt(MOST_SQUARES / plan.rows) * 2.0**-plan.target_bits:
        raise ValueError("labels too large, or too finely rounded, for the sum of their squares")
    words = encode(y, plan.target_bits)
    return np.column_stack([words, words * words])


def decode_sums(plan: StatisticsPlan, sums: Signed) -> Floats:
    """Decode opened sums, (cells, targets): whole counts, or sums of y and y^2."""
    bits = [0] * plan.targets if plan.classes else [plan.target_bits, 2 * plan.target_bits]
    found: Floats = np.ldexp(sums.astype(np.float64), -np.array(bits))
    return found


def decode_correlations(plan: StatisticsPlan, products: Words) -> Floats:
    """Decode X_i^T X_j of standardised columns as correlations."""
    found: Floats = np.ldexp(to_signed(products).astype(np.float64), -2 * plan.fx) / plan.rows
    return found


def _check_inputs(
    me: int,
    plan: StatisticsPlan,
    bins: RowBins,
    ordered: tuple[int, ...],
    *,
    targets: Words | None,
    numbers: FeatureSource | None,
) -> None:
    counts = plan.bins[me]
    checks = {
        "targets at the label party alone": (targets is not None) == (me == plan.label),
        "targets of all rows": targets is None or targets.shape == (plan.rows, plan.targets),
        "a bin for each row and column": bins.shape == (plan.rows, len(counts)),
        "bins within the plan's": all(b.min() >= 0 and b.max() < n for b, n in zip(bins.T, counts, strict=False)),
        "ordered bins within each column's": len(ordered) == len(counts) and all(map(int.__le__, ordered, counts)),
        "numbers of all rows": (numbers.shape if numbers else (plan.rows, 0)) == (plan.rows, plan.correlated[me]),
    }
    wrong = [what for what, holds in checks.items() if not holds]
    if wrong:
        raise ValueError(f"a statistics job needs {', '.join(wrong)}")
