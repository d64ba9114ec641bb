"""Fits short Fourier series to exponentials, to the same bits on every machine.

It does so at run time: a Tweedie model has any power, so that its series cannot be stored (`series`). Least squares on
points that lie closer towards the ends are nearly as good as the least largest error. Every sum is taken one by one, in
the order of the points, and all else is IEEE + - * / and square roots.
"""

import math
from collections.abc import Sequence

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.elementary import exp
from tercet.mpc.functions.trigonometry import rotations

POINTS = 20  # for each multiple
FINE = 2001  # points at which the error of a fit is measured
DAMPING = 2.0**-24  # what a coefficient costs: what is dealt is rounded, and the roundings grow with coefficients
HALF_TURN = 2.0**63

Fitted = tuple[float, tuple[float, ...], tuple[float, ...], float]  # constant, sines, cosines, largest error


def fit_exponentials(
    slopes: Sequence[float], low: float, high: float, *, period: int, multiples: tuple[int, ...]
) -> list[Fitted]:
    """Fit exp(q z) for each slope q on low <= z <= high.

    It is by sines and cosines of 2 pi m z / period, for each multiple m.
    """
    count = POINTS * len(multiples)
    cosines, _ = rotations(_words(np.arange(count) / (count - 1.0)), (1,))
    z = (low + high) / 2.0 - (high - low) / 2.0 * cosines[0]
    size = 1 + 2 * len(multiples)
    damping = np.eye(size) * (DAMPING * math.sqrt(count))
    damping[0, 0] = 0.0  # the constant is public
    columns = np.vstack([_basis(z, period, multiples), damping])
    values = np.vstack([_exponentials(z, slopes), np.zeros((size, len(slopes)))])
    found = _least_squares(columns, values)
    fine = low + (high - low) * (np.arange(FINE) / (FINE - 1.0))
    errors = np.abs(_basis(fine, period, multiples) @ found - _exponentials(fine, slopes)).max(axis=0)
    k = len(multiples) + 1
    return [
        (one[0], tuple(one[1:k]), tuple(one[k:]), error)
        for one, error in zip(found.T.tolist(), errors.tolist(), strict=True)
    ]


def _words(half_turns: Floats) -> Words:
    """Return angles between -1 and 1 half turns as words."""
    words: Words = np.rint(half_turns * (HALF_TURN / 2.0)).astype(np.int64).astype(np.uint64) << np.uint64(1)
    return words


def _basis(z: Floats, period: int, multiples: tuple[int, ...]) -> Floats:
    """Compute one, all sines and all cosines at points z, (points, 1 + 2 multiples)."""
    cosines, sines = rotations(_words(z / (period / 2.0)), multiples)
    return np.hstack([np.ones((len(z), 1)), sines.T, cosines.T])


def _exponentials(z: Floats, slopes: Sequence[float]) -> Floats:
    """Compute exp(q z), (points, slopes)."""
    return np.column_stack([exp(q * z) for q in slopes])


def _least_squares(columns: Floats, values: Floats) -> Floats:
    """Solve for combinations of columns that are nearest to each column of values.

    By Gram and Schmidt's method.
    """
    rest, size = np.hstack([columns, values]), columns.shape[1]
    rows = []
    for k in range(size):
        unit = rest[:, k] / math.sqrt(_total(rest[:, k : k + 1] * rest[:, k : k + 1])[0])
        rows.append(_total(unit[:, np.newaxis] * rest[:, k:]))
        rest[:, k:] -= unit[:, np.newaxis] * rows[k]
    found = np.zeros((size, values.shape[1]))
    for k in reversed(range(size)):
        right = rows[k][size - k :].copy()
        for j in range(k + 1, size):
            right -= rows[k][j - k] * found[j]
        found[k] = right / rows[k][0]
    return found


def _total(x: Floats) -> Floats:
    """Sum rows one by one: numpy's own sum depends on how they lie in memory."""
    total: Floats = np.add.accumulate(x, axis=0)[-1]
    return total
