"""Computes cosines and sines of words: a word is an angle in 2^64ths of a turn.

Nothing here knows what an angle means. Every machine gets the same last bit: angles are reduced as
integers, and what follows is IEEE + - * alone, as in `elementary`.
"""

import math
from collections.abc import Sequence

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words, kernels

EIGHTH = np.uint64(1 << 61)  # of a turn
QUARTER_BITS = np.uint64(62)  # below a quarter of a turn
BELOW_QUARTER = np.uint64((1 << 62) - 1)
UNIT = float.fromhex("0x1.921fb54442d18p-62")  # 2 pi / 2^64
# Taylor series in x^2 for |x| <= pi / 4, less their first terms; the next terms are below 2^-58.
SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(1, 9))
COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(1, 9))


def _series(square: Floats, coefficients: tuple[float, ...]) -> Floats:
    """Sum coefficients[n] square^(n + 1)."""
    series = square * coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        series += coefficient
        series *= square
    return series


def cos_sin(words: Words) -> tuple[Floats, Floats]:
    """Return cosine and sine of each word, both within 3e-16.

    The nearest quarter turn is taken off, and |x| <= pi / 4 is left. It swaps the two and sets
    their signs.
    """
    shifted = words + EIGHTH
    quarter = shifted >> QUARTER_BITS
    x = ((shifted & BELOW_QUARTER) - EIGHTH).view(np.int64).astype(np.float64) * UNIT
    square = x * x
    cos, sin = 1.0 + _series(square, COS), x + x * _series(square, SIN)
    swapped = (quarter & np.uint64(1)).astype(bool)
    to_left = (quarter == 1) | (quarter == 2)
    down = quarter >= 2
    return (
        np.where(swapped, sin, cos) * np.where(to_left, -1.0, 1.0),
        np.where(swapped, cos, sin) * np.where(down, -1.0, 1.0),
    )


def _turn(cos: Floats, sin: Floats, words: Words, first: int, step: int) -> tuple[Floats, Floats]:
    """Return cosine and sine of `step` times each word.

    They follow from those of `first` times it where these serve.
    """
    if step == first:
        return cos, sin
    if step == 2 * first:
        return 1.0 - 2.0 * (sin * sin), 2.0 * (sin * cos)
    return cos_sin(words * np.uint64(step))


def rotations(words: Words, multiples: Sequence[int]) -> tuple[Floats, Floats]:
    """Return cosines and sines of multiples of each word, (multiples, *words.shape).

    Multiples have equal steps, as 1, 2, 3 or 1, 3, 5. Those that are known are turned by the angle
    between them and the next ones, so each turn doubles their number. That is within 1e-14 up to
    multiples of a hundred, and a third of the work of `cos_sin` for each.

    Raises:
        ValueError: for multiples without equal steps.
    """
    first, step = multiples[0], (multiples[1] - multiples[0] if len(multiples) > 1 else 1)
    if list(multiples) != [first + step * k for k in range(len(multiples))]:
        raise ValueError(f"multiples {multiples} do not have equal steps")
    cos, sin = np.empty((2, len(multiples), *words.shape))
    cos[0], sin[0] = cos_sin(words * np.uint64(first))
    if len(multiples) > 1:
        c, s = _turn(cos[0], sin[0], words, first, step)
        flat = len(multiples), -1
        kernels().turn_multiples(cos.reshape(flat), sin.reshape(flat), c.flatten(), s.flatten())
    return cos, sin
