"""Computes the mean loss of held-out rows after an epoch.

It is a scoring pass in which the helper answers with loss terms.

No party learns a score. The helper sees what it sees of any scored row, under masks and in an order of this purpose
alone. The label party gets words from which it makes its share of one sum.

`mpc.scoring.linear` or `mpc.scoring.network` has the forward pass, `mpc.linear.loss` the loss; the batches of
the pass are the steps of an epoch. A score beyond the training's limit counts as that limit, at the helper
and in the oracle. So one odd row ends no job, and no sum can wrap. Where the link has an offset, the label
party adds it to its share of z.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.links import Link
from tercet.mpc.interface.script import Await, Script, Send, Signal
from tercet.mpc.linear.algebra import apply_order
from tercet.mpc.linear.loss import LossHelper, LossParty
from tercet.mpc.plan.plan import LossBits, Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.linear import NO_OFFSET, Scorer, ScoringHelper, scoring_steps
from tercet.mpc.scoring.network import NetworkScorer, NetworkScoringHelper
from tercet.mpc.scoring.openings import Openings, WeightMasks


def blind_steps(plan: Plan, rows: int, batch: int, epoch: int, alpha: float) -> list[Step]:
    """List the steps of a pass in which the helper sees no score.

    They are as `scoring_steps`. A loss of many rows has few bits. Of these, and not of an error's, dealt numbers have
    half, so that public ones have the others.
    """
    spare = plan.f - plan.factor_bits - plan.loss_bits_of(rows).score
    least = math.ldexp(1.0, -max(0, spare))
    return [replace(step, least=least) for step in scoring_steps(rows, batch, epoch, alpha)]


@dataclass(frozen=True, slots=True)
class HeldOutNumbers:
    """Holds the numbers that the loss of one pass goes by; a `loss.LossNumbers`."""

    link: Link
    outputs: int
    loss_bits: LossBits
    loss_rows: int
    steps_per_epoch: int
    fz: int
    noise_bits: int

    @classmethod
    def of(cls, plan: Plan, steps: Sequence[Step]) -> Self:
        """Make them from the plan of the training and the batches of the pass."""
        rows = sum(step.rows for step in steps)
        bits = plan.loss_bits_of(rows)
        return cls(plan.link, plan.outputs, bits, rows, len(steps), plan.fz, plan.noise_bits)


class HeldOutLossParty:
    """Acts as data party `me` in one pass; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order: `score_batch` and `add_loss`, two scripts to be driven side by side. Then `share`, once.

    Args:
        me: This party's index.
        label: The label party's.
        plan: The job's agreed numbers.
        y: At the label party the centred labels of the held-out rows, (rows, outputs); elsewhere None.
        scorer: Of these rows and this purpose, with `scoring.NOBODY` as the label party.
        openings: Of the weights, for this pass.
        steps: Of the pass, `scoring.scoring_steps`.
        order: Of these rows, for this purpose.
        helper_masks: Shared with the helper, of this purpose.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: Plan,
        y: Floats | None,
        *,
        scorer: Scorer | NetworkScorer,
        openings: Openings,
        steps: Sequence[Step],
        order: Order,
        helper_masks: Masks,
    ) -> None:
        self.numbers = HeldOutNumbers.of(plan, steps)
        self._loss = LossParty(me, label, self.numbers, y, order=order, helper_masks=helper_masks)
        self._me, self._label, self._plan, self._y = me, label, plan, y
        self._others = tuple(i for i in range(len(plan.columns)) if i != me)
        self._scorer, self._openings, self._order, self._epoch = scorer, openings, order, steps[0].epoch

    def score_batch(self, step: Step) -> Script[None]:
        """Compute this party's share of a batch's scores."""
        if self._me == self._label:
            yield Send("loss labels", 0, self._others, self._loss.masked_labels(step))
        if isinstance(self._scorer, NetworkScorer):
            yield from self._scorer.run_step(step, self._openings)
        else:
            yield from self._scorer.run_step(step, self._openings, self._offset(step))
        yield Signal("scored")

    def add_loss(self, step: Step) -> Script[None]:
        """Add the batch to this party's share of the loss."""
        if self._me != self._label:
            yield from self._loss.receive_labels(step)
            return
        yield Await("scored")
        yield from self._loss.receive_terms(step)

    def share(self) -> Words:
        """Return this party's share of the summed loss, (1, 1), once all steps are done."""
        return self._loss.share(self._epoch)

    def _offset(self, step: Step) -> Words | np.uint64:
        """Compute the label party's term of its labels alone, where the link has one; f_z bits."""
        link, outputs = self._plan.link, self._plan.outputs
        if link.offset is None or self._y is None:
            return NO_OFFSET
        words = encode(link.offset(self._y[self._order.rows(step)]) / step.alpha, self._plan.fz)
        return apply_order(self._order.signs(step, odd=link.odd) * words, self._order.classes(step, outputs))


class HeldOutLossHelper:
    """The helper in one pass. Not to be shared by threads; keeps nothing of a step.

    Args:
        plan: The job's agreed numbers.
        label: The label party's index.
        masks: Shared with each data party, by its index, of the purpose that the data parties use.
        weight_masks: Likewise, of weights that are opened once for the pass.
        steps: Of the pass, with alpha as the data parties have it.
    """

    def __init__(
        self,
        plan: Plan,
        label: int,
        masks: Mapping[int, Masks],
        weight_masks: Mapping[int, WeightMasks],
        steps: Sequence[Step],
    ) -> None:
        self._plan, self._label = plan, label
        self._loss = LossHelper(HeldOutNumbers.of(plan, steps), label, masks)
        self._scoring: ScoringHelper | NetworkScoringHelper
        if plan.network is None:
            self._scoring = ScoringHelper(plan, label, masks, weight_masks)
        else:
            self._scoring = NetworkScoringHelper(plan, label, masks, weight_masks)

    def script(self, step: Step) -> Script[None]:
        """Answer a batch.

        Raises:
            Diverged: a value is outside the safe half of the words.
        """
        yield from self._scoring.deal_step(step)
        z = yield from self._scoring.receive_scores(step)
        scores = np.clip(step.alpha * decode(z, self._plan.fz), *self._plan.score_bounds())
        yield Send("loss terms", 0, (self._label,), self._loss.terms(step, scores))
