"""Computes shares of B_j^T Y, sums of targets by cell, at the data parties.

B_j are the 0/1 indicators of party j's cells, Y the targets of the label party L. Masks: U_j and W_j of j and the
helper, V of L and the helper. Batch by batch, and once at the end from the helper,

    E_j = B_j - U_j                j -> L           F = Y - V            L -> every partner
    sum of U_j^T V - W_j         H -> L

    j's share = sum of B_j^T F + W_j              L's share = sum of E_j^T V + what is dealt

in the ring of `plan.word_bits`. Nothing is rounded.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words, expect, sum_along, transposed_product
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.dealt import Part
from tercet.mpc.statistics.order import RowBins, SecretOrder
from tercet.mpc.statistics.packing import indicators, masked_indicators, unpack_words
from tercet.mpc.statistics.plan import StatisticsPlan


class OwnerSums:
    """Holds a partner's shares of its own cells, in its secret order.

    Args:
        me: This party's index, not the label party's.
        plan: The job's agreed numbers.
        bins: Of each row, (rows, columns).
        order: Of its cells.
        masks: Shared with the helper.
    """

    def __init__(self, me: int, plan: StatisticsPlan, bins: RowBins, order: SecretOrder, masks: Masks) -> None:
        self._me, self._plan, self._bins, self._order, self._masks = me, plan, bins, order, masks
        self.share: Words = np.zeros((plan.cells(me), plan.targets), np.uint64)

    def send(self, step: Step) -> Script[None]:
        """Send the batch's masked bins to the label party."""
        plan, me = self._plan, self._me
        if not len(self.share):
            return
        mask = self._masks("U", me, me, step, (step.rows, plan.masked_words(me)))
        words = masked_indicators(self._cells(step), mask, plan.word_bits)
        yield Send("masked bins", 0, (plan.label,), words)

    def receive(self, step: Step) -> Script[None]:
        """Receive the label party's masked targets, and add them up by cell."""
        plan, due = self._plan, {self._plan.label: (step.rows, self._plan.targets)}
        if not len(self.share):
            return
        words = received_words((yield Receive("masked targets", 0, due)))[plan.label]
        masked = expect(words, due[plan.label], "the label party's masked targets")
        made = indicators(self._cells(step), plan.cells(self._me))
        self.share = self.share + transposed_product(made, masked)

    def finish(self, step: Step, _: Mapping[Part, Words]) -> None:
        """Add what covers the share, with the last batch."""
        self.share = self.share + self._masks("W", self._me, self._me, step, self.share.shape)

    def _cells(self, step: Step) -> Signed:
        return self._order.number(self._bins[step.start : step.stop])


class LabelSums:
    """Holds the label party's shares of all partners' cells, each in its owner's secret order.

    Args:
        plan: The job's agreed numbers.
        targets: Of all rows, (rows, targets).
        masks: Shared with the helper.
    """

    def __init__(self, plan: StatisticsPlan, targets: Words, masks: Masks) -> None:
        self._plan, self._targets, self._masks = plan, targets, masks
        self._partners = tuple(j for j in plan.partners if plan.cells(j))
        self.shares: dict[int, Words] = {j: np.zeros((plan.cells(j), plan.targets), np.uint64) for j in plan.partners}

    @property
    def totals(self) -> Words:
        """Sums of the targets over all rows, (targets,)."""
        added: Words = sum_along(self._targets, axis=0)[0]
        return added

    def send(self, step: Step) -> Script[None]:
        """Send the batch's targets under one mask to all partners."""
        if self._partners:
            yield Send("masked targets", 0, self._partners, self._targets[step.start : step.stop] - self._mask(step))

    def receive(self, step: Step) -> Script[None]:
        """Receive all partners' masked bins, and add masks up by them."""
        plan = self._plan
        due = {j: (step.rows, plan.masked_words(j)) for j in self._partners}
        if not due:
            return
        received, mask = received_words((yield Receive("masked bins", 0, due))), self._mask(step)
        for j, shape in due.items():
            packed = expect(received[j], shape, f"the masked bins of party {j}")
            words = unpack_words(packed, plan.cells(j), plan.word_bits)
            self.shares[j] = self.shares[j] + transposed_product(words, mask)

    def finish(self, _: Step, dealt: Mapping[Part, Words]) -> None:
        """Add what the helper has dealt of each partner's cells."""
        for j in self.shares:
            self.shares[j] = self.shares[j] + dealt["bins", j]

    def _mask(self, step: Step) -> Words:
        return self._masks("V", self._plan.label, self._plan.label, step, (step.rows, self._plan.targets))
