"""Notes what of a table its owner should doubt.

Indexes of data frames, and columns that count rows.

It sees names, and whether numbers go up by one. The notes are for the owner alone.
"""

import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.tables.snapshot.columns import ChosenColumns, index_columns

NAMELESS = re.compile(r"(Unnamed: [0-9]+)?")  # in CSV as pandas writes an index, and as it reads that again


def doubtful_notes(schema: pa.Schema, chosen: ChosenColumns) -> list[str]:
    """Notes on the columns that are used, or are left out unasked."""
    used = {one.name for one in chosen.columns} | {chosen.id, chosen.label}
    left_out = [name for name in schema.names if name in index_columns(schema) - used]
    nameless = [one.name for one in chosen.columns if NAMELESS.fullmatch(one.name)]
    return [
        *(f"column {name!r} is the index of a data frame and is left out; `columns` may name it" for name in left_out),
        *(
            f"column {name!r} has no name of its own: if it is the index of a data frame, leave it out with `columns`"
            for name in nameless
        ),
    ]


class RowCounter:
    """Finds out whether a column counts the rows, one more in each."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._rows, self._counts = 0, True

    def add(self, values: NDArray[np.float64]) -> None:
        """Take the next rows; NaN where missing."""
        if not self._counts or len(values) == 0:
            return
        before = values[0] - 1 if self._last is None else self._last
        self._counts = bool((values == np.append(before, values[:-1]) + 1).all())
        self._last, self._rows = float(values[-1]), self._rows + len(values)

    def __bool__(self) -> bool:
        """Tell whether it does, in more than two rows."""
        return self._counts and self._rows > 2
