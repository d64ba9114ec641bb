"""Multiplies rows of words where they are stored, without copying them.

A batch of a wide table is megabytes, and a product with one column reads each word once. So to copy the rows first took
most of the time. Like `ring`, it knows neither what a word means nor how many fractional bits it has.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Signed, Words, from_signed, kernels, product, transposed_product

MOST_OUTPUTS = 4  # of a product in place: with more, the copied rows are multiplied faster

Stored = Words | NDArray[np.int32]
"""All rows, (any number, columns), without gaps: words, or features that fit into half of one."""


class StoredRows:
    """Names some rows X of stored words, in this order; a row may be there more than once.

    Args:
        stored: All rows. They may change later, and what is computed then changes with them.
        index: Which rows are meant, (rows,).

    Raises:
        IndexError: there is no such row; none is counted from the end.
    """

    def __init__(self, stored: Stored, index: Signed) -> None:
        if index.size and int(from_signed(index).max()) >= len(stored):  # a negative one is large then
            raise IndexError("a row is stored, and numbered from 0")
        self._stored, self._index = stored, np.ascontiguousarray(index)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return len(self._index), self._stored.shape[1]

    @cached_property
    def copied(self) -> Words:
        """The rows as an array of their own, (rows, columns)."""
        if self._stored.dtype == np.uint64:
            words: Words = self._stored.take(self._index, axis=0).view(np.uint64)
            return words
        return from_signed(self._stored.take(self._index, axis=0).astype(np.int64))

    def product(self, w: Words) -> Words:
        """Compute X w for w (columns, outputs).

        With fewer rows in w it is that of X's first columns.
        """
        if w.shape[0] > self.shape[1]:
            raise ValueError(f"shapes do not fit: {self.shape} and {w.shape}")
        if w.shape[1] > MOST_OUTPUTS:
            return product(self.copied[:, : w.shape[0]], w)
        out = np.empty((self.shape[0], w.shape[1]), np.uint64)
        kernels().multiply_rows(self._stored, self._index, np.ascontiguousarray(w.T), out)
        return out

    def products(self, w: Words, e: Words) -> tuple[Words, Words]:
        """Compute X w and X^T e, both with as many outputs, and read the rows once."""
        if (w.shape[0] > self.shape[1]) or e.shape != (self.shape[0], w.shape[1]):
            raise ValueError(f"shapes do not fit: {self.shape}, {w.shape} and {e.shape}")
        if w.shape[1] > MOST_OUTPUTS:
            return self.product(w), self.transposed_product(e)
        out, sums = np.empty(e.shape, np.uint64), np.zeros((e.shape[1], self.shape[1]), np.uint64)
        kernels().multiply_and_add_rows(
            self._stored, self._index, np.ascontiguousarray(w.T), out, np.ascontiguousarray(e), sums
        )
        return out, sums.T

    def transposed_product(self, e: Words) -> Words:
        """Compute X^T e for e (rows, outputs)."""
        if e.shape[0] != self.shape[0]:
            raise ValueError(f"shapes do not fit: {self.shape} and {e.shape}")
        if e.shape[1] > MOST_OUTPUTS:
            return transposed_product(self.copied, e)
        out = np.zeros((e.shape[1], self.shape[1]), np.uint64)
        kernels().add_rows(self._stored, self._index, np.ascontiguousarray(e), out)
        return out.T
