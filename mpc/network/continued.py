"""Turns the shares of a finished model into those that another training begins with.

Nothing is truncated that is shared: words may only gain fractional bits. A block that its owner has in full may lose
some, rounded by that owner alone.
"""

from typing import NamedTuple, Self

import numpy as np

from tercet.mpc.arithmetic.ring import Words, from_signed, to_signed
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.blind import narrow_bits
from tercet.mpc.plan.plan import Plan


class Gain(NamedTuple):
    """Counts the fractional bits that words gain; below 0, they lose some.

    Attributes:
        weights: of data parties' blocks, of the intercept and of biases.
        upper: of weights above hidden layers.
    """

    weights: int
    upper: int

    @classmethod
    def between(cls, fx: int, f: int, plan: Plan, *, blind: bool) -> Self:
        """Compare a finished model's words with those that a plan begins with.

        `fx` and `f` are of the model's plan, and `blind` says whether no helper saw a score.
        """
        upper = narrow_bits(fx, f) if blind else fx + f
        return cls(plan.fw - fx - f, plan.upper_bits - upper)

    def lost(self, plan: Plan) -> int:
        """Count the bits that shares would have to lose."""
        return max(0, -self.weights, 0 if plan.network is None else -self.upper)


def owned_shares(me: int, plan: Plan, block: Words, intercept: Words | None) -> Shares:
    """Make the shares of a linear model of which each data party has its own block in full.

    `intercept`, (1, outputs), is its holder's.
    """
    zeros = [np.zeros((count, plan.outputs), np.uint64) for count in plan.columns]
    partners = {i: words for i, words in enumerate(zeros) if i != me}
    return Shares(0, block, partners, np.zeros((1, plan.outputs), np.uint64) if intercept is None else intercept)


def begin_shares(trained: Shares | NetworkShares, gain: Gain) -> Shares | NetworkShares:
    """Give a finished model's shares as they are before the first step of another training."""
    own = _rescale(trained.own, gain.weights)
    partners = {i: _rescale(words, gain.weights) for i, words in trained.partners.items()}
    if isinstance(trained, Shares):
        return Shares(0, own, partners, _rescale(trained.intercept, gain.weights))
    upper = tuple(_rescale(layer, gain.upper) for layer in trained.upper)
    return NetworkShares(0, own, partners, upper, tuple(_rescale(bias, gain.weights) for bias in trained.biases))


def _rescale(words: Words, gain: int) -> Words:
    if gain >= 0:
        return words << np.uint64(gain)
    half = np.int64(1 << (-gain - 1))
    return from_signed((to_signed(words) + half) >> np.int64(-gain))
