"""How the roles read a party's features: batch by batch, since a table may be larger than memory.

It knows neither ids nor what a column means.
"""

from typing import Protocol

from tercet.mpc.arithmetic.ring import Signed, Words


class FeatureSource(Protocol):
    """Features as words with f_x fractional bits, as `fixed.encode_features` makes them, wherever they are kept."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""

    def read_rows(self, rows: Signed) -> Words:
        """These rows in this order, (len(rows), columns); a fresh array, which the caller may write to."""


class ArrayFeatures:
    """Features in memory, (rows, columns)."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.shape: tuple[int, int] = (words.shape[0], words.shape[1])

    def read_rows(self, rows: Signed) -> Words:
        """These rows in this order."""
        return self._words.take(rows, axis=0)
