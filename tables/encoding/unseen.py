"""Counts categories of rows to be scored that no training row had.

A column of such alone is refused.

Otherwise a column that is spelt in another way, or another column of the same name, would shift every
score unnoticed. It shows counts and names of columns, and no category.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tercet.tables.core.problem import UnusableError, join_names
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoded import EncodedColumn
from tercet.tables.encoding.encoding import Encoding

FEW = 32  # rows that may all be new, as a single customer may


@dataclass(slots=True)
class Unseen:
    """Counts one column's rows with a category, and those that training did not have."""

    column: EncodedColumn
    rows: int = 0
    unseen: int = 0

    @property
    def is_strange(self) -> bool:
        """Tell whether no category is known at all, of more than a few rows."""
        return self.rows == self.unseen >= FEW and bool(self.column.levels)

    def __str__(self) -> str:
        what = "rare in training or not there, and count as rare" if self.column.pools_rare else "not there in training"
        return f"column {self.column.name!r}: {self.unseen:,} of {self.rows:,} values were {what}"


def count_unseen(encoding: Encoding, batches: Iterable[Table]) -> list[Unseen]:
    """Count unseen categories of each categorical column that has some.

    Rare categories of the training count as such.

    Raises:
        UnusableError: no category of a column is known.
    """
    found = [Unseen(column) for column in encoding.columns]
    for batch in batches:
        for one in found:
            present, known = one.column.look_up(batch)
            one.rows += int(present.sum())
            one.unseen += int((present & ~known).sum())
    strange = [one.column.name for one in found if one.is_strange]
    if strange:
        raise UnusableError(
            f"no value of column {join_names(strange)} was there in training",
            "compare with the table of the training how values are spelt, and give the same column",
            "has other values than the model was trained on",
        )
    return [one for one in found if one.unseen]
