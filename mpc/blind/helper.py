"""Deals randomness as the helper, and receives nothing.

It knows which rows make a batch, which tells it nothing: neither ids nor values. It never sees features, labels,
weights, scores or errors, in clear or under a mask.

What it deals follows from keys that it shares with each data party, but for two things. One data party, which takes
turns, gets explicit words: its share of c cos and c sin of the mask t. Each data party i gets

    g_i = U_i^T (-sum_j r_j) - sum_j r_ij                summed over the others j
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import Words, product, total, transposed_product
from tercet.mpc.blind.activation import dealt_words
from tercet.mpc.blind.sizes import angles_shape, explicit_party, series_of
from tercet.mpc.interface.row_store import FirstUse, RowStore
from tercet.mpc.interface.script import Script, Send
from tercet.mpc.plan.blind import angle_unit, step_bits
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


class BlindHelper:
    """Acts as the helper in one attempt. Not to be shared by threads.

    Args:
        plan: The job's agreed numbers.
        masks: Shared with each data party, by its index.
        order: Of the rows, which everybody knows.
        stores: For each data party's masks U, (rows, its columns).
        first: The first step of this attempt.
    """

    def __init__(
        self, plan: Plan, masks: Mapping[int, Masks], *, order: Order, stores: Mapping[int, RowStore], first: int = 0
    ) -> None:
        self._plan, self._masks, self._order, self._stores = plan, masks, order, stores
        self._series = series_of(plan)
        self._parties = range(len(plan.columns))
        self._first = FirstUse(plan.request.rows)
        self._turns = Turns(first)

    def deal_step(self, step: Step) -> Script[None]:
        """Send every data party what it is dealt for a step."""
        for party, words in self.deal(step).items():
            yield Send("dealt", 0, (party,), words)

    def deal(self, step: Step) -> dict[int, Words]:
        """Compute what each data party is dealt, (1, `dealt_shape`)."""
        u = self.masks_of(step)
        dealt = {i: self._gradient_share(step, i, u[i]) for i in self._parties}
        turn = explicit_party(step, len(dealt))
        return dealt | {turn: np.concatenate([dealt[turn], self._explicit(step, turn, self.score_mask(step, u))], axis=1)}

    def masks_of(self, step: Step) -> dict[int, Words]:
        """Return U of a batch by data party; those of rows that no step before had are kept."""
        self._turns.begin_step("deal", step)
        rows = self._order.rows(step)
        new = self._first.of(rows)
        for i, store in self._stores.items():
            if len(new):
                store.write_rows(new, self._masks[i]("U", i, i, step, (len(new), self._plan.columns[i])))
        return {i: store.read_rows(rows) for i, store in self._stores.items()}

    def score_mask(self, step: Step, u: Mapping[int, Words]) -> Words:
        """Compute t, (rows, outputs): the data parties' words of it, less U_i sum_j v_ij, which z + t lacks."""
        words = total(self._masks[j]("t", j, j, step, (step.rows, self._plan.outputs)) for j in self._parties)
        return words - total(product(u[i], total(self._blocks("V", i, step))) for i in self._parties)

    def _gradient_share(self, step: Step, i: int, u: Words) -> Words:
        """Compute g_i in one row."""
        shape = (step.rows, self._plan.outputs)
        r = total(self._masks[j]("r", j, j, step, shape) for j in self._parties if j != i)
        g = transposed_product(u, r) + total(self._blocks("R", i, step))
        return (-g).reshape(1, -1)

    def _blocks(self, mask: str, i: int, step: Step) -> list[Words]:
        """Return v_ij or r_ij of each other party j."""
        block = (self._plan.columns[i], self._plan.outputs)
        return [self._masks[j](mask, i, j, step, block) for j in self._parties if j != i]

    def _explicit(self, step: Step, turn: int, t: Words) -> Words:
        """Compute one party's share of c cos and c sin of t, in one row; the others' are streams."""
        plan, shape = self._plan, angles_shape(self._plan, step)
        unit = angle_unit(step.alpha, plan.fz, self._series.period)
        words = dealt_words(t, unit, self._series, step.scale, step_bits(step.scale, plan.f).dealt).reshape(shape)
        words = words - total(self._masks[j]("angles", j, j, step, shape) for j in self._parties if j != turn)
        return words.reshape(1, -1)
