"""Keeps words of rows in a file that is mapped into memory, for as long as a job runs.

It knows neither what the words mask nor whose they are. Tables may be larger than memory, so the system decides what
of the file is there.
"""

import os
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.schemas.messages.tensor import Words

Rows = NDArray[np.int64]
PIECE = 2**20  # bytes that are written at a time: larger ones may make the system look for memory that is in one piece


class MappedRows:
    """Holds a word for each row and column; rows that were not written are zeros.

    They are read through the mapping. To write through it takes the system many times as long as to write to the file.

    Args:
        path: A file of this size, or a new one; for its owner only.
        rows, columns: Its size; without a column there is no file.
        keep: Whether the file stays, to be found again; else it has no name.

    Raises:
        OSError: The disk does not take so much.
    """

    def __init__(self, path: Path, rows: int, columns: int, *, keep: bool = False) -> None:
        self.words: Words = np.zeros((rows, columns), np.uint64)
        if not rows * columns:
            return
        size = 8 * rows * columns
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (keep and path.exists() and path.stat().st_size == size):
            path.unlink(missing_ok=True)  # and not cut short: another mapping of it may be in use
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._file)
        os.posix_fallocate(self._file, 0, size)  # or a full disk would be a fault when writing
        with os.fdopen(self._file, "rb", closefd=False) as file:
            self.words = np.asarray(np.memmap(file, np.uint64, "r", shape=(rows, columns)))
        if not keep:
            path.unlink()  # the mapping keeps it until nobody holds that any more, also after a crash

    def write_rows(self, rows: Rows, words: Words) -> None:
        """Keep the words of these rows, (len(rows), columns).

        Rows that follow one another are written together.

        Raises:
            IndexError: there is no such row.
        """
        if not words.size:
            return
        if rows.min() < 0 or rows.max() >= len(self.words):
            raise IndexError("a row is kept, and numbered from 0")
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, stop in pairwise(edges):
            self._write(int(rows[start]), np.ascontiguousarray(words[start:stop]).data.cast("B"))

    def _write(self, row: int, content: memoryview) -> None:
        place = row * self.words.strides[0]
        while content:
            written = os.pwrite(self._file, content[:PIECE], place)
            content, place = content[written:], place + written

    def read_rows(self, rows: Rows) -> Words:
        """Read these rows in this order, (len(rows), columns)."""
        return self.words.take(rows, axis=0)
