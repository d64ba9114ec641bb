"""Bins are merged until the rate goes one way, and no better way to merge them is lost."""

from itertools import combinations, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tercet.mpc.statistics.measures import information_value
from tercet.tables.binning.bins import NumericBins
from tercet.tables.binning.monotone import monotone_groups

COUNTS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=7)


def merged(counts, groups) -> np.ndarray:
    """Positives and negatives of each group, (2, groups)."""
    return np.array([np.array(counts)[group].sum(axis=0) for group in groups], np.float64).T


def is_monotone(counts) -> bool:
    """Whether the rate strictly rises or strictly falls."""
    steps = np.diff(counts[0] / counts.sum(axis=0))
    return bool((steps > 0).all() or (steps < 0).all())


def every_grouping(count: int):
    """All ways to merge neighbours."""
    for size in range(count):
        for borders in combinations(range(1, count), size):
            yield [list(range(*pair)) for pair in pairwise((0, *borders, count))]


@given(counts=COUNTS)
def test_the_rate_goes_one_way_with_the_most_information_that_any_merging_leaves(counts) -> None:
    positives, negatives = np.array(counts).T
    groups = monotone_groups(positives, negatives, information_value)
    found = merged(counts, groups)
    assert is_monotone(found)
    ways = [merged(counts, grouping) for grouping in every_grouping(len(counts))]
    best = max(information_value(*way) for way in ways if is_monotone(way))
    assert information_value(*found) >= best - 1e-9
    bins = NumericBins(name="x", cuts=tuple(map(float, range(1, len(counts)))))
    assert bins.merged(groups).count == len(groups)


def test_bins_that_go_one_way_stay() -> None:
    assert monotone_groups(np.array([1, 2, 3]), np.array([9, 8, 7]), information_value) == [[0], [1], [2]]
    assert monotone_groups(np.array([3, 2, 5, 1]), np.array([7, 8, 5, 9]), information_value) == [[0, 1, 2], [3]]
