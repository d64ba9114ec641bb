"""Trains a generalised linear model as a data party, step by step, without messages.

It never sees another party's features, labels or weights, nor a pre-activation: only words that are masked or shared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Signed, Words, expect, product, total
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.linear.algebra import (
    NO_DIGESTS,
    apply_order,
    intercept_update,
    own_update,
    partner_update,
    preactivation_share,
    zero_share,
)
from tercet.mpc.linear.checks import Checks
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order

NO_OPENINGS: Mapping[int, Words] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shares:
    """Holds a data party's share of the model before step `step`.

    It has f_w fractional bits; the model is w = alpha u.

    Shares of one step and one history add up to the weights; shares of different steps or histories to nothing.
    """

    step: int
    own: Words  # w_ii, (columns, outputs)
    partners: Mapping[int, Words]  # w_ij for every other data party i, (its columns, outputs)
    intercept: Words  # (1, outputs)


@dataclass(slots=True)
class _Batch:
    """Holds a step's data between its masked inputs and its update."""

    x: Words
    signs: Words
    classes: Signed
    labels: Words | None  # at the label party, F fractional bits
    known: dict[int, Words]  # m_i, less m_y at the label party, of every other data party i
    ahead: Words | None = None  # the part of the pre-activation share that needs no update


class DataParty:
    """Acts as data party `me` in one attempt; `label` is the index of the label party.

    Not to be shared by threads.

    What is known ahead may run any number of steps before the online hops. For each step: `masked_inputs`, where the
    helper's dealing is checked `openings`, at the label party `masked_labels`, `masked_weights` once the step before is
    absorbed, `absorb`; then `preactivation` and `update`. Each is asked for once, in the order of the steps; anything
    else raises OutOfTurn and changes nothing.

    Args:
        me: This party's index.
        label: The label party's.
        plan: The job's agreed numbers.
        x: This party's features, (rows, columns), f_x fractional bits, as `fixed.encode_features` makes them; read
            batch by batch.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        order: The order of samples and classes, signs and noise.
        helper_masks: Shared with the helper.
        zero_masks: Shared with each other data party, by its index.
        shares: Where to go on from; the first step's zeros if None.
        checks: Where the helper's dealing is checked.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: Plan,
        x: FeatureSource,
        y: Floats | None,
        *,
        order: Order,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        shares: Shares | None = None,
        checks: Checks | None = None,
    ) -> None:
        columns = plan.request.columns
        self._me, self._label, self._plan, self._order = me, label, plan, order
        self._others = [i for i in range(len(columns)) if i != me]
        if (y is not None) != (me == label) or set(zero_masks) != set(self._others):
            raise ValueError("labels belong to the label party, and zero masks to every other data party")
        if x.shape != (plan.request.rows, columns[me]):
            raise ShapeProblem(f"features: expected {(plan.request.rows, columns[me])}, got {x.shape}")
        if y is not None and y.shape != (plan.request.rows, plan.outputs):
            raise ShapeProblem(f"labels: expected {(plan.request.rows, plan.outputs)}, got {y.shape}")
        if (checks is not None) != (plan.request.checks > 0):
            raise ValueError("checks belong to jobs in which the helper's dealing is checked")
        self._x, self._y = x, y
        self._checks = checks
        self._helper_masks, self._zero_masks = helper_masks, zero_masks
        start = shares or first_shares(me, plan)
        self._done, self._own = start.step, start.own
        # By step: these run ahead of the updates, and a step's stay until its update.
        self._partners = {start.step: dict(start.partners)}
        self._intercepts = {start.step: start.intercept}
        self._batches: dict[int, _Batch] = {}
        self._openings: dict[int, dict[int, Words]] = {}
        self._turns = Turns(start.step)

    def shares(self) -> Shares:
        """Return the shares after the last update, whatever has run ahead of it.

        No later step changes them.
        """
        step = self._done
        return Shares(step, self._own, dict(self._partners[step]), self._intercepts[step])

    def masked_inputs(self, step: Step) -> Words:
        """Compute E_me = s X - U for every other data party.

        (rows of the batch, columns), f_x fractional bits.
        """
        self._turns.begin_step("masked inputs", step)
        rows, signs = self._order.rows(step), self._order.signs(step, odd=self._plan.link.odd)
        x = expect(self._x.read_rows(rows), (step.rows, self._x.shape[1]), "features of a batch")
        classes = self._order.classes(step, self._plan.outputs)
        batch = _Batch(x, signs, classes, self._encoded_labels(step, signs, classes), self._known(step))
        batch.x *= signs
        self._batches[step.index] = batch
        u = self._helper_masks("U", self._me, self._me, step, batch.x.shape)
        if self._checks is not None:
            self._openings[step.index] = self._checks.openings(step, u, batch.known)
        return batch.x - u

    def openings(self, step: Step) -> dict[int, Words]:
        """Compute the openings by which other data parties check the helper's dealing.

        (rows of the batch, `Sizes.opened`); see `checks`.

        Goes with the masked inputs; empty where nothing is checked.
        """
        return {} if self._checks is None else self._openings.pop(step.index)

    def masked_labels(self, step: Step) -> Words:
        """Compute y~ = scale s y P - m_y for every other data party.

        (rows of the batch, outputs), F fractional bits.
        """
        labels = self._batch(step).labels
        if labels is None:
            raise OutOfTurn("only the label party has labels")
        self._turns.begin_step("masked labels", step)
        return labels - self._label_mask(step)

    def masked_weights(self, step: Step) -> dict[int, Words]:
        """Compute f_ij = w_ij P - v_ij for each other data party i.

        It goes to party i, and needs the step before absorbed.
        """
        if step.index not in self._partners:
            raise OutOfTurn(f"the step before {step.index} is not absorbed, or this one done")
        self._turns.begin_step("masked weights", step)
        classes, partners = self._order.classes(step, self._plan.outputs), self._partners[step.index]
        return {i: apply_order(share, classes) - self._block_mask("V", i, step) for i, share in partners.items()}

    def absorb(self, step: Step, inputs: Mapping[int, Words], openings: Mapping[int, Words] = NO_OPENINGS) -> None:
        """Take in E_i, and the openings, of every other data party.

        All of this step that needs no activation.

        Advances the shares of the other parties' blocks to the next step and, unless this is the label party, the
        share of the intercept. Keeps sum_j E_j v_(j,me), and the intercept's part, for the pre-activation.

        Raises:
            ShapeProblem: naming the data party whose masked inputs or openings have the wrong shape.
        """
        columns = self._plan.request.columns
        masked = {i: expect(inputs[i], (step.rows, columns[i]), f"masked inputs of party {i}") for i in self._others}
        t, batch, known = step.index, self._batch(step), self._batch(step).known
        received = {} if self._checks is None else self._checks.expect_openings(step, openings)
        self._turns.begin_step("absorb", step)
        rs = {i: self._block_mask("R", i, step) for i in self._others}
        if self._checks is not None:
            self._checks.absorb(step, received, known, rs)
        batch.ahead = total(product(e, self._block_mask("V", i, step)) for i, e in masked.items())
        if self._me != self._label:
            batch.ahead += self._intercept_column(step, batch)
            back = encode_number(step.after, self._plan.fx)
            self._intercepts[t + 1] = intercept_update(
                self._intercepts[t], back, batch.signs, known[self._label], batch.classes
            )
        self._partners[t + 1] = {
            i: partner_update(share, masked[i], known[i], rs[i], batch.classes)
            for i, share in self._partners[t].items()
        }

    def preactivation(self, step: Step, weights: Mapping[int, Words]) -> Words:
        """Compute z_me for the helper, (rows of the batch, outputs), f_z fractional bits.

        `weights` are the f_(me,j) received.

        Uniform on its own, and together with any but all of the others'.

        Raises:
            ShapeProblem: naming the data party whose masked weights have the wrong shape.
        """
        block, shape = self._own.shape, (step.rows, self._plan.outputs)
        opened = [expect(weights[j], (block[0], block[1]), f"masked weights of party {j}") for j in self._others]
        batch = self._batch(step)
        if batch.ahead is None or step.index != self._done:
            raise OutOfTurn(f"step {step.index} is not absorbed, or the one before it not done")
        self._turns.begin_step("pre-activation", step)
        z = preactivation_share(batch.x, total([apply_order(self._own, batch.classes), *opened]), batch.ahead)
        if self._me == self._label:
            z += self._intercept_column(step, batch)
            z += self._offset(step)
        if self._me == 0:
            z += self._order.noise(step, noise_width(self._plan, step.alpha), self._plan.outputs)
        z += zero_share(self._me, self._zero_masks, step, shape, digests=self.digests)  # last, over everything
        return z

    @property
    def digests(self) -> Mapping[int, bytes]:
        """Digests of the helper's dealing by other party, until the last update (`checks`)."""
        return NO_DIGESTS if self._checks is None else self._checks.digests

    def update(self, step: Step, masked_activation: Words, gradient: Words, masked_labels: Words | None) -> None:
        """Take the step on this party's own block.

        p_me and g_me come from the helper, y~ from the label party.

        `masked_labels` is None at the label party itself.

        Raises:
            ShapeProblem: naming what has the wrong shape.
        """
        shape = (step.rows, self._plan.outputs)
        answer = expect(masked_activation, shape, "the helper's masked activation")
        gradient = expect(gradient, dealt_shape(self._plan, self._me), "the helper's gradient share")
        if self._turns.next_step("pre-activation") <= step.index:
            raise OutOfTurn(f"step {step.index} has no pre-activation yet")
        labels = self._batch(step).labels if masked_labels is None else masked_labels
        if labels is None or (self._me == self._label) != (masked_labels is None):
            raise OutOfTurn("masked labels are for all but the label party")
        error = answer - expect(labels, shape, "the label party's masked labels")
        self._turns.begin_step("update", step)
        if self._checks is not None:
            gradient = self._checks.gradient(step, gradient)
        self._finish(step, self._batches.pop(step.index), error, gradient)

    def _finish(self, step: Step, batch: _Batch, error: Words, gradient: Words) -> None:
        t = step.index
        self._own = own_update(self._own, batch.x, error, gradient, batch.classes)
        if self._me == self._label:
            back = encode_number(step.after, self._plan.fx)
            self._intercepts[t + 1] = intercept_update(self._intercepts[t], back, batch.signs, error, batch.classes)
        del self._partners[t], self._intercepts[t]
        self._done = t + 1

    def _batch(self, step: Step) -> _Batch:
        if step.index not in self._batches:
            raise OutOfTurn(f"the inputs of step {step.index} are not masked yet, or it is done")
        return self._batches[step.index]

    def _encoded_labels(self, step: Step, signs: Words, classes: Signed) -> Words | None:
        """Scale y P at F fractional bits under the signs.

        The activation is encoded with the same scale.
        """
        if self._y is None:
            return None
        target = self._plan.link.target(self._y[self._order.rows(step)])
        return apply_order(signs * encode(step.scale * target, self._plan.f), classes)

    def _intercept_column(self, step: Step, batch: _Batch) -> Words:
        """Return the intercept's part of a pre-activation share.

        Its public column is 1 / alpha, since it has no penalty.
        """
        column = encode_number(1.0 / step.alpha, self._plan.fx) * self._intercepts[step.index]
        return batch.signs * apply_order(column, batch.classes)

    def _offset(self, step: Step) -> Words | np.uint64:
        """Compute the label party's term of its labels alone in a pre-activation; f_z bits.

        Only some links have one.
        """
        offset, batch = self._plan.link.offset, self._batch(step)
        if offset is None or self._y is None:
            return np.uint64(0)
        words = encode(offset(self._y[self._order.rows(step)]) / step.alpha, self._plan.fz)
        return apply_order(batch.signs * words, batch.classes)

    def _block_mask(self, mask: str, i: int, step: Step) -> Words:
        """Return this party's v_i or r_i, shaped like party i's block."""
        return self._helper_masks(mask, i, self._me, step, (self._plan.request.columns[i], self._plan.outputs))

    def _known(self, step: Step) -> dict[int, Words]:
        """Return this party's m_i of every other data party i, less m_y at the label party."""
        shape = (step.rows, self._plan.outputs)
        known = {i: self._helper_masks("M", i, self._me, step, shape) for i in self._others}
        if self._me != self._label:
            return known
        label_mask = self._label_mask(step)
        return {i: mask - label_mask for i, mask in known.items()}

    def _label_mask(self, step: Step) -> Words:
        return self._helper_masks("m_y", self._label, self._label, step, (step.rows, self._plan.outputs))


def dealt_shape(plan: Plan, party: int) -> tuple[int, int]:
    """Return the shape of the words that the helper deals a data party for a step."""
    return plan.checks.dealt(party) if plan.request.checks else (plan.columns[party], plan.outputs)


def first_shares(me: int, plan: Plan) -> Shares:
    """Return every party's shares before the first step: zeros."""
    columns, outputs = plan.request.columns, plan.outputs
    zeros = [np.zeros((count, outputs), np.uint64) for count in columns]
    partners = {i: zeros[i] for i in range(len(columns)) if i != me}
    return Shares(0, zeros[me], partners, np.zeros((1, outputs), np.uint64))
