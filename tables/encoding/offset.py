"""Reads the label party's offset of each row: a number that its score begins with.

It sees one column as texts, and says what is wrong with it by count.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tercet.schemas.core.strict import Strict
from tercet.tables.core.moments import Floats
from tercet.tables.core.problem import UnusableError
from tercet.tables.core.values import as_numbers

PUBLIC: Final = "has an offset or an exposure that does not fit the job"


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
        read, _ = as_numbers(values)
        found: Floats = pc.fill_null(read, np.nan).to_numpy(zero_copy_only=False)
        fits = np.isfinite(found) & ((found > 0.0) | (not self.exposure))
        if not fits.all():
            wanted = "numbers above 0" if self.exposure else "numbers"
            raise UnusableError(
                f"column {self.column!r}, by which the job shifts scores, has {int((~fits).sum()):,} values that are "
                f"missing or no finite {wanted}",
                "correct them, leave these rows out, or name another column in the job",
                PUBLIC,
            )
        return np.log(found) if self.exposure else found
