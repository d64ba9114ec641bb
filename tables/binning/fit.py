"""Makes the bins of all columns of a table in one pass over its rows.

The memory is bounded: of a column's numbers it holds at most `SAMPLE`, of its categories counts alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tercet.tables.binning.bins import CategoryBins, NumericBins
from tercet.tables.core.category_counts import CategoryCounts
from tercet.tables.core.moments import Floats
from tercet.tables.core.table import Table

SAMPLE = 2**16  # numbers of a column from which quantiles are taken; of fewer rows they are exact
SHORTEST, LONGEST = 1, 17  # digits of a cut: the fewest that tell both sides apart

How = Literal["quantile", "width"]


@dataclass(frozen=True, slots=True)
class Binning:
    """Says how columns become bins.

    Attributes:
        count: bins of a numeric column, at most; missing values are one more.
        how: "quantile": about as many rows in each; "width": from the least number to the largest in equal steps.
        rare: levels of a categorical column with fewer rows share one bin.
        cuts: of some numeric columns, by name, instead.
    """

    count: int = 10
    how: How = "quantile"
    rare: int = 0
    cuts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def fit_bins(batches: Iterable[Table], binning: Binning) -> tuple[NumericBins | CategoryBins, ...]:
    """Make the bins of each column, in the table's order, of at least one row.

    Quantiles are exact for columns of up to `SAMPLE` numbers. Of more, evenly spaced ones are looked at, and how rows
    are split into batches changes nothing. No bin of numbers is empty but for cuts that the settings give.

    Raises:
        TableProblem: a column has more categories than make sense.
        ValueError: there is no row.
    """
    fits: list[_NumericFit | _CategoryFit] = []
    name, rows = "", 0
    for table in batches:
        fits = fits or [
            _NumericFit(column, binning) if column in table.numeric else _CategoryFit(column, binning)
            for column in table.columns
        ]
        for fit in fits:
            fit.add(table)
        name, rows = table.name, rows + table.rows
    if rows == 0:
        raise ValueError("bins need at least one row to be made of")
    return tuple(fit.bins(name) for fit in fits)


class _NumericFit:
    """Learns the bins of one numeric column."""

    def __init__(self, name: str, binning: Binning) -> None:
        self._name, self._binning = name, binning
        self._missing = False
        self._low, self._high = np.inf, -np.inf
        self._sample = EvenSample()

    def add(self, table: Table) -> None:
        values = table.numeric[self._name]
        present = values[~np.isnan(values)]
        self._missing = self._missing or len(present) < len(values)
        if len(present):
            self._low, self._high = min(self._low, present.min()), max(self._high, present.max())
        self._sample.add(present)

    def bins(self, _table: str) -> NumericBins:
        cuts = self._cuts()
        return NumericBins(name=self._name, cuts=cuts, missing=len(cuts) + 1 if self._missing else None)

    def _cuts(self) -> tuple[float, ...]:
        binning = self._binning
        if self._name in binning.cuts:
            return binning.cuts[self._name]
        if binning.how == "width":
            return width_cuts(float(self._low), float(self._high), binning.count)
        return quantile_cuts(self._sample.values, binning.count)


class _CategoryFit:
    """Learns the bins of one categorical column."""

    def __init__(self, name: str, binning: Binning) -> None:
        self._name, self._counts = name, CategoryCounts(name, binning.rare)

    def add(self, table: Table) -> None:
        self._counts.add(table)

    def bins(self, table: str) -> CategoryBins:
        found = self._counts.frequent(table)
        return CategoryBins.single(self._name, found.categories, rare=found.rare > 0, missing=found.missing > 0)


class EvenSample:
    """Keeps evenly spaced ones of a stream of numbers, all of them up to `SAMPLE`.

    Whenever there are more, every second one goes.
    """

    def __init__(self) -> None:
        self._parts: list[Floats] = []
        self._every, self._seen = 1, 0

    def add(self, values: Floats) -> None:
        """Take in the next numbers."""
        chosen = values[-self._seen % self._every :: self._every]
        self._seen += len(values)
        self._parts.append(chosen.copy())
        while sum(map(len, self._parts)) > SAMPLE:
            self._parts, self._every = [self.values[::2].copy()], 2 * self._every

    @property
    def values(self) -> Floats:
        """The numbers that are kept, in their order."""
        return np.concatenate([np.empty(0), *self._parts])


def quantile_cuts(values: Floats, count: int) -> tuple[float, ...]:
    """Choose cuts, at most `count` - 1, for about as many rows in each bin.

    Equal numbers stay together: a cut that would divide them goes to the nearer side that leaves no bin empty.
    """
    ordered = np.sort(values)
    places = [_nearest_border(ordered, place * len(ordered) // count) for place in range(1, count)]
    borders = sorted({place for place in places if 0 < place < len(ordered)})
    return tuple(dict.fromkeys(short_cut(float(ordered[place - 1]), float(ordered[place])) for place in borders))


def _nearest_border(ordered: Floats, place: int) -> int:
    """Find the nearer end of the equal numbers around a place; 0 or all if there are no others."""
    if place == 0:
        return 0
    begin, end = (int(np.searchsorted(ordered, ordered[place], side=side)) for side in ("left", "right"))
    return begin if begin and (end == len(ordered) or place - begin <= end - place) else end


def width_cuts(low: float, high: float, count: int) -> tuple[float, ...]:
    """Cut from `low` to `high` into equal steps.

    There is no cut where all numbers are the same, or none is there.
    """
    if not low < high:
        return ()
    parts = np.arange(1, count) / count
    cuts = low * (1.0 - parts) + high * parts  # a difference might overflow
    return tuple(dict.fromkeys(cut for cut in cuts.tolist() if low < cut <= high))


def short_cut(below: float, above: float) -> float:
    """Return the number of fewest digits that is greater than one and at most the other.

    A cut says no more of the rows than it must.
    """
    middle = below / 2.0 + above / 2.0
    for digits in range(SHORTEST, LONGEST + 1):
        for near in (above, middle):
            if below < (cut := float(f"{near:.{digits}g}")) <= above:
                return cut
    return above
