"""Names encoded columns, and warns where much of a column is missing.

It sees names and shares of rows only, no values.
"""

import json
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tercet.schemas.core.strict import Strict
from tercet.tables.core.table import Table

Marks = NDArray[np.bool_]

MISSING, RARE = "missing", "rare"
MUCH = 0.5  # of the rows missing is worth a warning


class EncodedColumn(Strict):
    """One column of a party's table, as fitted on the training rows.

    Attributes:
        name: of the column in the table.
        missing: the share of training rows that lack it.
    """

    name: str
    missing: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def warnings(self) -> list[str]:
        """Warnings for the party whose table it is; they name the column."""
        if self.missing <= MUCH:
            return []
        if self.missing == 1:
            return [f"column {self.name!r} is missing in every row and adds nothing to the model"]
        return [f"column {self.name!r} is missing in {self.missing:.0%} of the rows"]

    @property
    def levels(self) -> tuple[str, ...]:
        """The categories that the encoding names; none of numbers."""
        return ()

    @property
    def pools_rare(self) -> bool:
        """Tell whether a category that the encoding does not name counts as rare."""
        return False

    def look_up(self, table: Table) -> tuple[Marks, Marks]:
        """Tell of each row whether it has a category, and whether the encoding names that.

        Both are (rows,); of numbers no row has one.
        """
        none = np.zeros(table.rows, np.bool_)
        return none, none


def plain_name(column: str) -> str:
    """Return the name of an encoded column that is its column's only or first."""
    return _quoted(column, "=" in column)


def part_name(column: str, part: str) -> str:
    """Name the encoded column of what is `MISSING` or `RARE`: `column=part`."""
    return f"{plain_name(column)}={part}"


def category_name(column: str, category: str) -> str:
    """Name the encoded column of a category: `column=category`.

    It is quoted where it could mean something else.
    """
    return f"{plain_name(column)}={_quoted(category, category in ('', MISSING, RARE))}"


def _quoted(text: str, ambiguous: bool) -> str:  # noqa: FBT001
    return json.dumps(text, ensure_ascii=False) if ambiguous or text.startswith('"') else text
