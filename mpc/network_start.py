"""First weights of a network, which no party knows: each data party draws a share of every matrix by itself.

Nothing of a share is known to anybody else, the helper included; a weight is the sum of all parties' shares, and
whoever lacks one of them does not know it.
"""

import math

import numpy as np

from mpc.masks import Keystream
from mpc.network import Layout
from mpc.network_forward import NetworkShares
from mpc.order import derived
from mpc.plan import Plan
from mpc.ring import Words


def first_shares(me: int, plan: Plan, private: bytes) -> NetworkShares:
    """This party's first shares, from 32 bytes that only it has.

    A weight has the variance gain / inputs, by He (gain 2) for activations like ReLU and by Glorot, or LeCun, for
    others (1): each of the N shares is uniform in +-sqrt(3 gain / (inputs N)). Biases begin at zero.
    """
    layout, parties = Layout(plan), len(plan.columns)
    gain, inputs = layout.activation.gain, sum(plan.columns)
    blocks = {
        i: _uniform(private, f"block {i}", layout.block(i), gain / inputs, parties, plan.fw) for i in range(parties)
    }
    upper = tuple(
        _uniform(private, f"layer {k}", layout.upper(k), (gain if k != layout.last else 1.0) / layout.widths[k],
                 parties, plan.fw)
        for k in layout.hidden
    )  # fmt: skip
    own = blocks.pop(me)
    return NetworkShares(0, own, blocks, upper, tuple(zeros((1, width)) for width in layout.widths))


def zeros(shape: tuple[int, int]) -> Words:
    """A share of nothing."""
    return np.zeros(shape, np.uint64)


def _uniform(key: bytes, label: str, shape: tuple[int, int], variance: float, parties: int, bits: int) -> Words:
    """Uniform words of `bits` fractional bits; whole arithmetic, so that every machine draws the same."""
    half = round(math.sqrt(3.0 * variance / parties) * 2.0**bits)
    words = Keystream(derived(key, f"first weights {label}")).words(0, 0, 0, shape)
    return words % np.uint64(2 * half + 1) - np.uint64(half)
