"""Reads a folder of Parquet files as one table, as Spark, Dask and others write one.

Each file holds some of the rows.

Files are taken in the order of their names; what begins with a dot or an underscore is a writer's own and is no part.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa

from tercet.tables.core.problem import UnusableError
from tercet.tables.sources.parquet_source import PARQUET_SUFFIX, ParquetSource

NOT_PLAIN: Final = {  # what a folder has whose files are not just its rows
    "_temporary": "its writer has not finished, or has failed",
    "_delta_log": "it is a Delta table, of whose files not all count",
    ".hoodie": "it is a Hudi table, of whose files not all count",
}
PUBLIC: Final = "can't be read"
REMEDY: Final = "give a folder of Parquet files with the same columns, one beside the other"


class ParquetFolder:
    """Reads a folder of parts; see `tables.sources.source.Source`.

    One part is open at a time.
    """

    unit = "row"

    def __init__(self, folder: Path) -> None:
        self._parts = _parts_of(folder)
        self._open: ParquetSource | None = None
        self.schema: pa.Schema | None = None
        for path in self._parts:
            self._next(path)
        self.close()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read these columns of one part after the other, with the first part's types."""
        for path in self._parts:
            part = self._next(path)
            with _naming_the_part(path):
                yield from part.batches(columns)

    def places(self, rows: Sequence[int]) -> list[int]:
        """Number rows from 1, on from part to part."""
        return [row + 1 for row in rows]

    def close(self) -> None:
        """Close the part that is open."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _next(self, path: Path) -> ParquetSource:
        """Open a part that has the columns of the first one, in place of the open part."""
        self.close()
        with _naming_the_part(path):
            self._open = part = ParquetSource(path)
        if self.schema is None:
            self.schema = part.schema
        if _columns(part.schema) != _columns(self.schema):
            self.close()
            raise UnusableError(f"{path.name} has other columns or types than {self._parts[0].name}", REMEDY, PUBLIC)
        return part


def _parts_of(folder: Path) -> list[Path]:
    try:
        there = sorted(folder.iterdir())
    except OSError as error:
        raise UnusableError(f"it can't be read: {error.strerror}", REMEDY, PUBLIC) from None
    for marker, what in NOT_PLAIN.items():
        if any(path.name == marker for path in there):
            raise UnusableError(f"the folder holds {marker}: {what}", "write the table anew, as plain Parquet", PUBLIC)
    found = [path for path in there if not path.name.startswith((".", "_"))]
    strange = [path.name for path in found if path.is_dir() or not path.name.endswith(PARQUET_SUFFIX)]
    if strange or not found:
        what = f"the folder holds {strange[0]!r}, which is no Parquet file" if strange else "the folder holds no part"
        raise UnusableError(f"{what}; partitions in folders of their own are not read", REMEDY, PUBLIC)
    return found


def _columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in schema]


@contextmanager
def _naming_the_part(path: Path) -> Iterator[None]:
    try:
        yield
    except UnusableError as problem:
        raise UnusableError(f"{path.name}: {problem.what}", problem.remedy, problem.public) from None
