"""A cell that may not be opened joins one that may, by a rule that its owner can foretell."""

import numpy as np
import pytest

from tercet.mpc.statistics.merging import merge_bins


@pytest.mark.parametrize(
    ("passes", "rows", "ordered", "groups"),
    [
        ("111", (9, 9, 9), 3, (0, 1, 2)),
        ("011", (1, 9, 9), 3, (0, 0, 1)),  # of a number the nearest
        ("101", (9, 1, 8), 3, (0, 1, 1)),  # of two the smaller
        ("101", (9, 1, 9), 3, (0, 0, 1)),  # of two as large the first
        ("10001", (9, 1, 1, 1, 9), 5, (0, 0, 0, 1, 1)),
        ("1101", (5, 9, 1, 7), 3, (0, 1, 1, 2)),  # missing is no neighbour of a number
        ("1110", (5, 9, 6, 1), 3, (0, 1, 2, 1)),  # and joins the largest where no other is of its kind
        ("0001", (1, 1, 1, 9), 3, (0, 0, 0, 0)),
        ("1011", (5, 1, 9, 7), 0, (0, 1, 1, 2)),  # of a category the largest
        ("000", (9, 9, 9), 3, ()),
    ],
)
def test_a_bin_that_fails_joins_one_that_passes(
    passes: str, rows: tuple[int, ...], ordered: int, groups: tuple[int, ...]
) -> None:
    """Case by case."""
    assert merge_bins(np.array([one == "1" for one in passes]), np.array(rows), ordered) == groups
