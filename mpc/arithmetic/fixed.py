"""Encodes real numbers as words with a stated number of fractional bits.

Rows are clipped before.

It never shifts a word: a number changes its fractional bits only by being decoded and encoded again by its owner.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Words, from_signed, to_signed

Floats = NDArray[np.float64]

LIMIT = 2.0**62  # a sum of two encoded numbers must not wrap
CLIP = 16.0  # no feature and no standardised label is larger; the planner counts on it


class RangeProblem(ValueError):
    """A number that cannot be encoded: the fault of whoever holds it.

    The text says where it is, never what.
    """


def encode(x: Floats, bits: int) -> Words:
    """Return nearest words with `bits` fractional bits.

    Ties to even, so that opposite numbers give opposite words.

    Raises:
        RangeProblem: for nan, inf, and anything that reaches 2^62 once encoded.
    """
    with np.errstate(over="ignore"):  # what overflows is refused just below
        scaled = np.rint(x * 2.0**bits)
    fits = np.abs(scaled) < LIMIT
    if not fits.all():
        place = tuple(int(index) for index in np.argwhere(~fits)[0])
        raise RangeProblem(f"the number at {place} is not finite or needs 62 bits or more at {bits} fractional bits")
    return from_signed(scaled.astype(np.int64))


def encode_bounded(x: Floats, bits: int) -> Words:
    """Encode numbers as `encode` does, known to be finite and far below 2^62 once encoded."""
    return from_signed(np.rint(x * 2.0**bits).astype(np.int64))


def ceil_log2(x: float) -> int:
    """Find the least e with x <= 2^e; exact, unlike a rounded logarithm."""
    mantissa, exponent = math.frexp(x)
    return exponent - 1 if mantissa == 0.5 else exponent


def encode_number(x: float, bits: int) -> np.uint64:
    """Return one number as `encode` has it.

    Multiply it with arrays only, since scalars warn when they wrap.

    Raises:
        RangeProblem: as `encode`.
    """
    scaled = x * 2.0**bits
    if not abs(scaled) < LIMIT:
        raise RangeProblem(f"the number is not finite or needs 62 bits or more at {bits} fractional bits")
    return np.uint64(round(scaled) % 2**64)


def decode(words: Words, bits: int) -> Floats:
    """Return the float64 nearest to each word with `bits` fractional bits; exact below 2^53."""
    return to_signed(words).astype(np.float64) * 2.0**-bits


def clip_rows(x: Floats, norm: float) -> Floats:
    """Return the rows, those longer than `norm` scaled down to it.

    Shape (rows, columns), also of the result.
    """
    if not x.shape[1]:  # of a label party without columns, whose norm is 0
        return x
    lengths = np.sqrt(np.einsum("bd,bd->b", x, x))
    factors = norm / np.maximum(lengths, norm)
    clipped: Floats = x * factors[:, np.newaxis]
    return clipped


def encode_features(x: Floats, norm: float, bits: int) -> Words:
    """Clip numbers at CLIP and rows at the public `norm`, then encode them.

    A data party trains on the result.

    Shape (rows, columns), also of the result, whose rows are no longer than `norm` even after rounding.

    Raises:
        RangeProblem: for nan and inf, which no clipping may hide.
    """
    if not np.isfinite(x).all():
        row, column = (int(index) for index in np.argwhere(~np.isfinite(x))[0])
        raise RangeProblem(f"the feature in row {row}, column {column} is not a finite number")
    rounding = math.sqrt(x.shape[1]) * 2.0 ** -(bits + 1)
    return encode(clip_rows(np.clip(x, -CLIP, CLIP), norm - rounding), bits)
