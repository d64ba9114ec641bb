"""Holds a data party's state of one step, from its masked inputs to update or scores.

All of it is masked, shared or this party's own. Symbols are those of `network_forward`.
"""

from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words
from tercet.mpc.plan.architecture import Tensors


@dataclass(slots=True)
class HiddenState:
    """Holds the state of one hidden layer in one step."""

    order: Signed  # of the elements in the helper's view
    signs: Words
    mask: Words  # q_j, in place
    opening: Words  # D, summed over the parties once all are there
    opened: Words = field(default_factory=lambda: np.empty((0, 0), np.uint64))  # Q
    slope: Words = field(default_factory=lambda: np.empty((0, 0), np.uint64))  # minus its mask, in the helper's view


@dataclass(slots=True)
class ForwardState:
    """Holds the state of one step."""

    x: Words
    rows: int
    signs: Words  # of the rows, where the link is odd
    classes: Signed
    hidden: list[HiddenState]
    ahead: Words | None = None  # the part of layer 0's share that needs no weights of this step
    dealt: Tensors | None = None
    weights: Tensors = field(default_factory=dict)  # openings, by name and layer
