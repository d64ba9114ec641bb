"""Passes batches forward as a data party, from columns to cos and sin of masked scores.

Symbols: party i's features X_i are sent once, when a batch has a row for the first time, as E_i = X_i - U_i. For each
batch, with masks that are used once,

    f_ij = w_ij - v_ij                                                          j -> i
    z + t = sum_i X_i (w_ii + sum_j f_ij) + sum_ij E_i v_ij + sum_j t_j         opened

where t = sum_j t_j - sum_i U_i sum_j v_ij, which the helper alone knows. It deals shares of c cos and c sin of t.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.fixed import encode_bounded, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Signed, Words, expect, product, total
from tercet.mpc.blind.activation import CosSin, evaluate, factors, rotate
from tercet.mpc.blind.sizes import angles_shape, dealt_shape, explicit_party, series_of
from tercet.mpc.functions.series import Terms
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.row_store import FirstUse, RowStore
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, received_words
from tercet.mpc.linear.algebra import preactivation_share
from tercet.mpc.plan.blind import angle_unit, norm_bits, step_bits
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


def nothing() -> Words:
    """Return words that are not there yet."""
    return np.zeros((0, 0), np.uint64)


@dataclass(slots=True)
class Batch:
    """Holds a batch's rows, and what is known of it so far."""

    rows: Signed
    new: Signed  # those that no batch before had
    ahead: Words = field(default_factory=nothing)  # of the share of z + t, what needs no own weights
    x: Words = field(default_factory=nothing)
    dealt: Words = field(default_factory=nothing)  # a share of c cos and c sin of t
    opened: CosSin = field(default_factory=lambda: (np.zeros(0), np.zeros(0)))  # of the multiples of z + t


class BlindForward:
    """Acts as data party `me` in forward passes. Not to be shared by threads.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        x: This party's features, (rows, columns), f_x fractional bits.
        order: Of the rows, which everybody knows.
        helper_masks: Shared with the helper.
        stores: For E of each other data party, (rows, its columns).
    """

    def __init__(
        self,
        me: int,
        plan: Plan,
        x: FeatureSource,
        *,
        order: Order,
        helper_masks: Masks,
        stores: Mapping[int, RowStore],
    ) -> None:
        self.me, self.plan, self.series = me, plan, series_of(plan)
        self.others = tuple(i for i in range(len(plan.columns)) if i != me)
        if x.shape[1] != plan.columns[me]:
            raise ShapeProblem(f"features: expected {plan.columns[me]} columns, got {x.shape[1]}")
        self._x, self._order, self._masks, self._stores = x, order, helper_masks, stores
        self._first = FirstUse(x.shape[0])
        self.unsent: dict[int, dict[int, Words]] = {}  # masked weights by step and receiver

    def begin(self, step: Step) -> Batch:
        """Begin a batch; in the order of steps."""
        rows = self._order.rows(step)
        return Batch(rows, self._first.of(rows))

    # --- ahead of time

    def exchange_inputs(
        self,
        step: Step,
        batch: Batch,
        partners: Mapping[int, Words],
        along: tuple[tuple[str, Words], ...] = (),
        *,
        wait: bool = False,
    ) -> Script[dict[int, Words]]:
        """Send masked weights, and masked inputs of new rows; return E of the batch by data party.

        `partners` are this party's shares of the other parties' blocks; `along` goes with new rows. Weights that may
        `wait` stay in `unsent` where there is no new row.
        """
        yield from self._send(step, batch, partners, along, wait=wait)
        if len(batch.new):
            due = {i: (len(batch.new), self.plan.columns[i]) for i in self.others}
            for i, words in received_words((yield Receive("masked inputs", 0, due))).items():
                self._stores[i].write_rows(batch.new, words)
        masked = {i: self._stores[i].read_rows(batch.rows) for i in self.others}
        batch.ahead = total(product(words, self.block_mask("V", i, step)) for i, words in masked.items())
        batch.ahead += self.own_mask("t", step)
        return masked

    def _send(
        self,
        step: Step,
        batch: Batch,
        partners: Mapping[int, Words],
        along: tuple[tuple[str, Words], ...],
        *,
        wait: bool,
    ) -> Iterator[Send]:
        weights = {i: share - self.block_mask("V", i, step) for i, share in partners.items()}
        if not len(batch.new):
            if wait:
                self.unsent[step.index] = weights
            else:
                yield from (Send("next weights", 0, (i,), words) for i, words in weights.items())
            return
        x = self._x.read_rows(batch.new)
        x -= self._masks("U", self.me, self.me, step, (x.shape[0], x.shape[1]))
        yield from (Send("masked inputs", 0, (i,), x, (("masked weights", weights[i]), *along)) for i in self.others)

    def receive_dealt(self, step: Step, batch: Batch, more: int, *, always: bool = False) -> Script[Words]:
        """Receive what the helper deals; return the words beside the share of angles, (1, more).

        It sends a message `always`, or unless that is empty.
        """
        shape, angles = dealt_shape(self.plan, self.me, step, more), angles_shape(self.plan, step)
        words = np.zeros((1, 0), np.uint64)
        if shape[1] or always:
            received = received_words((yield Receive("dealt", 0, {HELPER: shape})))[HELPER]
            words = expect(received, shape, "what the helper dealt")
        if self.me == explicit_party(step, len(self.plan.columns)):
            share = words[:, more:].reshape(angles)
        else:
            share = self._masks("angles", self.me, self.me, step, angles)
        batch.dealt = share.reshape(-1, step.rows, self.plan.outputs)
        return words[:, :more]

    # --- online

    def score_share(self, batch: Batch, weights: Words, received: Mapping[int, Words]) -> Words:
        """Compute this party's share of z + t, (rows, outputs), f_z fractional bits.

        `weights` is this party's share of its own block, `received` the others' under masks.
        """
        shape = (weights.shape[0], weights.shape[1])
        theirs = [expect(received[j], shape, f"masked weights of party {j}") for j in self.others]
        batch.x = self._x.read_rows(batch.rows)
        return preactivation_share(batch.x, total([weights, *theirs]), batch.ahead)

    def rotate(self, step: Step, batch: Batch, opened: Words) -> None:
        """Take in the opened z + t."""
        batch.opened = rotate(opened, angle_unit(step.alpha, self.plan.fz, self.series.period), self.series)

    def function(self, step: Step, batch: Batch, terms: Terms) -> Words:
        """Compute this party's share of c times a function, but for its constant; F fractional bits."""
        bits = step_bits(step.scale, self.plan.f, norm_bits(self.series))
        return evaluate(factors(batch.opened, terms, bits.public), batch.dealt)

    def first_cosine(self, step: Step, batch: Batch) -> Words:
        """Compute this party's share of c cos(m_1 z), F fractional bits."""
        count = len(self.series.multiples)
        bits = step_bits(step.scale, self.plan.f, norm_bits(self.series))
        (cosines, sines), dealt = batch.opened, batch.dealt
        cosine, sine = encode_bounded(cosines[0], bits.public), encode_bounded(sines[0], bits.public)
        found: Words = cosine * dealt[0] + sine * dealt[count]
        return found

    def unscaled(self, step: Step, batch: Batch, terms: Terms, bits: int) -> Words:
        """Compute this party's share of the function itself, but for its constant.

        It has so many fractional bits.
        """
        dealt = step_bits(step.scale, self.plan.f, norm_bits(self.series)).dealt
        return evaluate(factors(batch.opened, terms, bits - dealt, 1.0 / step.scale), batch.dealt)

    # --- masks

    def own_mask(self, name: str, step: Step) -> Words:
        """Return words of this party and the helper alone, (rows, outputs)."""
        return self._masks(name, self.me, self.me, step, (step.rows, self.plan.outputs))

    def block_mask(self, name: str, i: int, step: Step) -> Words:
        """Return this party's v_i or r_i, shaped like party i's block."""
        return self._masks(name, i, self.me, step, (self.plan.columns[i], self.plan.outputs))

    def column(self, step: Step, intercept: Words) -> Words:
        """Return the part of a share of the intercept in every row's score; it has no penalty."""
        return encode_number(1.0 / step.alpha, self.plan.fx) * intercept
