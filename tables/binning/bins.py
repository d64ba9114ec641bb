"""Divides one column into bins, each row into exactly one, and says which.

It holds cuts and levels, never a row, and knows nothing of labels.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tercet.schemas.core.strict import Strict
from tercet.tables.core.category_counts import read_texts
from tercet.tables.core.spelling import spell
from tercet.tables.core.table import Table

MOST_BINS: Final = 1002  # of a column: a thousand levels, rare and missing
MISSING, RARE, UNSEEN = "missing", "rare", "unseen"
JOIN: Final = " or "  # between parts of a merged bin's label

BinIndexes = NDArray[np.int16]
Place = Annotated[int, Field(ge=0, lt=MOST_BINS)]


class BinnedColumn(Strict):
    """Divides one column of a party's table into bins, numbered from 0; survives JSON exactly.

    A row whose value belongs to none of them, since the rows that the bins were made of had nothing like it, has the
    number `count`: it is unseen. The rows that the bins were made of have none such.

    Attributes:
        name: of the column in the table.
        missing: the bin of rows that lack a value; None where none did.
    """

    name: str
    missing: Place | None = None


class NumericBins(BinnedColumn):
    """Divides numbers at cuts.

    The bins: below the first cut, from each cut to the next, from the last on, and missing values behind them.

    Attributes:
        cuts: rising and finite. A number that equals a cut is in the bin above it.
    """

    kind: Literal["numeric"] = "numeric"
    cuts: tuple[float, ...] = Field(max_length=MOST_BINS - 2)

    @model_validator(mode="after")
    def _cuts_rise(self) -> Self:
        if any(low >= high for low, high in pairwise(self.cuts)):
            raise ValueError("cuts rise from each to the next")
        if self.missing is not None and self.missing > len(self.cuts) + 1:
            raise ValueError("missing values are in one of the bins, or in a bin behind them")
        return self

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """From which number on, and below which one, for each bin of numbers; infinite at both ends."""
        return tuple(pairwise((-np.inf, *self.cuts, np.inf)))

    @property
    def count(self) -> int:
        """The number of bins, that of missing values included."""
        return len(self.cuts) + 1 + (self.missing == len(self.cuts) + 1)

    @property
    def labels(self) -> tuple[str, ...]:
        """As "[1.5, 3)" for each bin, "(-inf, 1.5)" for the first; `missing` where that is one."""
        cuts = _short_texts(self.cuts)
        pairs = zip(("(-inf", *(f"[{cut}" for cut in cuts)), (*cuts, "inf"), strict=True)
        parts = [[f"{low}, {high})"] for low, high in pairs]
        return _join_labels(parts, self.count, {MISSING: self.missing})

    def find_bins(self, table: Table) -> BinIndexes:
        """Number the bin of each row, (rows,) from 0; `count` where it is unseen."""
        values = table.numeric[self.name]
        found = np.searchsorted(np.array(self.cuts), values, side="right").astype(np.int16)
        found[np.isnan(values)] = self.count if self.missing is None else self.missing
        return found

    def merged(self, groups: Sequence[Sequence[int]]) -> Self:
        """Merge bins: those of `groups[i]` become bin i. Counts of merged bins are sums.

        Missing values may be merged with any bin, and are behind all others where they have one of their own.

        Raises:
            ValueError: a bin is in no group or in two, or bins of numbers would not stay in their order.
        """
        found = _check_groups(groups, self.count)
        places = [found[bin_] for bin_ in range(len(self.cuts) + 1)]
        if places[0] != 0 or any(above - below not in {0, 1} for below, above in pairwise(places)):
            raise ValueError("bins of numbers are merged with their neighbours, and stay in their order")
        cuts = tuple(cut for cut, (below, above) in zip(self.cuts, pairwise(places), strict=True) if below < above)
        return self.model_copy(update={"cuts": cuts, "missing": None if self.missing is None else found[self.missing]})


class CategoryBins(BinnedColumn):
    """Divides levels: each has a bin, alone or with others; so have rare and missing ones.

    A level that no bin names is in `rare`; where there is no such bin, it is unseen.

    Attributes:
        levels: of each bin; none of a bin that has rare or missing ones only.
        rare: the bin of levels that are in none; None where there was none such.
    """

    kind: Literal["categorical"] = "categorical"
    levels: tuple[tuple[str, ...], ...] = Field(max_length=MOST_BINS)
    rare: Place | None = None

    @model_validator(mode="after")
    def _each_level_has_one_bin(self) -> Self:
        levels = [level for bin_ in self.levels for level in bin_]
        if len(set(levels)) < len(levels):
            raise ValueError("a level is in one bin")
        if any(not bin_ and place not in {self.rare, self.missing} for place, bin_ in enumerate(self.levels)):
            raise ValueError("a bin has a level, rare ones or missing values")
        if max(self.rare or 0, self.missing or 0) >= max(1, len(self.levels)):
            raise ValueError("rare and missing are among the bins")
        return self

    @classmethod
    def single(cls, name: str, levels: Iterable[str], *, rare: bool = False, missing: bool = False) -> Self:
        """Make a bin of each level, then one of rare levels and one of missing values."""
        bins: list[tuple[str, ...]] = [(level,) for level in levels]
        places: list[int | None] = []
        for there in (rare, missing):
            places.append(len(bins) if there else None)
            bins += [()] * there
        return cls(name=name, levels=tuple(bins), rare=places[0], missing=places[1])

    @property
    def count(self) -> int:
        """The number of bins, those of rare levels and missing values included."""
        return len(self.levels)

    @property
    def labels(self) -> tuple[str, ...]:
        """The levels of each bin, `rare` and `missing`, joined by " or "."""
        parts = [list(map(_quoted, bin_)) for bin_ in self.levels]
        return _join_labels(parts, self.count, {RARE: self.rare, MISSING: self.missing})

    def find_bins(self, table: Table) -> BinIndexes:
        """Number the bin of each row, (rows,) from 0; `count` where it is unseen."""
        places, present, found = self._find_levels(table)
        numbers: BinIndexes = np.append(places, self.count if self.rare is None else self.rare)[found].astype(np.int16)
        numbers[~present] = self.count if self.missing is None else self.missing
        return numbers

    def look_up(self, table: Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell of each row whether it has a level, and whether a bin names that, (rows,) both."""
        places, present, found = self._find_levels(table)
        return present, found < len(places)

    def _find_levels(self, table: Table) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Return each level's bin, whether a row has a level, and which; the next one if unknown."""
        texts = read_texts(table, self.name)
        spellings, places = _look_up(self.levels)
        found = pc.fill_null(pc.index_in(texts, value_set=spellings, skip_nulls=True), len(places))
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        return places, present, found.to_numpy().astype(np.int64)

    def merged(self, groups: Sequence[Sequence[int]]) -> Self:
        """Merge bins: those of `groups[i]` become bin i. Counts of merged bins are sums.

        Raises:
            ValueError: a bin is in no group or in two.
        """
        found = _check_groups(groups, self.count)
        levels = tuple(tuple(level for bin_ in group for level in self.levels[bin_]) for group in groups)
        places = {
            name: None if place is None else found[place]
            for name, place in (("rare", self.rare), ("missing", self.missing))
        }
        return self.model_copy(update={"levels": levels, **places})


ColumnBins = Annotated[NumericBins | CategoryBins, Field(discriminator="kind")]
"""Bins of one column, whichever kind it has."""


def bin_indexes(bins: Sequence[NumericBins | CategoryBins], table: Table) -> BinIndexes:
    """Number the bins of each row: int16 (rows, columns), in the order of `bins`.

    A row has exactly one bin in each column, from 0 to `count` - 1, or `count` where its value is unseen.
    """
    found = np.empty((table.rows, len(bins)), np.int16)
    for place, column in enumerate(bins):
        found[:, place] = column.find_bins(table)
    return found


def bin_counts(bins: Sequence[NumericBins | CategoryBins], batches: Iterable[Table]) -> tuple[NDArray[np.int64], ...]:
    """Count rows by bin: int64 (count + 1,) for each column, unseen values last."""
    counts = tuple(np.zeros(column.count + 1, np.int64) for column in bins)
    for table in batches:
        for place, column in enumerate(bins):
            counts[place][:] += np.bincount(column.find_bins(table), minlength=column.count + 1)
    return counts


def _check_groups(groups: Sequence[Sequence[int]], count: int) -> dict[int, int]:
    """Map each bin, of so many, to its group."""
    if sorted(bin_ for group in groups for bin_ in group) != list(range(count)) or not all(groups):
        raise ValueError("each bin is in one group, and no group is empty")
    return {bin_: place for place, group in enumerate(groups) for bin_ in group}


def _join_labels(parts: Sequence[list[str]], count: int, words: dict[str, int | None]) -> tuple[str, ...]:
    found = [*parts, *([] for _ in range(count - len(parts)))]
    for word, place in words.items():
        if place is not None:
            found[place] = [*found[place], word]
    return tuple(JOIN.join(part) for part in found)


def _quoted(level: str) -> str:
    """Quote a level that could be taken for something else."""
    ambiguous = level in {"", MISSING, RARE, UNSEEN} or level.startswith('"') or JOIN in level
    return json.dumps(level, ensure_ascii=False) if ambiguous else level


def _short_texts(numbers: Sequence[float]) -> list[str]:
    """Write numbers with six digits where that tells them apart, else with all."""
    short = [f"{number:g}" for number in numbers]
    return short if len(set(short)) == len(short) else list(map(repr, numbers))


@lru_cache(maxsize=1024)  # since rows may come one by one
def _look_up(levels: tuple[tuple[str, ...], ...]) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return all levels, as today's rule spells them, and the bin of each."""
    spellings = spell(pa.array([level for bin_ in levels for level in bin_], pa.large_string()))
    return spellings, np.repeat(np.arange(len(levels)), [len(bin_) for bin_ in levels])
