"""Counts cells and correlates columns in plaintext.

A statistics job must equal it to the last bit. It sees everything, and is nobody's part of the protocol.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Signed, Words, to_signed


def count_bins(bins: NDArray[np.int64], count: int, targets: Words) -> Signed:
    """Count rows and add up targets in each bin of one column.

    Args:
        bins: Of each row, (rows,).
        count: Bins of the column.
        targets: (rows, targets).

    Returns:
        (bins, 1 + targets), rows first.
    """
    found = [[bins.tolist().count(b), *_added(targets[bins == b])] for b in range(count)]
    return np.array(found, np.int64).reshape(count, 1 + targets.shape[1])


def passing_bins(cells: Signed, least: int, *, classes: bool) -> NDArray[np.bool_]:
    """Tell which bins have the minimum of rows, or of each class.

    Targets are classes but the first, or of another label.
    """
    numbers = np.column_stack([cells[:, 0] - cells[:, 1:].sum(axis=1), cells[:, 1:]]) if classes else cells[:, :1]
    return np.array([min(row) >= least for row in numbers.tolist()], np.bool_)


def multiply_columns(a: Words, b: Words) -> Words:
    """Compute a^T b of columns in fixed point, (columns of a, columns of b)."""
    pairs = [[_added(a[:, [i]] * b[:, [j]])[0] for j in range(b.shape[1])] for i in range(a.shape[1])]
    return np.array(pairs, np.int64).reshape(a.shape[1], b.shape[1]).view(np.uint64)


def _added(words: Words) -> list[int]:
    """Add up each column as signed numbers without bounds."""
    return (
        [sum(column) for column in to_signed(np.ascontiguousarray(words)).T.tolist()]
        if len(words)
        else [0] * words.shape[1]
    )
