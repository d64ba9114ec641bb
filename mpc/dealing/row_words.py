"""Deals what goes by masks on rows: what shares of scores lack, and shares of gradients.

The helper does so, and it knows every mask whole. What it deals party i for each other party j is, in one row,

    c_ij = U_i v_ij - p_ij              what i's share of the scores of its rows lacks
    g_ij = -U_i^T r_j - r_ij            its share of its block's gradient

and the same for check rows and check columns, which have masks of their own (`row_checks`).
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import Words, product
from tercet.mpc.arithmetic.stored_rows import StoredRows
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.plan.architecture import Tensors, pack
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks

CHECK_ROWS = "U*"  # the mask on a party's check rows


class RowWords:
    """Deals the words of one pass.

    Args:
        layout: Of the plan.
        masks: Shared with each data party, by its index.
        checks: Check rows of a batch, and check columns of a party.
        trains: Whether gradient shares are dealt.
    """

    def __init__(self, layout: BlindLayout, masks: Mapping[int, Masks], checks: int, *, trains: bool) -> None:
        self._layout, self._masks, self._checks, self._trains = layout, masks, checks, trains

    def deal(self, step: Step, i: int, u: StoredRows) -> Words:
        """Compute all words for party i, in one row.

        `u` are the masks on its rows and check columns.
        """
        layout, checks = self._layout, self._checks
        rows = self._masks[i](CHECK_ROWS, i, i, step, (checks, layout.columns[i]))
        found: Tensors = {}
        for j in layout.others(i):
            v = self._masks[j]("V", i, j, step, (layout.columns[i], layout.widths[0]))
            if self._trains:
                scores, gradient = u.products(v, self._masks[j]("r", j, j, step, layout.product(step)))
                found |= self._gradient(step, i, j, gradient)
            else:
                scores = u.product(v)
            found |= self._scores(step, i, j, scores, product(rows, v))
        return pack(layout.row_words(i, step.rows, checks, trains=self._trains), found)

    def _scores(self, step: Step, i: int, j: int, scores: Words, checked: Words) -> Tensors:
        mask, width = self._masks[j], self._layout.widths[0]
        c = scores - mask("P", i, j, step, self._layout.product(step))
        return {("c", j): c, ("check c", j): checked - mask("P*", i, j, step, (self._checks, width))}

    def _gradient(self, step: Step, i: int, j: int, gradient: Words) -> Tensors:
        columns, width = self._layout.columns[i], self._layout.widths[0]
        words = -gradient - gradient_masks(self._masks[j], step, (i, j), (columns, width), self._checks)
        return {("g", j): words[:columns], ("check g", j): words[columns:]}


def input_masks(masks: Masks, step: Step, i: int, block: tuple[int, int], checks: int) -> Words:
    """Return the masks on rows that a step has for the first time, and on their check columns.

    (rows, columns + checks); `block` is rows and columns.
    """
    return np.concatenate([masks("U", i, i, step, block), masks("U'", i, i, step, (block[0], checks))], axis=1)


def gradient_masks(masks: Masks, step: Step, pair: tuple[int, int], block: tuple[int, int], checks: int) -> Words:
    """Return r_ij of a pair (i, j), for i's block and check columns: (columns + checks, width)."""
    i, j = pair
    return np.concatenate([masks("R", i, j, step, block), masks("R'", i, j, step, (checks, block[1]))])
