"""Chooses the numbers by which data parties evaluate an activation without the helper.

Symbols: c is the step's scale, alpha the scale of its weights, P the period of the series in units of a score. Words
of pre-activations have f_z fractional bits, so that the score alpha z is an angle of alpha z / P turns, or of
`unit` 2^-64ths of a turn for each unit of a word. The helper deals c cos and c sin of masks at `dealt` fractional bits;
the data parties multiply them by public numbers of `public` fractional bits. Both together are F, so that nothing is
truncated: an opened error is exact modulo 2^64, and no word can wrap.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tercet.mpc.functions.series import SERIES, Series, series_name

SPARE = 2  # bits by which public numbers are finer than dealt ones: more of them are added up
GOOD_BITS = 20  # of c cos and public numbers together, beyond the size of c
LEAST_BITS = 16
SPARE_TURNS = 2  # bits of a pre-activation's word beyond the period: scores out of the series are still told right
ALPHA_BITS = 8  # of a turn's unit where alpha falls: alpha is rounded to a 512th part at most


@dataclass(frozen=True, slots=True)
class Blind:
    """Names the series of a job in which the helper learns nothing."""

    reach: int  # scores up to which it holds
    terms: int  # K


DEFAULT_SERIES = {  # that fit most tables; rows that stray beyond a quarter wave are pushed back
    "logistic": Blind(32, 16),
    "linear": Blind(32, 8),
    "poisson": Blind(5, 16),
    "gamma": Blind(5, 16),
}
NO_SERIES = Blind(0, 0)  # the planner says which there are


def choose_series(model: str, reach: int | None, terms: int | None) -> Blind:
    """Fill in what a job leaves open.

    That is the default's reach, and the fewest terms that are stored for a reach.
    """
    model = series_name(model)
    default = DEFAULT_SERIES.get(model, NO_SERIES)
    reach = default.reach if reach is None else reach
    if terms is None:
        stored = [k for name, q, k in SERIES if (name, q) == (model, reach)]
        terms = default.terms if reach == default.reach else min(stored, default=default.terms)
    return Blind(reach, terms)


class StepBits(NamedTuple):
    """Fractional bits of the two factors of an activation; together F."""

    dealt: int  # of c cos and c sin of the helper's masks
    public: int  # of the series' coefficients times cos and sin of what is opened


def norm_bits(series: Series) -> int:
    """Count the bits of the coefficients' norm, by which roundings of dealt numbers grow."""
    terms = series.phi
    return math.frexp(math.sqrt(sum(c * c for c in (*terms.sines, *terms.cosines))))[1]


def step_bits(scale: float, f: int, norm: int) -> StepBits:
    """Split F between dealt and public numbers.

    For a step of this scale c, and so many bits of the norm.
    """
    _, exponent = math.frexp(scale)
    dealt = (f + exponent + norm - SPARE) // 2 - exponent
    return StepBits(dealt, f - dealt)


def significant_bits(scale: float, f: int) -> int:
    """Count the bits of an error of size 1 in a step of this scale."""
    return f + math.frexp(scale)[1]


def unit_bits(fz: int, period: int) -> int:
    """Count the bits of a turn's unit: at least 0, or the period does not fit."""
    return 64 - fz - (period.bit_length() - 1)


def angle_unit(alpha: float, fz: int, period: int) -> np.uint64:
    """Return the 2^-64ths of a turn for each unit of a pre-activation's word."""
    return np.uint64(round(math.ldexp(alpha, unit_bits(fz, period))))
