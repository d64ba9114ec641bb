"""Standardises a numeric column, fitted in one pass over the training rows.

It keeps a mean, a deviation and the share of missing values, no row's value.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from tercet.tables.core.moments import Floats, Moments, standardise
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoded import MISSING, EncodedColumn, part_name, plain_name


class NumericColumn(EncodedColumn):
    """Becomes (x - mean) / scale, within ± the clip; a constant column becomes zeros.

    A missing value becomes the mean, hence 0. Where some training rows lack it a second column, 0 or 1, says which,
    since that a value is missing may matter as much as the value.

    Attributes:
        mean: of the training rows that have a value.
        scale: their standard deviation (divided by their number), 0 if they are all the same.
    """

    kind: Literal["numeric"] = "numeric"
    mean: float
    scale: float = Field(ge=0)

    @property
    def tells_missing(self) -> bool:
        """Tell whether there is a second column.

        If every row lacked the value, it would teach nothing.
        """
        return 0 < self.missing < 1

    @property
    def names(self) -> list[str]:
        """That of the column, then `column=missing`."""
        return [plain_name(self.name), *([part_name(self.name, MISSING)] if self.tells_missing else [])]

    @property
    def varies(self) -> bool:
        """Tell whether two rows differ in their value, or in whether they have one."""
        return self.scale > 0 or self.tells_missing

    @property
    def warnings(self) -> list[str]:
        """As for every column, and where it is constant."""
        constant = []
        if self.scale == 0 and self.missing == 0:
            constant = [f"column {self.name!r} has one value in every row and adds nothing to the model"]
        elif self.scale == 0 and self.tells_missing:
            constant = [f"column {self.name!r} has one value wherever it has any; only whether it has one is learnt"]
        return [*super().warnings, *constant]

    def encode(self, table: Table, clip: float, target: Floats) -> None:
        """Write one column, or two, over `target`: zeros, float64 (rows, number of names)."""
        values = table.numeric[self.name]
        missing = np.isnan(values)
        target[:, 0] = np.where(missing, 0.0, standardise(values, self.mean, self.scale, clip))
        if self.tells_missing:
            target[:, 1] = missing


class NumericFit:
    """Learns a numeric column from tables of training rows."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows = 0
        self._moments = Moments()

    def add(self, table: Table) -> None:
        """Take in some rows."""
        values = table.numeric[self._name]
        self._rows += len(values)
        self._moments.add(values[~np.isnan(values)])

    def column(self) -> NumericColumn:
        """Return the column, of all rows added; at least one."""
        mean, scale = self._moments.result
        missing = (self._rows - self._moments.count) / self._rows
        return NumericColumn(name=self._name, missing=missing, mean=mean, scale=scale)
