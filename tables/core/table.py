"""Defines the batch type: some rows of one party's used columns, as arrays.

It holds neither ids nor labels, changes no value and shows none when it is printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["numeric", "categorical"]
Numbers = NDArray[np.float64]
Texts = NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Table:
    """Some rows of the used columns of one table, in the order of the source.

    Attributes:
        name: as the settings list the table.
        rows: how many.
        columns: names of the features, numeric and categorical, in their order.
        numeric: for each numeric column, rows float64 values, finite or NaN where missing; may be read-only.
        categorical: for each categorical column, rows texts by the rule of `tables.core.spelling`, None where missing.
    """

    name: str
    rows: int
    columns: tuple[str, ...]
    numeric: Mapping[str, Numbers]
    categorical: Mapping[str, Texts]

    def count_missing(self, column: str) -> int:
        """Count the rows that lack a value of a column."""
        if column in self.numeric:
            return int(np.isnan(self.numeric[column]).sum())
        return sum(text is None for text in self.categorical[column])

    def __repr__(self) -> str:
        return (
            f"Table({self.name!r}: {self.rows} rows, {len(self.numeric)} numeric and "
            f"{len(self.categorical)} categorical columns)"
        )
