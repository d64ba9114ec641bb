"""Gives each activation as a short Fourier series.

Data parties evaluate it on a masked score.

It sees plain numbers only. The coefficients are those of `series_table`, which `tests.fit_series`
writes: minimax fits to the functions of `links` and `hidden`. Those of a Tweedie model depend on its
power, and are fitted when they are asked for (`power_series`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.power_series import Fitted, fit_exponentials
from tercet.mpc.functions.series_table import ROWS, Coefficients, Row
from tercet.mpc.functions.trigonometry import rotations

TURN_BITS = 64  # a whole turn is 2^64
SHARED = {"one-vs-rest": "logistic"}  # the same function, of each output
TWEEDIE, TWEEDIE_PERIOD = "tweedie", 32
TWEEDIE_TERMS = {(5, 12), (5, 16)}  # reach and terms of which there is a series, of any power
MOST_SCORE = 8.0  # no series of a Tweedie model reaches further


class SeriesProblem(ValueError):
    """A series that is not stored, or a score with more bits than its angles have.

    The text says what there is instead.
    """


@dataclass(frozen=True, slots=True)
class Terms:
    """The coefficients of one function, one sine and one cosine for each multiple."""

    constant: float
    sines: tuple[float, ...]  # all 0 for an even function
    cosines: tuple[float, ...]  # all 0 for an odd function
    error: float  # the largest distance from the function on the interval

    def value(self, cos: Floats, sin: Floats) -> Floats:
        """Evaluate at cosines and sines, (multiples, ...), as `rotations` gives them.

        Terms are added one by one, so that every machine gets the same last bit.
        """
        total = np.full(cos.shape[1:], self.constant)
        for k, (with_sin, with_cos) in enumerate(zip(self.sines, self.cosines, strict=True)):
            total += with_sin * sin[k] + with_cos * cos[k]
        return total


@dataclass(frozen=True, slots=True)
class Series:
    """Functions of a score z, by the angles 2 pi m z / period."""

    name: str  # of a link, or of a hidden activation
    period: int  # in units of z, a power of two
    multiples: tuple[int, ...]  # m: odd ones for a quarter wave, else whole ones
    low: float
    high: float  # the errors of phi and second hold for low <= z <= high
    phi: Terms  # the function; of a hidden one that has a centre, less the centre
    second: Terms  # a link's cumulant, which is the loss; a hidden activation's slope
    score: Terms | None  # z, which a loss multiplies by labels; None of a hidden activation
    score_low: float
    score_high: float  # its error holds for score_low <= z <= score_high
    slope: Terms | None = None  # what labels are multiplied by in an error; None: 1

    @property
    def functions(self) -> tuple[Terms, ...]:
        """Functions that an error is made of: phi, and the slope that labels multiply, if any."""
        return (self.phi,) if self.slope is None else (self.phi, self.slope)

    @property
    def constants(self) -> tuple[float, ...]:
        """Constants of these functions."""
        return tuple(terms.constant for terms in self.functions)

    @property
    def score_terms(self) -> Terms:
        """The score itself, or the link's `natural` of it, which a loss multiplies by labels."""
        assert self.score is not None
        return self.score

    def turns(self, words: Words, bits: int) -> Words:
        """Return the angle 2 pi z / period of each word, as a word; `bits` are those of z.

        It is linear: the angle of a sum modulo 2^64 is the sum of the angles.

        Raises:
            SeriesProblem: for more fractional bits than a turn has below one unit of z.
        """
        most = TURN_BITS + 1 - self.period.bit_length()
        if bits > most:
            raise SeriesProblem(f"series {self.name} takes at most {most} fractional bits, not {bits}")
        return words << np.uint64(most - bits)

    def angles(self, words: Words, bits: int) -> tuple[Floats, Floats]:
        """Return cosines and sines of all multiples of each word's angle, (multiples, ...)."""
        return rotations(self.turns(words, bits), self.multiples)


def _terms(numbers: Coefficients, count: int) -> Terms:
    constant, sines, cosines, error = numbers
    none = (0.0,) * count
    return Terms(constant, sines or none, cosines or none, error)


def _series(row: Row) -> Series:
    name, _, period, (first, step, count), (low, high), phi, second, part, score = row
    multiples = tuple(first + step * k for k in range(count))
    function = _terms(phi, count)
    identity = _terms(score, count) if score else function if name == "linear" else None
    return Series(
        name, period, multiples, low, high,
        function, _terms(second, count), identity, part * low, part * high,
    )  # fmt: skip


SERIES: Mapping[tuple[str, int, int], Series] = MappingProxyType(
    {(row[0], row[1], row[3][2]): _series(row) for row in ROWS}
)
"""All that is stored, by name, reach and number of terms."""


def series_name(name: str) -> str:
    """Return the name under which a function's series is stored."""
    return SHARED.get(name, name)


@lru_cache(maxsize=8)
def tweedie_series(power: float, reach: int, terms: int) -> Series:
    """Fit the series of a Tweedie model of this power.

    It holds where neither exponential is above exp(reach), and for |z| up to MOST_SCORE.
    """
    rise, fall = 2.0 - power, 1.0 - power
    low, high, multiples = max(-MOST_SCORE, reach / fall), min(MOST_SCORE, reach / rise), tuple(range(1, terms + 1))
    phi, slope = fit_exponentials((rise, fall), low, high, period=TWEEDIE_PERIOD, multiples=multiples)
    return Series(
        TWEEDIE, TWEEDIE_PERIOD, multiples, low, high,
        Terms(*phi), _integral(phi, rise), _integral(slope, fall), low, high, Terms(*slope),
    )  # fmt: skip


def _integral(fitted: Fitted, q: float) -> Terms:
    """Return the terms of (exp(q z) - 1) / q from those of exp(q z)."""
    constant, sines, cosines, error = fitted
    return Terms((constant - 1.0) / q, tuple(s / q for s in sines), tuple(c / q for c in cosines), error / abs(q))


def stored_terms(name: str) -> list[tuple[int, int]]:
    """List reach and number of terms of each series that a function has."""
    return sorted(TWEEDIE_TERMS) if name == TWEEDIE else [(reach, k) for n, reach, k in SERIES if n == name]


def series_for(name: str, reach: int, terms: int, power: float = 0.0) -> Series:
    """Return the series of a function: a stored one, or of a Tweedie model the one of its power.

    `reach` is the largest score on the side where errors grow, or on both: a Poisson model's
    largest, a gamma model's lowest in size. Of a Tweedie model it is that of the larger exponent.
    `terms` is the number of multiples, `power` a Tweedie model's.

    Raises:
        SeriesProblem: where there is none; it lists those of that name, or else all names.
    """
    name = series_name(name)
    if name == TWEEDIE and (reach, terms) in TWEEDIE_TERMS:
        return tweedie_series(power, reach, terms)
    found = SERIES.get((name, reach, terms))
    if found is None:
        there = "; ".join(f"reach {r} with {k} terms" for r, k in stored_terms(name))
        names = ", ".join(sorted({TWEEDIE, *(n for n, _, _ in SERIES)}))
        raise SeriesProblem(
            f"no series of {name} with reach {reach} and {terms} terms; stored are: "
            + (there or f"none of this name, but of {names}")
        )
    return found
