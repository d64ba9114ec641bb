"""Defines each activation of hidden layers once: function, slope and symmetry.

It sees plain numbers only. Every activation here is odd about a constant, or has phi(z) - phi(-z) = kappa z: so the
helper may see z under a secret sign, and the data parties still find phi(z) and its slope.

Everything is made of IEEE operations, as in `activations`, so that both signs and all machines agree to the last bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.elementary import centred_sigmoid, exp, log_one_plus

LEAK = 1.0 / 128.0  # of the leaky ReLU; a power of two has no rounding of its own
GELU_SCALE = math.sqrt(2.0 / math.pi)
GELU_CUBE = 0.044715


@dataclass(frozen=True, slots=True)
class HiddenActivation:
    """A function of one hidden pre-activation.

    Either phi - centre is odd and its slope even (`kappa` is None), or phi(z) - phi(-z) = kappa z and the slopes of z
    and -z add up to kappa. `two_valued`: the slope is 0 or 1, so that a product with it has no more fractional bits.
    """

    name: str
    phi: Callable[[Floats], Floats]  # minus `centre`, where it is odd
    slope: Callable[[Floats], Floats]
    centre: float = 0.0
    kappa: float | None = None
    two_valued: bool = False
    gain: float = 1.0  # variance of the first weights times inputs: 2 by He for functions like ReLU, 1 by Glorot


def _sigmoid(z: Floats) -> Floats:
    e = exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _sigmoid_slope(z: Floats) -> Floats:
    half = centred_sigmoid(z)
    return 0.25 - half * half


def tanh(z: Floats) -> Floats:
    """Compute tanh, odd to the last bit."""
    e = exp(-2.0 * np.abs(z))
    return np.copysign((1.0 - e) / (1.0 + e), z)


def _tanh_slope(z: Floats) -> Floats:
    t = tanh(z)
    return 1.0 - t * t


def _relu(z: Floats) -> Floats:
    return np.maximum(z, 0.0)


def _step(z: Floats) -> Floats:
    return (z > 0).astype(np.float64)


def _leaky(z: Floats) -> Floats:
    return np.where(z > 0, z, LEAK * z)


def _leaky_slope(z: Floats) -> Floats:
    return np.where(z > 0, 1.0, LEAK)


def _silu(z: Floats) -> Floats:
    return z * _sigmoid(z)


def _silu_slope(z: Floats) -> Floats:
    s = _sigmoid(z)
    return s + z * s * (1.0 - s)


def _softplus(z: Floats) -> Floats:
    return np.maximum(z, 0.0) + log_one_plus(exp(-np.abs(z)))


def _gelu_inner(z: Floats) -> Floats:
    return GELU_SCALE * (z + GELU_CUBE * z * z * z)


def _gelu(z: Floats) -> Floats:
    """Return the approximation by tanh, 3e-4 from the exact function at most."""
    return 0.5 * z * (1.0 + tanh(_gelu_inner(z)))


def _gelu_slope(z: Floats) -> Floats:
    t = tanh(_gelu_inner(z))
    inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * z * z)
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * inner


HIDDEN: Mapping[str, HiddenActivation] = MappingProxyType(
    {
        activation.name: activation
        for activation in (
            HiddenActivation("relu", _relu, _step, kappa=1.0, two_valued=True, gain=2.0),
            HiddenActivation("leaky-relu", _leaky, _leaky_slope, kappa=1.0 + LEAK, gain=2.0),
            HiddenActivation("tanh", tanh, _tanh_slope),
            HiddenActivation("sigmoid", centred_sigmoid, _sigmoid_slope, centre=0.5),
            HiddenActivation("gelu", _gelu, _gelu_slope, kappa=1.0, gain=2.0),
            HiddenActivation("silu", _silu, _silu_slope, kappa=1.0, gain=2.0),
            HiddenActivation("softplus", _softplus, _sigmoid, kappa=1.0),
        )
    }
)
