"""Names the numbers of a plan that a forward pass needs.

It says nothing of how a model came about, so that a model outlives its plan.
"""

import math
from typing import Protocol

from tercet.mpc.arithmetic.fixed import ceil_log2
from tercet.mpc.functions.links import Link

SCORE_BITS = 16  # fractional bits of a score that the label party is told; more would help to solve for narrow data


class NoiseNumbers(Protocol):
    """Names the numbers that the noise on scores goes by."""

    @property
    def fz(self) -> int:
        """Fractional bits of pre-activations."""

    @property
    def noise_bits(self) -> int:
        """The helper sees scores under noise, uniform in at least +-2^-noise_bits."""


class Forward(NoiseNumbers, Protocol):
    """A `plan.Plan`, or the `scoring.Numbers` of a model."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Encoded columns of each data party, in party order."""

    @property
    def outputs(self) -> int:
        """Outputs of the model, K."""

    @property
    def fx(self) -> int:
        """Fractional bits of features."""

    @property
    def is_blind(self) -> bool:
        """Tell whether the helper sees no score."""

    @property
    def link(self) -> Link:
        """The link between score and label."""


def noise_width(numbers: NoiseNumbers, alpha: float) -> int:
    """Compute the base-2 logarithm of the noise's half-width.

    The unit is the last bit of a pre-activation.

    A score is alpha times a pre-activation; the noise is a power of two there, so that every bit of a word is uniform.
    """
    return numbers.fz - numbers.noise_bits + ceil_log2(1.0 / alpha)


def noise_half_width(numbers: NoiseNumbers, alpha: float) -> float:
    """Compute h, where scores are under noise that is uniform in +-h.

    It is from 2^-noise_bits to twice that.
    """
    return math.ldexp(alpha, noise_width(numbers, alpha) - numbers.fz)
