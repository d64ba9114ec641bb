"""Computes the training loss of an epoch in shares, by role.

Their sum is one number, and tells nothing of a single row.

A data party sees only words that are masked or shared. The helper sees the scores of the training, which it has
anyway, in secret order and under secret signs. It never sees the sum.

A row's loss is cumulant(z) - sum of y z + label_part(y) (`links`). The helper knows the first part of a batch,
the label party L the last; each product is one more masked column. y' = s y P has the label's bits and zeta = s z P
the score's, with P the secret order of classes. Others receive E_y = y' - U_y. n_j and q_j are masks of party j and the
helper. Output by output, and summed over all where shares are:

    p = zeta - sum_j n_j,  g = sum cumulant - U_y^T sum_j n_j + sum_j q_j        helper -> L
    L's share += g - y'^T p + sum label_part,  j's share -= E_y^T n_j + q_j

with the cumulant in the first output's g alone.

The loss of an epoch is the mean over its rows, each scored with the weights before its own step. So it is the running
training loss, and not the loss of the epoch's last weights.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode
from tercet.mpc.arithmetic.ring import Words, expect, sum_along, total
from tercet.mpc.functions.links import Link
from tercet.mpc.interface.script import HELPER, Receive, Script, received_words
from tercet.mpc.linear.algebra import apply_order
from tercet.mpc.linear.epoch_sums import EpochSums
from tercet.mpc.plan.forward import NoiseNumbers, noise_half_width
from tercet.mpc.plan.plan import LossBits
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


class LossNumbers(NoiseNumbers, Protocol):
    """Names the numbers that a loss needs; `plan.Plan` has those of the training."""

    @property
    def link(self) -> Link:
        """The link between score and label."""

    @property
    def outputs(self) -> int:
        """Outputs of the model, K."""

    @property
    def loss_bits(self) -> LossBits:
        """Fractional bits with which no sum over the rows can wrap."""

    @property
    def loss_rows(self) -> int:
        """Rows over which a loss is the mean."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of these rows."""


class LossParty:
    """Computes data party `me`'s part; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order and once: at the label party `masked_labels`, any time before `absorb_terms`; at the others
    `absorb`, which may run ahead of the activations, into the next epochs too. Then `share`, once for each epoch.

    Args:
        me: This party's index.
        label: The label party's.
        plan: The job's agreed numbers.
        y: At the label party the centred labels, (rows, outputs), as in training; elsewhere None.
        order: Of these rows.
        helper_masks: Shared with the helper, of a purpose that is not training's.
        first: The first step of this attempt.
        so_far: `before` of that step in an earlier attempt, if it is within an epoch.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: LossNumbers,
        y: Floats | None,
        *,
        order: Order,
        helper_masks: Masks,
        first: int = 0,
        so_far: Words | None = None,
    ) -> None:
        if (y is not None) != (me == label):
            raise ValueError("labels belong to the label party")
        self._me, self._label, self._plan, self._bits, self._y = me, label, plan, plan.loss_bits, y
        self._order, self._masks = order, helper_masks
        self._labels: dict[int, Words] = {}  # y' by step, until its terms are here
        self._alone: dict[int, Words] = {}  # likewise, the part of the labels alone
        self._sums = EpochSums(plan.steps_per_epoch, first, so_far)
        self._turns = Turns(first)

    def masked_labels(self, step: Step) -> Words:
        """Compute E_y = s y P - U_y, (rows of the batch, outputs), for every other data party."""
        if self._y is None:
            raise OutOfTurn("only the label party has labels")
        self._turns.begin_step("loss labels", step)
        link, y = self._plan.link, self._y[self._order.rows(step)]
        signs, classes = self._order.signs(step, odd=link.odd), self._order.classes(step, self._plan.outputs)
        target = encode(link.target(y), self._bits.label)
        self._alone[step.index] = sum_along(encode(link.label_part(decode(target, self._bits.label)), self._bits.total))
        labels = self._labels[step.index] = apply_order(signs * target, classes)
        return labels - self._masks("U_y", self._label, self._label, step, (step.rows, self._plan.outputs))

    def absorb(self, step: Step, masked_labels: Words) -> None:
        """Take in E_y, at all but the label party.

        Raises:
            ShapeProblem: naming the label party, if it has the wrong shape.
        """
        shape = (step.rows, self._plan.outputs)
        labels = expect(masked_labels, shape, "the label party's masked labels for the loss")
        if self._me == self._label:
            raise OutOfTurn("masked labels are for all but the label party")
        self._turns.begin_step("loss", step)
        n = self._masks("N", self._label, self._me, step, shape)
        q = self._masks("Q", self._label, self._me, step, (1, self._plan.outputs))
        self._add(step, np.uint64(0) - sum_along(_products(labels, n) + q))

    def absorb_terms(self, step: Step, p: Words, g: Words) -> None:
        """Take in the helper's words for the label party.

        These are p, (rows of the batch, outputs), and g, (1, outputs).

        Raises:
            ShapeProblem: naming the helper, if one has the wrong shape.
        """
        p = expect(p, (step.rows, self._plan.outputs), "the helper's masked scores for the loss")
        g = expect(g, (1, self._plan.outputs), "the helper's share of the loss")
        if step.index not in self._labels:
            raise OutOfTurn(f"the labels of step {step.index} are not masked yet, or its loss is done")
        self._turns.begin_step("loss", step)
        labels = self._labels.pop(step.index)
        self._add(step, sum_along(g - _products(labels, p)) + self._alone.pop(step.index))

    def receive_labels(self, step: Step) -> Script[None]:
        """Receive E_y, at all but the label party."""
        shape = (step.rows, self._plan.outputs)
        self.absorb(step, received_words((yield Receive("loss labels", 0, {self._label: shape})))[self._label])

    def receive_terms(self, step: Step) -> Script[None]:
        """Receive the helper's words, at the label party."""
        shape = (step.rows + 1, self._plan.outputs)
        terms = received_words((yield Receive("loss terms", 0, {HELPER: shape})))[HELPER]
        self.absorb_terms(step, terms[:-1], terms[-1:])

    def share(self, epoch: int) -> Words:
        """Return this party's share of the epoch's summed loss, (1, 1).

        It has `Plan.loss_bits.total` fractional bits.

        Uniform, and together with any but all of the others'. Asked for once, when all steps of the epoch are absorbed.
        """
        return self._sums.share(epoch)

    def before(self, step: int) -> Words:
        """Return this party's share of an epoch's loss up to `step`, one of its own; (1, 1)."""
        return self._sums.before(step)

    def _add(self, step: Step, words: Words) -> None:
        self._sums.add(step, words)


class LossHelper:
    """The helper's part. Not to be shared by threads; keeps nothing of a step.

    Args:
        plan: The job's agreed numbers.
        label: The label party's index.
        masks: Shared with each data party, by its index, of the purpose that the data parties use.
        first: The first step of this attempt.
    """

    def __init__(self, plan: LossNumbers, label: int, masks: Mapping[int, Masks], first: int = 0) -> None:
        self._plan, self._label, self._masks, self._bits = plan, label, masks, plan.loss_bits
        self._others = [j for j in masks if j != label]
        self._turns = Turns(first)

    def terms(self, step: Step, scores: Floats) -> Words:
        """Compute p, (rows of the batch, outputs), and below it g, (1, outputs).

        Both are for the label party.

        `scores` are `Helper.scores` of this step, which that has found to be within the plan's limit.
        """
        self._turns.begin_step("loss", step)
        shape, label = (step.rows, self._plan.outputs), self._label
        n = total(self._masks[j]("N", label, j, step, shape) for j in self._others)
        q = total(self._masks[j]("Q", label, j, step, (1, shape[1])) for j in self._others)
        u = self._masks[label]("U_y", label, label, step, shape)
        # Rounded row by row: a sum of floats would depend on the order of the rows.
        h = noise_half_width(self._plan, step.alpha)
        cumulant = encode(self._plan.link.cumulant_of_noisy(scores, h), self._bits.total)
        g = q - _products(u, n)
        g[:, :1] += sum_along(cumulant)
        return np.concatenate([encode(scores, self._bits.score) - n, g])


def opened_loss(shares: Iterable[Words], plan: LossNumbers) -> float:
    """Return the mean loss of an epoch, from all data parties' shares of it."""
    return float(decode(total(shares), plan.loss_bits.total)[0, 0]) / plan.loss_rows


def _products(a: Words, b: Words) -> Words:
    """Return a^T b for each output by itself, (1, outputs)."""
    return sum_along(a * b, axis=0)
