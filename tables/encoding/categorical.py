"""Counts a column's categories in one pass over training rows, and one-hot encodes.

It keeps the categories that are frequent enough and only the number of the others, no row's category.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from tercet.tables.core.category_counts import CategoryCounts, read_texts
from tercet.tables.core.moments import Floats
from tercet.tables.core.spelling import spell
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoded import MISSING, RARE, EncodedColumn, Marks, category_name, part_name


class CategoricalColumn(EncodedColumn):
    """Becomes one 0/1 column for each category, sorted.

    One for missing and one for rare ones follow.

    None is left out as a reference: gradient descent needs no inverse, so the redundant column does no harm, no
    category is special, and what was not seen in training has an encoding of its own, all zeros. An unseen category
    counts as rare where there were rare ones.

    Attributes:
        categories: those frequent enough in training for a column of their own.
        rare: how many others there were; they share one column.
    """

    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    rare: int = Field(default=0, ge=0)

    @property
    def levels(self) -> tuple[str, ...]:
        """The categories that have a column."""
        return self.categories

    @property
    def pools_rare(self) -> bool:
        """Tell whether there is a column of rare categories."""
        return self.rare > 0

    @property
    def names(self) -> list[str]:
        """`column=category` for each, then `column=missing` and `column=rare` if there were any."""
        names = [category_name(self.name, category) for category in self.categories]
        parts = [part for part, seen in ((MISSING, self.missing), (RARE, self.rare)) if seen]
        return [*names, *(part_name(self.name, part) for part in parts)]

    @property
    def varies(self) -> bool:
        """Tell whether two rows differ in their category; all rare ones count as one."""
        return len(self.names) > 1

    @property
    def warnings(self) -> list[str]:
        """As for every column, where it is constant, and how many categories are rare."""
        found = super().warnings
        if self.rare:
            found.append(f"column {self.name!r} has rare categories ({self.rare}), which count as one")
        if len(self.names) == 1 and not self.missing:
            constant = "rare categories only" if self.rare > 1 else "one value in every row"
            found.append(f"column {self.name!r} has {constant} and adds nothing to the model")
        return found

    def encode(self, table: Table, clip: float, target: Floats) -> None:  # noqa: ARG002
        """Write a 1 into `target`, which is zeros, for each row's category; `clip` is for numbers."""
        present, position = self._find_places(table)
        rows = np.flatnonzero(position >= 0)
        target[rows, position[rows]] = 1.0
        if self.missing:
            target[~present, len(self.categories)] = 1.0
        if self.rare:
            target[(position < 0) & present, -1] = 1.0

    def look_up(self, table: Table) -> tuple[Marks, Marks]:
        """Tell of each row whether it has a category, and whether that has a column, (rows,) both."""
        present, position = self._find_places(table)
        return present, position >= 0

    def _find_places(self, table: Table) -> tuple[Marks, NDArray[np.int64]]:
        """Tell of each row whether it has a category, and its place.

        The place is among `categories`, or -1; both are (rows,).

        Earlier versions kept categories as the source had spelt them; they are found by today's spelling.
        """
        texts = read_texts(table, self.name)
        found = pc.index_in(texts, value_set=self._spellings, skip_nulls=True)
        present: Marks = texts.is_valid().to_numpy(zero_copy_only=False)
        return present, pc.fill_null(found, -1).to_numpy().astype(np.int64)

    @property
    def has_changed_categories(self) -> bool:
        """Tell whether an earlier version spelt categories in another way.

        Then some that it told apart are one by today's spelling, or none.
        """
        return self._spellings.null_count > 0 or len(pc.unique(self._spellings)) < len(self.categories)

    @property
    def _spellings(self) -> pa.Array:
        return _spell(self.categories)


class CategoricalFit:
    """Learns a categorical column from tables of training rows.

    Scikit-learn's OneHotEncoder pools rare categories as well, but it wants all rows at once.

    Args:
        name: of the column.
        rare: a category with fewer rows has no column of its own.
    """

    def __init__(self, name: str, rare: int) -> None:
        self._name, self._counts = name, CategoryCounts(name, rare)

    def add(self, table: Table) -> None:
        """Take in some rows.

        Raises:
            TableProblem: there are more categories than are worth counting.
        """
        self._counts.add(table)

    def column(self, table: str) -> CategoricalColumn:
        """Return the column, of all rows added; at least one.

        Raises:
            TableProblem: more categories are left than make sense.
        """
        found = self._counts.frequent(table)
        return CategoricalColumn(
            name=self._name, missing=found.missing / found.rows, categories=found.categories, rare=found.rare
        )


@lru_cache(maxsize=1024)  # since rows may come one by one
def _spell(categories: tuple[str, ...]) -> pa.Array:
    return spell(pa.array(categories, pa.large_string()))
