"""Reads CSV and gzipped CSV as text, a megabyte at a time.

Where there are many columns it reads more at a time. Types are inferred from the first megabyte.

It converts nothing: that a later line is no number is for the reader of the column to say, with its place.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from tercet.tables.core.problem import UnusableError
from tercet.tables.core.values import ABSENT
from tercet.tables.sources.csv_lines import lines_of

BLOCK = 2**20  # bytes, of which a line may fill one
OF_COLUMN = 2**14  # bytes: what is done for each column of a block takes longer than many cells of it
MOST = 2**26
# One thread, so that a parse error can say on which line it stands.
READ = csv.ReadOptions(use_threads=False, block_size=BLOCK)
PARSE = csv.ParseOptions(newlines_in_values=True)
# A column of numbers where some are not there is one all the same.
GUESS = csv.ConvertOptions(null_values=[blank + sign for sign in ABSENT.to_pylist() for blank in ("", " ")])
RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
REMEDY = "give a comma-separated file in UTF-8 (gzipped for .csv.gz) with a line of column names"


class CsvSource:
    """A file of lines; see `tables.sources.source.Source`."""

    unit = "line"

    def __init__(self, path: Path) -> None:
        self._path = path
        with (
            self._explained(),
            csv.open_csv(path, read_options=READ, parse_options=PARSE, convert_options=GUESS) as reader,
        ):
            self.schema = pa.schema([(field.name, _readable(field.type)) for field in reader.schema])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read these columns as text, as it stands.

        Nothing is taken for missing; a cell that is empty stays empty.
        """
        size = max(BLOCK, min(len(self.schema) * OF_COLUMN, MOST))
        read = csv.ReadOptions(use_threads=False, block_size=size)
        text = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns))
        with (
            self._explained(),
            csv.open_csv(self._path, read_options=read, parse_options=PARSE, convert_options=text) as reader,
        ):
            yield from reader

    def places(self, rows: Sequence[int]) -> list[int]:
        """Find the lines at which these rows begin."""
        return lines_of(self._path, rows)

    def close(self) -> None:
        """Do nothing: no file stays open after a batch is read."""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise UnusableError(self._what(error), REMEDY, "can't be read") from None

    def _what(self, error: Exception) -> str:
        """Describe an Arrow error; the library's own text may quote the table."""
        text = str(error)
        ragged = RAGGED.search(text)
        if ragged:
            number, *columns = map(int, ragged.groups())  # of the row, the line of names being the first
            (line,) = self.places([number - 2])
            return "line {} has not {} columns as those before but {}".format(line, *columns)
        if isinstance(error, OSError):
            return f"it can't be read: {error.strerror or 'the file is damaged or not what its name says'}"
        if "Empty CSV" in text:
            return "it is empty"
        if "straddl" in text:
            return "it has a line longer than a megabyte, or a quotation mark that is never closed"
        return "it is not CSV in UTF-8"


def _readable(inferred: pa.DataType) -> pa.DataType:
    """Read binary as text: Arrow infers it where text is not UTF-8.

    It is refused as such when it is read.
    """
    return pa.string() if pa.types.is_binary(inferred) else inferred
