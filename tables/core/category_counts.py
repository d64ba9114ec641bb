"""Counts a column's categories in one pass, in bounded memory.

It keeps the categories and how often each is there, no row's category.
"""

from collections import Counter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Table

MOST_CATEGORIES = 1000  # a column with more is an id or a number in disguise
MOST_COUNTED = 100 * MOST_CATEGORIES  # before the rare ones are pooled: bounds the memory of counting


class FrequentCategories(NamedTuple):
    """Holds the categories that have enough rows, sorted, and counts of what is left.

    Attributes:
        categories: with at least so many rows as are asked for.
        rare: how many others there are.
        missing: rows that have none.
        rows: all.
    """

    categories: tuple[str, ...]
    rare: int
    missing: int
    rows: int


class CategoryCounts:
    """Counts the rows of each category of one column.

    Args:
        name: of the column.
        rare: a category with fewer rows is rare.
    """

    def __init__(self, name: str, rare: int) -> None:
        self._name, self._rare = name, rare
        self._counts: Counter[str | None] = Counter()

    def add(self, table: Table) -> None:
        """Take in some rows.

        Raises:
            TableProblem: there are more categories than are worth counting.
        """
        counts = pc.value_counts(read_texts(table, self._name))
        self._counts.update(dict(zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True)))
        if len(self._counts) > MOST_COUNTED:
            raise self._too_many(table.name, f"more than {MOST_COUNTED}")

    def frequent(self, table: str) -> FrequentCategories:
        """Return the categories of all rows added that are frequent enough.

        Raises:
            TableProblem: more categories are left than make sense.
        """
        counted = {category: count for category, count in self._counts.items() if category is not None}
        categories = sorted(category for category, count in counted.items() if count >= self._rare)
        if len(categories) > MOST_CATEGORIES:
            raise self._too_many(table, str(len(categories)))
        rare = len(counted) - len(categories)
        return FrequentCategories(tuple(categories), rare, self._counts[None], self._counts.total())

    def _too_many(self, table: str, number: str) -> TableProblem:
        enough = f" with at least `rare` = {self._rare} rows each" if self._rare > 1 else ""
        return TableProblem(
            f"categorical column {self._name!r} of table {table!r} has {number} different values{enough}",
            f"group them to at most {MOST_CATEGORIES}, raise `rare`, or list the column as numeric or not at all",
            f"the table {table!r} has a column with too many categories",
        )


def read_texts(table: Table, name: str) -> pa.Array:
    """Read a categorical column as Arrow texts, null where missing.

    numpy can only compare objects one by one.
    """
    return pa.array(table.categorical[name], pa.large_string())
