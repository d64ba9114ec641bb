"""Reads a party's features batch by batch, since a table may be larger than memory.

It knows neither ids nor what a column means.
"""

from typing import Protocol

from tercet.mpc.arithmetic.ring import Signed, Words
from tercet.mpc.arithmetic.stored_rows import Stored


class FeatureSource(Protocol):
    """Gives features as words with f_x fractional bits, wherever they are kept.

    `fixed.encode_features` makes them.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""

    def read_rows(self, rows: Signed) -> Words:
        """Read these rows in this order, (len(rows), columns).

        The array is fresh, and the caller may write to it.
        """

    def locate_rows(self, rows: Signed) -> tuple[Stored, Signed]:
        """Return all that is stored, and where in it these rows are, to read them there."""


class ArrayFeatures:
    """Features in memory, (rows, columns)."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.shape: tuple[int, int] = (words.shape[0], words.shape[1])

    def read_rows(self, rows: Signed) -> Words:
        """Read these rows in this order."""
        return self._words.take(rows, axis=0)

    def locate_rows(self, rows: Signed) -> tuple[Stored, Signed]:
        """Return all rows, and the numbers of these."""
        return self._words, rows
