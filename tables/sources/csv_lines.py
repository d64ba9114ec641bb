"""Finds the lines of a CSV file at which its rows begin, so that errors can name them.

Blank lines are no rows, and a row with a line end in quotes has several lines. The file is read once
more, and nothing of it is kept.
"""

import csv
import gzip
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

LONGEST = 2**20  # characters in a cell; a line has no more


def lines_of(path: Path, rows: Sequence[int]) -> list[int]:
    """Return the lines, from 1, at which these rows begin, in ascending order.

    Row 0 follows the line of names.

    Where the file can't be read any more, or is another by now, lines are as if each row had one.
    """
    lines = [row + 2 for row in rows]
    try:
        with _opened(path) as file:
            begins = islice(_beginnings(file), 1, None)
            before = 0
            for place, row in enumerate(rows):
                lines[place] = next(islice(begins, row - before, None))
                before = row + 1
    except (OSError, EOFError, csv.Error, StopIteration):
        return [row + 2 for row in rows]
    return lines


def _opened(path: Path) -> TextIO:
    how = {"mode": "rt", "encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    return gzip.open(path, **how) if path.suffix == ".gz" else path.open(**how)  # type: ignore[call-overload, no-any-return]


def _beginnings(file: TextIO) -> Iterator[int]:
    """Find the first line of each record, that of names included.

    The Arrow library leaves blank lines out as well.
    """
    csv.field_size_limit(LONGEST)
    reader, before = csv.reader(file), 0
    for record in reader:
        if record:
            yield before + 1
        before = reader.line_num
