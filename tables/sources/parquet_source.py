"""Reads Parquet by batches of rows, with a small buffer for each column.

The file's row groups may be of any length.

It follows no reference to other files, and reads no columns but those asked for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tercet.tables.core.problem import UnusableError

PARQUET_SUFFIX = ".parquet"
BATCH = 2**16  # rows
BUFFER = 2**20  # bytes for each column; without it the reader loads a whole row group, which may be the whole file


class ParquetSource:
    """Reads a file of columns; see `tables.sources.source.Source`."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        with _explained():
            # No memory map: a file cut short while it is read must end as an error, not kill the process.
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER, memory_map=False)
            self.schema: pa.Schema = self._file.schema_arrow

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read these columns with the file's types."""
        with _explained():
            for batch in self._file.iter_batches(BATCH, columns=list(columns), use_threads=False):
                yield batch.select(list(columns))  # asked for "a.b", it also reads what a nested "a" calls "b"

    def places(self, rows: Sequence[int]) -> list[int]:
        """Number rows from 1."""
        return [row + 1 for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged, or no Parquet"
        raise UnusableError(
            f"it can't be read: {reason}", "give a whole, readable Parquet file", "can't be read"
        ) from None
