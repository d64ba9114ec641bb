"""Keeps words of rows that are sent once and read at every epoch.

It knows neither what the words mask nor where they are kept.
"""

from typing import Protocol

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words


class RowStore(Protocol):
    """Holds words of every row, wherever they are kept.

    Rows are numbered by their first use (`FirstUse`), so that a batch of new rows is one piece.
    """

    @property
    def words(self) -> Words:
        """All of them, (rows, columns), to be read in place."""

    def write_rows(self, rows: Signed, words: Words) -> None:
        """Keep the words of these rows, (len(rows), columns)."""

    def read_rows(self, rows: Signed) -> Words:
        """Read these rows in this order, (len(rows), columns)."""


class ArrayRows:
    """Words in memory, (rows, columns)."""

    def __init__(self, rows: int, columns: int) -> None:
        self.words = np.zeros((rows, columns), np.uint64)

    def write_rows(self, rows: Signed, words: Words) -> None:
        """Keep the words of these rows."""
        self.words[rows] = words

    def read_rows(self, rows: Signed) -> Words:
        """Read these rows in this order."""
        return self.words.take(rows, axis=0)


class FirstUse:
    """Tells which rows of each batch are used for the first time, and numbers them.

    It is asked for the batches in order.
    """

    def __init__(self, rows: int) -> None:
        self._places = np.full(rows, -1, np.int64)
        self._used = 0

    def of(self, rows: Signed) -> Signed:
        """Return those of the rows that no batch before had, in their order."""
        if self._used == len(self._places):
            return rows[:0]
        new: Signed = rows[self._places[rows] < 0]
        self._places[new] = np.arange(self._used, self._used + len(new))
        self._used += len(new)
        return new

    def places(self, rows: Signed) -> Signed:
        """Return the numbers of rows that were used: where stores keep them."""
        return self._places[rows]
