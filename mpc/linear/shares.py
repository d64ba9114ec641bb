"""Holds a data party's share of a linear model, and what it is before the first step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.plan import Plan


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


def first_shares(me: int, plan: Plan) -> Shares:
    """Return every party's shares before the first step: zeros."""
    columns, outputs = plan.request.columns, plan.outputs
    zeros = [np.zeros((count, outputs), np.uint64) for count in columns]
    partners = {i: zeros[i] for i in range(len(columns)) if i != me}
    return Shares(0, zeros[me], partners, np.zeros((1, outputs), np.uint64))
