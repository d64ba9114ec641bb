"""Chooses the numbers by which data parties evaluate an activation without the helper.

Symbols: c is the step's scale, alpha the scale of its weights, P the period of the series in units of a score. Words
of pre-activations have f_z fractional bits, so that the score alpha z is an angle of alpha z / P turns, or of
`unit` 2^-64ths of a turn for each unit of a word. The helper deals cos and sin of masks at `dealt` fractional bits; the
data parties multiply them by public numbers of `public` fractional bits, with c in them. Both together are F, so that
nothing is truncated: an opened error is exact modulo 2^64, and no word can wrap.

Hidden layers have activations of P = f_z - N bits, from dealt and public numbers that together are P. Weights
above them have P + F bits, are truncated to N where they are multiplied, and so pre-activations have f_z bits in
every layer.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tercet.mpc.functions.series import Series, series_for, series_name, stored_terms

GOOD_BITS = 20  # of cos and public numbers together, beyond the size of c
LEAST_BITS = 16
LEAST_WEIGHTED_BITS = 12  # of errors before they are weighed, whose roundings cancel over rows
MOST_NARROW_BITS, LEAST_NARROW_BITS = 24, 20  # of upper weights where activations are multiplied by them
UPPER_RANGE = 8  # bits of an upper weight's word before its point, the sign with them
SPARE_TURNS = 2  # bits of a pre-activation's word beyond the period: scores out of the series are still told right
ALPHA_BITS = 8  # of a turn's unit where alpha falls: alpha is rounded to a 512th part at most


class Stored(NamedTuple):
    """Tells which of the series of a function is meant."""

    reach: int  # scores up to which it holds
    terms: int  # K


@dataclass(frozen=True, slots=True)
class Blind:
    """Names the series of a job in which the helper learns nothing."""

    reach: int  # of the output, as `Stored`
    terms: int
    hidden_reach: int = 0  # of hidden layers' activations, where there are any
    hidden_terms: int = 0
    power: float = 0.0  # of a Tweedie model

    def series(self, model: str) -> Series:
        """Return the series of the output's activation.

        Raises:
            SeriesProblem: there is none such.
        """
        return series_for(model, self.reach, self.terms, self.power)

    def hidden_series(self, activation: str) -> Series:
        """Return the series of hidden layers' activations; else as `series`."""
        return series_for(activation, self.hidden_reach, self.hidden_terms)


DEFAULT_SERIES = {  # that fit most tables; rows that stray beyond a quarter wave are pushed back
    "logistic": Stored(32, 16),
    "linear": Stored(32, 8),
    "poisson": Stored(5, 16),
    "gamma": Stored(5, 16),
    "tweedie": Stored(5, 16),
}
DEFAULT_HIDDEN = {
    "tanh": Stored(16, 32),
    "sigmoid": Stored(16, 16),
    "silu": Stored(16, 24),
    "gelu": Stored(16, 32),
    "softplus": Stored(16, 24),
}
NO_SERIES = Stored(0, 0)  # the planner says which there are


def choose_stored(name: str, default: Stored, reach: int | None, terms: int | None) -> Stored:
    """Fill in what a job leaves open.

    That is the default's reach, and the fewest terms that are stored for a reach.
    """
    reach = default.reach if reach is None else reach
    if terms is None:
        stored = [k for q, k in stored_terms(name) if q == reach]
        terms = default.terms if reach == default.reach else min(stored, default=default.terms)
    return Stored(reach, terms)


def choose_series(
    model: str,
    reach: int | None,
    terms: int | None,
    activation: str | None = None,
    *,
    hidden_reach: int | None = None,
    hidden_terms: int | None = None,
    power: float = 0.0,
) -> Blind:
    """Choose the series of a job.

    It is of its output, and of hidden layers if they have an activation. The power is that of a Tweedie model.
    """
    name, hidden = series_name(model), NO_SERIES
    output = choose_stored(name, DEFAULT_SERIES.get(name, NO_SERIES), reach, terms)
    if activation is not None:
        hidden = choose_stored(activation, DEFAULT_HIDDEN.get(activation, NO_SERIES), hidden_reach, hidden_terms)
    return Blind(*output, *hidden, power)


class StepBits(NamedTuple):
    """Fractional bits of the two factors of an activation; together F."""

    dealt: int  # of cos and sin of the helper's masks
    public: int  # of c times the series' coefficients times cos and sin of what is opened


def relative_norm(series: Series) -> float:
    """Compute the norm of the coefficients over the root of the number of terms.

    Roundings of dealt numbers grow by the norm, and those of public ones by the root. Of two functions the larger
    norm counts.
    """
    squares = max(sum(c * c for c in (*terms.sines, *terms.cosines)) for terms in series.functions)
    return math.sqrt(squares / len(series.multiples))


def step_bits(scale: float, f: int, norm: float) -> StepBits:
    """Split F between dealt and public numbers, for steps of this scale c or more.

    Dealt numbers must not depend on a step, so `scale` is the least of all steps. `norm` is the relative one. Roundings
    of both kinds add as much to an error of the least step. In a step of a larger c public numbers have more bits
    beyond their size, and dealt ones as many: relative to c no step is less exact than the least.
    """
    _, exponent = math.frexp(scale * norm)
    dealt = (f + exponent) // 2
    return StepBits(dealt, f - dealt)


def significant_bits(scale: float, f: int) -> int:
    """Count the bits of an error of size 1 in a step of this scale."""
    return f + math.frexp(scale)[1]


def most_score_bits(fx: int) -> int:
    """Compute the most f_z of a network.

    Whose weights above hidden layers have 2 (f_z - f_x) - N fractional bits.
    """
    return (64 - UPPER_RANGE + MOST_NARROW_BITS) // 2 + fx


def narrow_bits(fx: int, f: int) -> int:
    """Choose N, the fractional bits of truncated weights above hidden layers.

    As few as leave no bit of a word unused.

    The fewer they are, the more have activations, whose P bits and the F of errors are those of the weights.
    """
    return min(MOST_NARROW_BITS, max(LEAST_NARROW_BITS, 2 * (fx + f) - (64 - UPPER_RANGE)))


def unit_bits(fz: int, period: int) -> int:
    """Count the bits of a turn's unit: at least 0, or the period does not fit."""
    return 64 - fz - (period.bit_length() - 1)


def angle_unit(alpha: float, fz: int, period: int) -> np.uint64:
    """Return the 2^-64ths of a turn for each unit of a pre-activation's word."""
    return np.uint64(round(math.ldexp(alpha, unit_bits(fz, period))))
