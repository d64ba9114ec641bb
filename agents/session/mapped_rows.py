"""Keeps words of rows in a file that is mapped into memory, for as long as a job runs.

It knows neither what the words mask nor whose they are. Tables may be larger than memory, so the system decides what
of the file is there.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.schemas.messages.tensor import Words

Rows = NDArray[np.int64]


class MappedRows:
    """Holds a word for each row and column; rows that were not written are zeros.

    Args:
        path: A file of this size, or a new one; for its owner only.
        rows, columns: Its size; without a column there is no file.
        keep: Whether the file stays, to be found again; else it has no name.

    Raises:
        OSError: The disk does not take so much.
    """

    def __init__(self, path: Path, rows: int, columns: int, *, keep: bool = False) -> None:
        self._words = np.zeros((rows, columns), np.uint64)
        if not rows * columns:
            return
        size = 8 * rows * columns
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (keep and path.exists() and path.stat().st_size == size):
            path.unlink(missing_ok=True)  # and not cut short: another mapping of it may be in use
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # or a full disk would be a fault when writing
            self._words = np.memmap(file, np.uint64, "r+", shape=(rows, columns))
        if not keep:
            path.unlink()  # the mapping keeps it until nobody holds that any more, also after a crash

    def write_rows(self, rows: Rows, words: Words) -> None:
        """Keep the words of these rows, (len(rows), columns)."""
        self._words[rows] = words

    def read_rows(self, rows: Rows) -> Words:
        """Read these rows in this order, (len(rows), columns)."""
        return np.asarray(self._words.take(rows, axis=0))
