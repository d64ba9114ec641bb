"""Words modulo 2^64 and the few operations on them that everything else is made of.

It knows neither what a word means nor how many fractional bits it has.

Arrays of uint64 wrap exactly under + - * @. Mixing them with int64 silently gives float64, and scalars warn when
they wrap: keep to arrays, and pass through `from_signed` and `to_signed`.
"""

from collections.abc import Iterable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 2-D wherever the protocol speaks of it
Signed = NDArray[np.int64]


class ShapeProblem(ValueError):
    """Words that are not what was announced: the fault of whoever sent them, named in the text."""


def from_signed(values: Signed) -> Words:
    """The same bits, read modulo 2^64."""
    return values.view(np.uint64)


def to_signed(words: Words) -> Signed:
    """The same bits, read as two's complement."""
    return words.view(np.int64)


def total(parts: Iterable[Words]) -> Words:
    """Sum of one or more arrays of one shape; a new array unless there is only one."""
    return reduce(np.add, parts)


def column(words: Words) -> Words:
    """A vector as an array of one column."""
    return words[:, np.newaxis]


def product(x: Words, w: Words) -> Words:
    """X w for X (rows, columns) and w (columns, outputs)."""
    if w.shape[1] == 1:  # numpy's integer @ takes half as long again on one column
        return column(np.einsum("bd,d->b", x, w[:, 0]))
    wide: Words = np.matmul(x, w)
    return wide


def transposed_product(x: Words, e: Words) -> Words:
    """X^T e for X (rows, columns) and e (rows, outputs)."""
    if e.shape[1] == 1:
        return column(np.einsum("b,bd->d", e[:, 0], x))
    wide: Words = np.matmul(x.T, e)
    return wide


def product_transposed(e: Words, w: Words) -> Words:
    """E w^T for e (rows, outputs) and w (columns, outputs)."""
    back: Words = np.matmul(e, w.T)
    return back


def expect(words: Words, shape: tuple[int, int], what: str) -> Words:
    """The same words if they have this shape; else ShapeProblem, since numpy would broadcast a wrong one."""
    if words.dtype != np.uint64 or words.shape != shape:
        raise ShapeProblem(f"{what}: expected {shape} words, got {words.dtype} {words.shape}")
    return words
