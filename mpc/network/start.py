"""Draws first weights of a network, which no party knows.

Each data party draws a share of every matrix by itself.

Nothing of a share is known to anybody else, the helper included. A weight is the sum of all parties' shares. Whoever
lacks one of them does not know it.
"""

import math
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.plan import Plan
from tercet.mpc.randomness.masks import Keystream
from tercet.mpc.randomness.secret_order import derive_subkey


def first_shares(me: int, plan: Plan, private: bytes) -> NetworkShares:
    """Return this party's first shares, from 32 bytes that only it has.

    A weight has the variance gain / inputs, by He (gain 2) for activations like ReLU and by Glorot, or LeCun, for
    others (1): each of the N shares is uniform in +-sqrt(3 gain / (inputs N)). Biases begin at zero.
    """
    layout, draw = Layout(plan), ShareSource(private, len(plan.columns))
    gain, inputs = layout.activation.gain, sum(plan.columns)
    blocks = {i: draw.draw(f"block {i}", layout.block(i), gain / inputs, plan.fw) for i in range(draw.parties)}
    gains = [gain] * layout.last + [1.0]
    upper = tuple(
        draw.draw(f"layer {k}", layout.upper(k), above / layout.widths[k], plan.upper_bits)
        for k, above in enumerate(gains)
    )
    own = blocks.pop(me)
    return NetworkShares(0, own, blocks, upper, tuple(zeros((1, width)) for width in layout.widths))


def zeros(shape: tuple[int, int]) -> Words:
    """Return a share of nothing."""
    return np.zeros(shape, np.uint64)


class ShareSource(NamedTuple):
    """Draws one party's shares of first weights."""

    private: bytes
    parties: int  # how many shares a weight is the sum of

    def draw(self, label: str, shape: tuple[int, int], variance: float, bits: int) -> Words:
        """Draw words of so many fractional bits, with this part of the variance of their sum.

        Whole arithmetic makes every machine draw the same.
        """
        half = round(math.sqrt(3.0 * variance / self.parties) * 2.0**bits)
        words = Keystream(derive_subkey(self.private, f"first weights {label}")).words(0, 0, 0, shape)
        return words % np.uint64(2 * half + 1) - np.uint64(half)
