"""Merges neighbouring bins of numbers until the rate of positives goes one way.

It sees counts by bin alone, never a row.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


def monotone_groups(
    positives: Counts, negatives: Counts, information: Callable[[Counts, Counts], float]
) -> list[list[int]]:
    """Group bins by isotonic regression of the rate, weighted by rows.

    Of both directions the one with more information counts.

    Args:
        positives: (bins,) rows of the positive class, at least one in each, in the order of the bins.
        negatives: (bins,) likewise of the other.
        information: value of bins, by both.

    Returns:
        Neighbours that become one, in their order, as `NumericBins.merged` takes them.
    """
    borders = max(
        (_blocks(positives, negatives, increasing=increasing) for increasing in (True, False)),
        key=lambda blocks: information(np.add.reduceat(positives, blocks), np.add.reduceat(negatives, blocks)),
    )
    return [group.tolist() for group in np.split(np.arange(len(positives)), borders[1:])]


def _blocks(positives: Counts, negatives: Counts, *, increasing: bool) -> NDArray[np.int64]:
    """Return the first bin of each block of equal fitted rates."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - a third of a second, which few commands need

    rows = positives + negatives
    found: NDArray[np.int64] = isotonic_regression(positives / rows, weights=rows, increasing=increasing).blocks[:-1]
    return found
