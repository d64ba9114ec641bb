"""Keeps a table's encoded rows as words modulo 2^64 on disk.

They may not fit into memory.

It knows neither ids nor columns' names, and what it holds is as secret as the table: only its owner can read the file.
"""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
RowNumbers = NDArray[np.int64]

# A feature has at most 13 fractional bits and 5 whole ones, so half a word's bytes hold it.
STORED = np.dtype(np.int32)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FeatureView:
    """Reads rows of a store in an order of their own.

    Any thread may read it, also after the store was closed.

    Attributes:
        stored: all rows of the store, int32 (rows of the store, columns), mapped from its file.
        index: for each row of the view, which row of the store it is.
    """

    stored: NDArray[np.int32]
    index: RowNumbers

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of the view, columns."""
        return len(self.index), self.stored.shape[1]

    def choose(self, marks: NDArray[np.bool_]) -> "FeatureView":
        """Make a view of the marked rows of this one, bool (rows of the view,)."""
        return FeatureView(self.stored, self.index[marks])

    def read_rows(self, rows: RowNumbers) -> Words:
        """Read rows of the view, in this order: uint64 (len(rows), columns).

        A row may be asked for more than once.

        Raises:
            IndexError: there is no such row; none is counted from the end.
        """
        stored, index = self.locate_rows(rows)
        return stored.take(index, axis=0).astype(np.int64).view(np.uint64)

    def locate_rows(self, rows: RowNumbers) -> tuple[NDArray[np.int32], RowNumbers]:
        """Return all rows of the store, and which of them are these rows of the view.

        Raises:
            IndexError: there is no such row; none is counted from the end.
        """
        if rows.size and rows.min() < 0:
            raise IndexError("a row of a view is at least 0")
        return self.stored, self.index[rows]


class FeatureStore:
    """Keeps one file of encoded rows, written once, then read through views.

    A failed disk is an OSError of `append`, never a fault when reading. `close` removes the file.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        self._path, self._rows, self._columns = path, rows, columns
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
        self._written = 0
        self._stored: NDArray[np.int32] | None = None

    @classmethod
    def create(cls, folder: Path, name: str, rows: int, columns: int) -> Self:
        """Create an empty store for so many rows in `folder`.

        The folder is made for the owner only if it is not there.

        Raises:
            ValueError: it would hold no row.
            FileExistsError: the folder has a store of this name.
            OSError: the disk does not take it.
        """
        if rows < 1 or columns < 0:
            raise ValueError("a store has at least one row, and no fewer columns than none")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder / f"{name}.features", rows, columns)

    def append(self, words: Words) -> None:
        """Write the next rows, uint64 (m, columns), which as two's complement fit into 32 bits.

        Raises:
            ValueError: they don't fit, or are more rows, or of other columns, than the store was made for.
            OSError: the disk does not take it. The rows do not count as written and can be appended again.
        """
        written = self._written + len(words)
        if words.ndim != 2 or words.shape[1] != self._columns or written > self._rows:
            raise ValueError(f"{words.shape} words do not fit into what is left of a store of {self._shape}")
        if len(words) == 0:
            return
        signed = words.view(np.int64)
        narrow = signed.astype(STORED)
        if not np.array_equal(narrow, signed):
            raise ValueError("a word of a feature needs more than 32 bits, which the plan's fixed point rules out")
        self._write(memoryview(narrow.tobytes()))
        self._written = written
        if written == self._rows:
            self._stored = self._mapped()

    def select(self, index: RowNumbers) -> FeatureView:
        """Make a view of the store's rows as `index` lists them, int64 (any length,).

        It shares the file and the index.

        Raises:
            ValueError: the store is not full yet or is closed, or has no such row.
        """
        if self._stored is None:
            raise ValueError(f"{self._written} of {self._rows} rows were written, or the store is closed")
        if index.size and (index.min() < 0 or index.max() >= self._rows):
            raise ValueError(f"the index names a row outside the store's {self._rows}")
        return FeatureView(self._stored, index)

    def close(self) -> None:
        """Remove the file.

        Views that are still held stay readable; the disk's space is free when they are gone.
        """
        self._stored = None
        self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def _shape(self) -> tuple[int, int]:
        return self._rows, self._columns

    def _write(self, content: memoryview) -> None:
        """Write without a buffer.

        So no rows are left over to fail once more when the file is closed.
        """
        self._file.seek(self._written * self._columns * STORED.itemsize)
        while content:
            content = content[self._file.write(content) :]

    def _mapped(self) -> NDArray[np.int32]:
        """Map the whole file as an array; only the pages in use take memory."""
        if not self._columns:  # of a label party without columns; an empty file cannot be mapped
            return np.empty(self._shape, STORED)
        pages = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):  # batches are in secret order: reading ahead would read what nobody wants
            pages.madvise(mmap.MADV_RANDOM)
        self._file.close()
        return np.frombuffer(pages, STORED).reshape(self._shape)
