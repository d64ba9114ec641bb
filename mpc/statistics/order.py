"""Numbers a party's cells in an order that it alone knows.

It sees bins of rows, and no label.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Signed, Words, from_signed
from tercet.mpc.randomness.masks import Keystream
from tercet.mpc.randomness.secret_order import derive_subkey

RowBins = NDArray[np.int16] | NDArray[np.int64]
"""The bin of each row in each column, (rows, columns)."""


class SecretOrder:
    """Numbers the cells of a party in an order that it alone knows, column by column.

    Args:
        bins: Of each column.
        key: 32 random bytes of the party alone.
    """

    def __init__(self, bins: Sequence[int], key: bytes) -> None:
        stream = Keystream(derive_subkey(key, "order of bins"))
        starts = np.cumsum([0, *bins])
        self.starts: Signed = starts[:-1]
        words = stream.words(0, 0, 0, (int(starts[-1]),))
        orders = [start + np.argsort(words[start : start + n]) for start, n in zip(starts, bins, strict=False)]
        self.cells: Signed = np.empty(len(words), np.int64)
        """Of each bin, columns one after another, the number of its cell."""
        self.cells[np.concatenate([np.zeros(0, np.int64), *orders])] = np.arange(len(words))

    def number(self, bins: RowBins) -> Signed:
        """Number the cells of some rows, (rows, columns), by their bins."""
        cells: Signed = self.cells[bins + self.starts]
        return cells

    def count(self, bins: RowBins) -> Words:
        """Count the rows of each cell, (cells,)."""
        counts = np.zeros(len(self.cells), np.int64)
        for start, of_column in zip(self.starts, bins.T, strict=True):
            found = np.bincount(of_column)
            counts[self.cells[start : start + len(found)]] = found
        return from_signed(counts)
