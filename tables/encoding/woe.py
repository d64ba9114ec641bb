"""Encodes a column by the weight of evidence of its bins.

The bins and their weights of evidence come from a statistics job; of training rows it keeps a mean, a deviation and the
share of missing values, no row's value.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from tercet.tables.binning.bins import CategoryBins, ColumnBins, NumericBins
from tercet.tables.core.moments import Floats, standardise
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoded import EncodedColumn, Marks, plain_name

UNSEEN_WOE = 0.0  # of a value in no bin: as much evidence for one class as for the other


class BinnedWoe(NamedTuple):
    """Holds the bins of one column, and the weight of evidence of each.

    It is ln((positives in the bin / all positives) / (negatives in the bin / all negatives)).
    """

    bins: NumericBins | CategoryBins
    woe: tuple[float, ...]


WoeByColumn = Mapping[str, BinnedWoe]
NO_WOE: WoeByColumn = MappingProxyType({})


class WoeColumn(EncodedColumn):
    """Becomes the weight of evidence (WOE) of the row's bin, standardised.

    That is (WOE - mean) / scale within ± the clip, so that the default rate fits as with other numbers.
    A value in no bin has WOE 0. A missing value has the WOE of its bin, if training rows that lacked one made a bin.

    Attributes:
        bins: of the column.
        woe: of each bin.
        mean: of the training rows' WOE.
        scale: its standard deviation (divided by their number), 0 if it is the same in all.
    """

    kind: Literal["woe"] = "woe"
    bins: ColumnBins
    woe: tuple[float, ...]
    mean: float
    scale: float = Field(ge=0)

    @model_validator(mode="after")
    def _each_bin_has_its_woe(self) -> Self:
        if len(self.woe) != self.bins.count or self.bins.name != self.name:
            raise ValueError("the bins are of another column, or not each has its weight of evidence")
        return self

    @property
    def names(self) -> list[str]:
        """That of the column."""
        return [plain_name(self.name)]

    @property
    def levels(self) -> tuple[str, ...]:
        """The categories that the bins name; none of numbers."""
        return tuple(level for bin_ in self.bins.levels for level in bin_) if self.bins.kind == "categorical" else ()

    @property
    def varies(self) -> bool:
        """Tell whether two training rows differ in their WOE."""
        return self.scale > 0

    @property
    def warnings(self) -> list[str]:
        """As for every column, and where it is constant."""
        constant = f"column {self.name!r} has one weight of evidence in every row and adds nothing to the model"
        return [*super().warnings, *([] if self.varies or self.missing == 1 else [constant])]

    def encode(self, table: Table, clip: float, target: Floats) -> None:
        """Write one column over `target`, float64 (rows, 1)."""
        target[:, 0] = self.encoded_bins(clip)[self.bins.find_bins(table)]

    def encoded_bins(self, clip: float) -> Floats:
        """Give the number that rows of each bin become, (bins + 1,); last that of no bin."""
        return standardise(np.array([*self.woe, UNSEEN_WOE]), self.mean, self.scale, clip)

    @property
    def pools_rare(self) -> bool:
        """Tell whether a level that no bin names counts as rare."""
        return self.bins.kind == "categorical" and self.bins.rare is not None

    def look_up(self, table: Table) -> tuple[Marks, Marks]:
        """Tell of each row whether it has a category, and whether a bin names that.

        Both are (rows,); of numbers no row has one.
        """
        if self.bins.kind == "categorical":
            return self.bins.look_up(table)
        return super().look_up(table)


class WoeFit:
    """Learns a column's mean and deviation by its bins from tables of training rows."""

    def __init__(self, name: str, found: BinnedWoe) -> None:
        self._name, self._found = name, found
        self._counts = np.zeros(found.bins.count + 1, np.int64)
        self._missing = 0

    def add(self, table: Table) -> None:
        """Take in some rows.

        Raises:
            TableProblem: the column is of another kind than its bins.
        """
        bins, name = self._found.bins, self._name
        if name not in (table.numeric if bins.kind == "numeric" else table.categorical):
            raise TableProblem(
                f"column {name!r} of table {table.name!r} was {bins.kind} in the statistics job and is not now",
                "list it under `numeric` or `categorical` as it was then, or run the statistics job again",
                f"the table {table.name!r} has other columns than in the statistics job",
            )
        self._missing += table.count_missing(name)
        self._counts += np.bincount(bins.find_bins(table), minlength=bins.count + 1)

    def column(self) -> WoeColumn:
        """Return the column, of all rows added; at least one."""
        rows, woe = self._counts.sum(), np.array([*self._found.woe, UNSEEN_WOE])
        there = woe[self._counts > 0]
        mean = float(self._counts @ woe / rows) if np.ptp(there) else float(there[0])
        scale = float(np.sqrt(self._counts @ np.square(woe - mean) / rows)) if np.ptp(there) else 0.0
        return WoeColumn(
            name=self._name, missing=self._missing / rows, bins=self._found.bins, woe=self._found.woe, mean=mean,
            scale=scale,
        )  # fmt: skip
