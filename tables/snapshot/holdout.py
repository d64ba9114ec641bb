"""Marks the rows of a table that a column holds out: by date, number or flag.

It sees the column as texts, and says what is wrong with them by count; its caller names the table.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tercet.tables.core.problem import UnusableError
from tercet.tables.core.values import as_numbers

DATES: Final = r"^\d{4}-\d{2}(-\d{2}([T ].*)?)?$"
PUBLIC: Final = "has a column to hold rows out by that does not fit the job"


def mark_held_out(column: str, values: pa.Array, start: float | str | None) -> NDArray[np.bool_]:
    """Mark the held-out rows, (rows,).

    Args:
        column: its name, for errors.
        values: as texts.
        start: the first number, or day as 2026-06-01, that is held out; None for a flag, whose true rows are.

    Raises:
        UnusableError: values are missing, or are none of these.
    """
    if isinstance(start, str):
        fits = pc.fill_null(pc.match_substring_regex(values, DATES), fill_value=False)
        _check(column, fits, "dates, like 2026-06-01")
        return _flags(pc.greater_equal(values, pa.scalar(start, values.type)))
    numbers = as_numbers(values).values
    if start is not None:
        _check(column, pc.is_valid(numbers), "numbers")
        return _flags(pc.greater_equal(numbers, start))
    _check(column, pc.is_in(numbers, pa.array([0.0, 1.0])), "flags: true and false, or 1 and 0")
    return _flags(pc.equal(numbers, 1.0))


def _check(column: str, fits: pa.Array, wanted: str) -> None:
    wrong = len(fits) - pc.sum(fits).as_py()
    if wrong:
        raise UnusableError(
            f"column {column!r}, by which the job holds rows out, has {wrong:,} values that are missing or no {wanted}",
            "correct them, or name another column or another holdout_from in the job",
            PUBLIC,
        )


def _flags(mask: pa.Array) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = mask.to_numpy(zero_copy_only=False)
    return flags
