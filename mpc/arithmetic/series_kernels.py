"""Compiles loops over angles: cosines and sines of words' multiples, and sums of series.

They do IEEE operations one by one, in the order of the formula: every machine gets the same bits.

A block of elements goes through all of its multiples while these are in the processor's first cache. To write all
cosines and sines down first took as long as to compute them.
"""

import math

import numpy as np
from numba import njit, types

from tercet.mpc.arithmetic.kernels import Floats, Words, compiled

BLOCK = 64  # elements that are turned at a time
EIGHTH = np.uint64(1 << 61)  # of a turn
QUARTER_BITS = np.uint64(62)  # below a quarter of a turn
BELOW_QUARTER = np.uint64((1 << 62) - 1)
UNIT = float.fromhex("0x1.921fb54442d18p-62")  # 2 pi / 2^64
# Taylor series in x^2 for |x| <= pi / 4, less their first terms, from the last one on; the next terms are below 2^-58.
SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(8, 0, -1))
COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(8, 0, -1))

ANGLES = types.Array(types.uint64, 1, "C", readonly=True)
WORDS, FLOATS = types.Array(types.uint64, 2, "C"), types.Array(types.float64, 2, "C")
READ_WORDS = types.Array(types.uint64, 2, "C", readonly=True, aligned=False)  # messages may begin anywhere
READ_FLOATS = types.Array(types.float64, 2, "C", readonly=True)


@njit(inline="always")
def _cos_sin(word: np.uint64) -> tuple[float, float]:
    """Return cosine and sine of an angle, both within 3e-16.

    The nearest quarter turn is taken off, and |x| <= pi / 4 is left. It swaps the two and sets their signs.
    """
    shifted = word + EIGHTH
    quarter = shifted >> QUARTER_BITS
    x = np.float64(np.int64((shifted & BELOW_QUARTER) - EIGHTH)) * UNIT
    square = x * x
    of_cos, of_sin = square * COS[0], square * SIN[0]
    for n in range(1, len(COS)):
        of_cos = (of_cos + COS[n]) * square
        of_sin = (of_sin + SIN[n]) * square
    cos, sin = 1.0 + of_cos, x + x * of_sin
    if quarter & np.uint64(1):
        cos, sin = sin, cos
    return cos * (-1.0 if (quarter == 1) | (quarter == 2) else 1.0), sin * (-1.0 if quarter >= 2 else 1.0)


@njit
def _turn(words: Words, first: np.uint64, step: np.uint64, cos: Floats, sin: Floats) -> None:
    """Fill cosines and sines of multiples of each word, (multiples, words).

    Multiples are `first` and those that follow it by `step`. Those that are known are turned by the angle between them
    and the next ones, so each turn doubles their number.
    """
    count, elements = cos.shape[0], len(words)
    c, s = np.empty(BLOCK), np.empty(BLOCK)
    for i in range(elements):
        cos[0, i], sin[0, i] = _cos_sin(words[i] * first)
    for i in range(elements):
        if step == first:
            c[i], s[i] = cos[0, i], sin[0, i]
        elif step == np.uint64(2) * first:
            c[i], s[i] = 1.0 - 2.0 * (sin[0, i] * sin[0, i]), 2.0 * (sin[0, i] * cos[0, i])
        else:
            c[i], s[i] = _cos_sin(words[i] * step)
    known = 1
    while known < count:
        more = min(known, count - known)
        for k in range(more):
            for i in range(elements):
                cos[known + k, i] = cos[k, i] * c[i] - sin[k, i] * s[i]
                sin[known + k, i] = sin[k, i] * c[i] + cos[k, i] * s[i]
        for i in range(elements):
            squares, twice = c[i] * c[i] - s[i] * s[i], c[i] * s[i]
            c[i], s[i] = squares, 2.0 * twice
        known += more


@compiled(ANGLES, types.uint64, types.uint64, FLOATS, FLOATS)
def turn(words: Words, first: np.uint64, step: np.uint64, cos: Floats, sin: Floats) -> None:
    """Fill cosines and sines of multiples of each word, (multiples, words)."""
    count = cos.shape[0]
    c, s = np.empty((count, BLOCK)), np.empty((count, BLOCK))
    for start in range(0, len(words), BLOCK):
        elements = min(BLOCK, len(words) - start)
        _turn(words[start : start + elements], first, step, c, s)
        for k in range(count):
            for i in range(elements):
                cos[k, start + i], sin[k, start + i] = c[k, i], s[k, i]


@compiled(ANGLES, types.uint64, types.uint64, types.float64, WORDS)
def encode(words: Words, first: np.uint64, step: np.uint64, unit: float, out: Words) -> None:
    """Round cosines, then sines, of multiples of each word, times unit, to whole numbers.

    `out` is (twice the multiples, words).
    """
    count = out.shape[0] // 2
    cos, sin = np.empty((count, BLOCK)), np.empty((count, BLOCK))
    for start in range(0, len(words), BLOCK):
        elements = min(BLOCK, len(words) - start)
        _turn(words[start : start + elements], first, step, cos, sin)
        for k in range(count):
            for i in range(elements):
                out[k, start + i] = np.uint64(np.int64(np.rint(cos[k, i] * unit)))
                out[count + k, start + i] = np.uint64(np.int64(np.rint(sin[k, i] * unit)))


@compiled(ANGLES, types.uint64, types.uint64, READ_WORDS, READ_FLOATS, READ_FLOATS, types.float64, WORDS)
def add_series(  # noqa: PLR0917
    words: Words,
    first: np.uint64,
    step: np.uint64,
    dealt: Words,
    of_cosines: Floats,
    of_sines: Floats,
    unit: float,
    out: Words,
) -> None:
    """Add up public factors times dealt words, element by element, for each function.

    `dealt` is (twice the multiples, words), coefficients are (functions, multiples), and `out` (functions, words).
    Factors are of cosines and sines of multiples of each word, and rounded to whole numbers after they are multiplied
    by `unit`.
    """
    functions, count = of_cosines.shape
    cos, sin = np.empty((count, BLOCK)), np.empty((count, BLOCK))
    for start in range(0, len(words), BLOCK):
        elements = min(BLOCK, len(words) - start)
        _turn(words[start : start + elements], first, step, cos, sin)
        for f in range(functions):
            for i in range(elements):
                out[f, start + i] = 0
            for k in range(count):
                c, s = of_cosines[f, k], of_sines[f, k]
                for i in range(elements):
                    with_cosine = np.int64(np.rint((s * sin[k, i] + c * cos[k, i]) * unit))
                    with_sine = np.int64(np.rint((c * sin[k, i] - s * cos[k, i]) * unit))
                    of_cosine = np.uint64(with_cosine) * dealt[k, start + i]
                    out[f, start + i] += of_cosine + np.uint64(with_sine) * dealt[count + k, start + i]
