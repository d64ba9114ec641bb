"""Reads the label party's offsets, exposures and weights, which are no features.

It sees one column as texts, and says what is wrong with it by count.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tercet.schemas.core.strict import Strict
from tercet.tables.core.moments import Floats
from tercet.tables.core.problem import UnusableError
from tercet.tables.core.values import as_numbers

PUBLIC: Final = "has an offset, an exposure or a weight that does not fit the job"


class Wanted(NamedTuple):
    """Says which numbers a column may hold, and how that is called."""

    name: str
    fits: Callable[[Floats], "np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | bool"] = lambda _: True


ANY, ABOVE_0 = Wanted("number"), Wanted("number above 0", lambda found: found > 0.0)
FROM_0 = Wanted("number from 0 on", lambda found: found >= 0.0)


class Offset(Strict):
    """Names the column of an offset.

    Attributes:
        column: of the label party's table.
        exposure: whether it has exposures, whose logarithms are the offsets.
    """

    column: str
    exposure: bool = False

    def read(self, values: pa.Array) -> Floats:
        """Return the offset of each row, (rows,), from the column as texts or numbers.

        Raises:
            UnusableError: a value is missing, is no finite number, or is an exposure that is not above 0.
        """
        found = read_numbers(self.column, values, ABOVE_0 if self.exposure else ANY)
        return np.log(found) if self.exposure else found


def read_numbers(column: str, values: pa.Array, wanted: Wanted) -> Floats:
    """Return the number of each row, (rows,), from a column as texts or numbers.

    Raises:
        UnusableError: a value is missing, is no finite number, or is none that is wanted.
    """
    found: Floats = pc.fill_null(as_numbers(values).values, np.nan).to_numpy(zero_copy_only=False)
    fits = np.isfinite(found) & wanted.fits(found)
    if not fits.all():
        raise UnusableError(
            f"column {column!r}, by which the job shifts scores or weighs rows, has no finite {wanted.name} in "
            f"{int((~fits).sum()):,} of the {len(fits):,} rows that the job uses",
            "correct them, leave these rows out, or name another column in the job",
            PUBLIC,
        )
    return found
