"""Keeps words of rows that are sent once and read at every epoch.

It knows neither what the words mask nor where they are kept.
"""

from typing import Protocol

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words


class RowStore(Protocol):
    """Holds words of every row, wherever they are kept."""

    def write_rows(self, rows: Signed, words: Words) -> None:
        """Keep the words of these rows, (len(rows), columns)."""

    def read_rows(self, rows: Signed) -> Words:
        """Read these rows in this order, (len(rows), columns)."""


class ArrayRows:
    """Words in memory, (rows, columns)."""

    def __init__(self, rows: int, columns: int) -> None:
        self._words = np.zeros((rows, columns), np.uint64)

    def write_rows(self, rows: Signed, words: Words) -> None:
        """Keep the words of these rows."""
        self._words[rows] = words

    def read_rows(self, rows: Signed) -> Words:
        """Read these rows in this order."""
        return self._words.take(rows, axis=0)


class FirstUse:
    """Tells which rows of each batch are used for the first time.

    It is asked for the batches in order.
    """

    def __init__(self, rows: int) -> None:
        self._unseen = np.ones(rows, np.bool_)
        self._left = rows

    def of(self, rows: Signed) -> Signed:
        """Return those of the rows that no batch before had, in their order."""
        if not self._left:
            return rows[:0]
        new: Signed = rows[self._unseen[rows]]
        self._unseen[new] = False
        self._left -= len(new)
        return new
