"""Trains a generalised linear model as a data party, as scripts.

It never sees another party's features, labels or weights, nor a pre-activation: only words that are masked or shared.

What runs ahead of the activations is in `ahead`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tercet.mpc.arithmetic.fixed import encode, encode_number
from tercet.mpc.arithmetic.ring import Words, expect, total
from tercet.mpc.interface.script import HELPER, Await, Receive, Script, Send, Signal, received_words
from tercet.mpc.linear.ahead import AheadParty, Batch
from tercet.mpc.linear.algebra import (
    NO_DIGESTS,
    apply_order,
    intercept_update,
    own_update,
    preactivation_share,
    zero_share,
)
from tercet.mpc.linear.shares import Shares
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step


class LinearParty(AheadParty):
    """Acts as data party `me` in one attempt; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order, the scripts `prepare_step` and those of `beside`, any number of steps ahead, and
    `run_online`; all are driven side by side. Within them each of `masked_inputs`, `masked_labels`, `masked_weights`,
    `absorb`, `preactivation` and `update` is asked for once, in the order of the steps; anything else raises OutOfTurn
    and changes nothing.
    """

    @property
    def beside(self) -> dict[str, Callable[[Step], Script[None]]]:
        """Scripts of each step that go beside the other two, by the name of their loop."""
        return {"absorb": self.absorb_step}

    @property
    def digests(self) -> Mapping[int, bytes]:
        """Digests of the helper's dealing by other party, until the last update (`checks`)."""
        return NO_DIGESTS if self._checks is None else self._checks.digests

    def shares(self) -> Shares:
        """Return the shares after the last update, whatever has run ahead of it.

        No later step changes them.
        """
        step = self._done
        return Shares(step, self._own, dict(self._partners[step]), self._intercepts[step])

    def run_online(self, step: Step) -> Script[None]:
        """Send the share of z to the helper, and take the step by its answer."""
        plan, shape, labels = self._plan, (step.rows, self._plan.outputs), None
        yield Await("absorbed")
        due = dict.fromkeys(self._others, self.layout.block(self._me))
        weights = received_words((yield Receive("masked weights", 0, due)))
        yield Send("output share", 0, (HELPER,), self.preactivation(step, weights))
        if self._y is None:
            labels = received_words((yield Receive("masked labels", 0, {self._label: shape})))[self._label]
        gradient = received_words((yield Receive("gradient share", 0, {HELPER: dealt_shape(plan, self._me)})))[HELPER]
        answer = received_words((yield Receive("output answer", 0, {HELPER: shape})))[HELPER]
        if self.loss is not None and self._y is not None:
            yield from self.loss.receive_terms(step)
        self.update(step, answer, gradient, labels)
        yield Signal("done")

    def preactivation(self, step: Step, weights: Mapping[int, Words]) -> Words:
        """Compute z_me for the helper, (rows of the batch, outputs), f_z fractional bits.

        `weights` are the f_(me,j) received.

        Uniform on its own, and together with any but all of the others'.

        Raises:
            ShapeProblem: naming the data party whose masked weights have the wrong shape.
        """
        block, shape = self.layout.block(self._me), (step.rows, self._plan.outputs)
        opened = [expect(weights[j], block, f"masked weights of party {j}") for j in self._others]
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

    def _offset(self, step: Step) -> Words | np.uint64:
        """Compute the label party's term of its labels alone in a pre-activation; f_z bits.

        Only some links have one.
        """
        offset, batch = self._plan.link.offset, self._batch(step)
        if offset is None or self._y is None:
            return np.uint64(0)
        words = encode(offset(self._y[self._order.rows(step)]) / step.alpha, self._plan.fz)
        return apply_order(batch.signs * words, batch.classes)

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

    def _finish(self, step: Step, batch: Batch, error: Words, gradient: Words) -> None:
        t = step.index
        self._own = own_update(self._own, batch.x, error, gradient, batch.classes)
        if self._me == self._label:
            back = encode_number(step.after, self._plan.fx)
            self._intercepts[t + 1] = intercept_update(self._intercepts[t], back, batch.signs, error, batch.classes)
        del self._partners[t], self._intercepts[t]
        self._done = t + 1


def dealt_shape(plan: Plan, party: int) -> tuple[int, int]:
    """Return the shape of the words that the helper deals a data party for a step."""
    return plan.checks.dealt(party) if plan.request.checks else (plan.columns[party], plan.outputs)
