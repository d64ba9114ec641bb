"""Merges cells that may not be opened into cells that may.

It sees one party's own numbers of rows, and which of its cells pass.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Groups = tuple[int, ...]
"""For each bin of a column the opened cell that it is part of; empty if the column has none."""


def merge_bins(passes: NDArray[np.bool_], rows: NDArray[np.int64], ordered: int) -> Groups:
    """Merge each bin that fails into one that passes.

    The first `ordered` bins follow one another. One of them goes to the nearest of them that passes, of two to the one
    with fewer rows, and of two as large to the first. Any other bin goes to the largest that passes and is not ordered,
    say "rare" or "missing". Where there is none of its kind it goes to the largest that passes at all.

    Args:
        passes: Which bins of the column pass, (bins,).
        rows: Rows of each bin, (bins,).
        ordered: Leading bins that are intervals of a number; 0 of a category.

    Returns:
        Groups numbered from 0 in the order of the bins that pass; nothing where no bin passes.
    """
    passing = np.flatnonzero(passes).tolist()
    if not passing:
        return ()
    number = {b: n for n, b in enumerate(passing)}
    return tuple(number[b] if b in number else number[_goal(b, passing, rows, ordered)] for b in range(len(passes)))


def _goal(b: int, passing: Sequence[int], rows: NDArray[np.int64], ordered: int) -> int:
    """Choose the passing bin that a failing one joins."""
    same = [other for other in passing if (other < ordered) == (b < ordered)]
    if same and b < ordered:
        return min(same, key=lambda other: (abs(other - b), rows[other], other))
    return max(same or passing, key=lambda other: (rows[other], -other))
