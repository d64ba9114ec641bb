"""The curious label party's attack on scores: a partner's records of all customers from a few whose records it knows.

It is given the partner's part of each score (its own part it can take off), the records of the known customers, and
public figures of how frequent records are. It sees no weight of the partner's, and no other record.

Under each scoring's unknown weights the partner's part is one linear combination of the partner's columns. The known
customers' records and scores are linear equations for those weights. Once these are known, each other customer's T
scores are T equations for its record: for each record of levels that there may be, what is left is to be explained by
the numeric columns. Of records that do, the likeliest is taken, and the numeric columns follow. A score of 16
fractional bits tells up to some 17 bits, a category of 11 levels has 3.5; so few scorings are many equations too many.

Even one scoring tells who is equal: the same record has the same part.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from tercet.mpc.arithmetic.fixed import Floats
from tests.attacks.tables import Levels

PRIOR = 1.0  # deviation of a weight, as far as anybody knows beforehand


@dataclass(frozen=True)
class Solved:
    """What the attack says of the customers that it did not know."""

    delays: Levels  # (rows, variables)
    numbers: Floats  # (rows, numeric columns)


def solve(
    reported: Floats,
    known: NDArray[np.bool_],
    levels: Levels,
    numbers: Floats,
    domain: Levels,
    chances: Floats,
    half: float,
) -> Solved:
    """The records of the unknown customers.

    Args:
        told: the partner's parts, (rows, scorings).
        known: whose records the label party knows, (rows,).
        levels: of the known customers, (known, variables).
        numbers: likewise, (known, numeric columns), standardised.
        domain: records of levels that there may be, (records, variables).
        chances: how frequent each is, (records,).
        half: of the noise of a part, that of rounding included.
    """
    sizes = np.maximum(domain.max(axis=0), levels.max(axis=0)) + 1
    noise = half * half / 3.0
    design = np.hstack([numbers, _onehot(levels, sizes)])
    stacked = np.vstack([design / np.sqrt(noise), np.eye(design.shape[1]) / PRIOR])
    aims = np.vstack([reported[known] / np.sqrt(noise), np.zeros((design.shape[1], reported.shape[1]))])
    q, root = np.linalg.qr(stacked)
    weights = solve_triangular(root, q.T @ aims)  # (columns, scorings)
    width, candidates = numbers.shape[1], _onehot(domain, sizes)
    slopes, expected = weights[:width], candidates @ weights[width:]
    mean, spread = numbers.mean(axis=0), np.cov(numbers, rowvar=False).reshape(width, width) + 1e-6 * np.eye(width)
    padded = np.hstack([np.zeros((len(domain), width)), candidates])
    doubt = (solve_triangular(root, padded.T, trans="T") ** 2).sum(axis=0)  # variance of what is expected
    common, axes = np.linalg.eigh(slopes.T @ spread @ slopes + noise * np.eye(reported.shape[1]))
    left, aim = (reported[~known] - mean @ slopes) @ axes, expected @ axes
    best, record = np.full(len(left), -np.inf), np.zeros(len(left), np.int64)
    for r, variances in enumerate(common + doubt[:, None]):
        likely = np.log(chances[r]) - 0.5 * ((left - aim[r]) ** 2 @ (1.0 / variances) + np.log(variances).sum())
        better = likely > best
        best[better], record[better] = likely[better], r
    scaled = (left - aim[record]) / (common + doubt[record, None])
    found = mean + scaled @ axes.T @ (spread @ slopes).T
    return Solved(domain[record], found)


def equal_parts(reported: Floats, half: float) -> NDArray[np.int64]:
    """Classes of customers whose parts are equal up to noise in every scoring: the number of each one's class."""
    cells = np.zeros(len(reported), np.int64)
    for column in reported.T:
        order = np.argsort(column)
        gaps = np.diff(column[order]) > 2.0 * half
        number = np.empty(len(column), np.int64)
        number[order] = np.concatenate([[0], np.cumsum(gaps)])
        cells = np.unique(np.column_stack([cells, number]), axis=0, return_inverse=True)[1].ravel()
    return cells


def _onehot(levels: Levels, sizes: NDArray[np.int64]) -> Floats:
    return np.hstack([np.eye(size)[column] for column, size in zip(levels.T, sizes, strict=True)])
