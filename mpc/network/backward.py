"""Passes back through a network as a data party, from the scores' error to layer 0's.

Weights above are updated on the way.

It sees words that are masked or shared; no error, gradient or weight in clear.

Symbols: e is the error of the scores, known to every data party as E = e - m with the helper's mask m (and the label
party's); delta_k is the error of hidden layer k's pre-activations, O_k = delta_k - o_k where it is opened for the layer
below. For the weights W above hidden layer k, with Q = a - q of the forward pass, T = W' - v the opened narrow weights,
E and m those of the layer above:

    gradient   a^T e  = Q^T (m_j + [j first] E) + q_j^T E + [q^T m]_j          f_x + F = f_w bits
    error      e W'^T = E W'_j^T + m_j T^T + [m v^T]_j                         F + 20 bits
    delta_k = (error, truncated to F bits) * slope, element by element in the helper's order

The truncation's opening serves the product with the slope at once, since both go element by element: with
A and B from the opened words (`truncation`), S the opened slope, tau its mask, t and h the dealt parts of the
truncation's mask,

    delta = (A + B t - h)(S + tau) = S (A + B t - h) + A tau + B [t tau] - [h tau]

A slope that is not 0 or 1 has f_x fractional bits, so that a second truncation follows.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.fixed import encode_number
from tercet.mpc.arithmetic.ring import Words, product_transposed, transposed_product
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Await, Script, Signal, sum_shares
from tercet.mpc.linear.algebra import NO_DIGESTS
from tercet.mpc.linear.checks import Checks
from tercet.mpc.network.forward import ForwardParty, NetworkShares
from tercet.mpc.plan.architecture import NARROW_BITS
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements, restore_elements
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


class BackwardParty(ForwardParty):
    """Data party `me` in the backward passes of one attempt. Not to be shared by threads.

    Args:
        me, plan, x, order, elements, helper_masks, zero_masks: As `ForwardParty` has them, of the purpose training.
        label: The label party's index.
        shares: Where to begin.
        checks: Where the helper's dealing is checked.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: Plan,
        x: FeatureSource,
        *,
        order: Order,
        elements: Elements,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        shares: NetworkShares,
        checks: Checks | None = None,
    ) -> None:
        super().__init__(me, plan, x, order=order, elements=elements, helper_masks=helper_masks, zero_masks=zero_masks)
        if (checks is not None) != (plan.request.checks > 0):
            raise ValueError("checks belong to jobs in which the helper's dealing is checked")
        self.checks = checks
        self._label, self._smooth, self._shares = label, plan.smooth, shares
        self._upper, self._biases = shares.upper, shares.biases  # updated within a step, before it is done

    @property
    def digests(self) -> Mapping[int, bytes]:
        """As they are after the last step that is done."""
        return NO_DIGESTS if self.checks is None else self.checks.digests

    def label_mask(self, step: Step) -> Words:
        """Return m_y, known to the label party and the helper."""
        return self._masks("m_y", self._label, self._label, step, (step.rows, self.layout.outputs))

    def error_mask(self, step: Step) -> Words:
        """Return this party's share of the mask on E: m_j, less m_y at the label party."""
        mask = self.mask("m", self.layout.last, step, (step.rows, self.layout.outputs))
        return mask - self.label_mask(step) if self.me == self._label else mask

    def run_backward(self, step: Step, error: Words) -> Script[Words]:
        """Pass back through all upper layers, and update them.

        Returns this party's share of delta_0, (rows, units), F bits.
        """
        layout, others = self.layout, tuple(self.others)
        opened, mask = error, self.error_mask(step)
        upper, biases = list(self._upper), list(self._biases)
        delta = mask
        for turn, k in enumerate(reversed(layout.hidden)):
            if k != layout.last:
                mask = self.mask("o", k, step, (step.rows, layout.widths[k + 1]))
                opened = yield from sum_shares("error opening", turn, delta - mask, others)
            upper[k], biases[k + 1] = self._update_upper(step, k, opened, mask)
            if k == 0:
                self._upper, self._biases = tuple(upper), tuple(biases)
                yield Signal("weights")
            yield Await("backward")
            delta = yield from self._delta(step, k, turn, self._error_below(step, k, opened, mask))
        return delta

    def _update_upper(self, step: Step, k: int, opened: Words, mask: Words) -> tuple[Words, Words]:
        """Compute shares of the weights and the bias above hidden layer k after this step."""
        layout, state = self.layout, self.state(step)
        hidden = state.hidden[k]
        share = mask + opened if self.me == 0 else mask
        gradient = transposed_product(hidden.opened, share)
        gradient += transposed_product(hidden.mask, opened)
        gradient += self.dealt(step, "qo", k)
        back = encode_number(step.after, self.plan.fx)
        last = k == layout.last
        falls = back * ((state.signs * share) if last else share).sum(axis=0, keepdims=True)
        if last:
            canonical = np.argsort(state.classes)
            gradient, falls = gradient[:, canonical], falls[:, canonical]
        return self._upper[k] - gradient, self._biases[k + 1] - falls

    def _error_below(self, step: Step, k: int, opened: Words, mask: Words) -> Words:
        """Return this party's share of e W'^T, (rows, units below), F + 20 fractional bits."""
        weights = self.state(step).weights
        error = product_transposed(opened, weights["narrow", k])
        error += product_transposed(mask, weights["T", k])
        error += self.dealt(step, "ov", k)
        return error

    def _delta(self, step: Step, k: int, turn: int, error: Words) -> Script[Words]:
        """Return this party's share of delta_k, (rows, units), F fractional bits."""
        hidden, others = self.state(step).hidden[k], tuple(self.others)
        flat = error.reshape(1, -1)[:, hidden.order]
        flat += self.mask("rd", k, step, flat.shape)
        if self.me == 0:
            flat += truncation.SHIFT
        c = yield from sum_shares("truncation opening", turn, flat, others)
        delta = self._multiply_slope(step, k, truncation.read_opened(c, NARROW_BITS))
        if self._smooth:
            delta += self.mask("rs", k, step, flat.shape)
            if self.me == 0:
                delta += truncation.SHIFT
            c = yield from sum_shares("slope opening", turn, delta, others)
            delta = self._truncate(step, k, truncation.read_opened(c, self.plan.fx))
        placed = restore_elements(delta, hidden.order, error.shape)
        return self.state(step).signs * placed if k == self.layout.last else placed

    def _multiply_slope(self, step: Step, k: int, c: truncation.OpenedValue) -> Words:
        """Return this party's share of the truncated error times the slope, in the helper's order."""
        hidden, kappa = self.state(step).hidden[k], self.layout.activation.kappa
        t, h, tt, ht = (self.dealt(step, name, k) for name in ("t", "h", "tt", "ht"))
        masked = c.constant * self.mask("tau", k, step, c.constant.shape) + c.factor * tt - ht
        slope = hidden.slope
        if kappa is not None:  # the slope of the opposite value, where that is what the helper had
            whole = encode_number(step.alpha * kappa, self.plan.fx if self._smooth else 0)
            slope, masked = np.where(hidden.signs == 1, slope, whole - slope), hidden.signs * masked
        share = c.factor * t - h
        if self.me == 0:
            share += c.constant
        share *= slope
        return share + masked

    def _truncate(self, step: Step, k: int, c: truncation.OpenedValue) -> Words:
        """Return this party's share after the second truncation."""
        share = c.factor * self.dealt(step, "t2", k) - self.dealt(step, "h2", k)
        return share + c.constant if self.me == 0 else share
