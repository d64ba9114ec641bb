"""Measures what a column says of the label, from its cells alone.

Plain numbers in, plain numbers out.

Counts are those of opened cells: no bin of them lacks a class, so nothing needs a correction.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NO_PART: Final = 1e-9  # of a dependence of columns: the square of a column's part that is rounding


def weights_of_evidence(positives: Floats, negatives: Floats) -> Floats:
    """Compute the WOE of each bin, (bins,).

    ln((positives_b / positives) / (negatives_b / negatives)): -inf of a bin without positives, inf of one without
    negatives.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.log(positives / positives.sum()) - np.log(negatives / negatives.sum())
    return found


def information_value(positives: Floats, negatives: Floats) -> float:
    """Compute the IV: the sum over bins of (share of positives - share of negatives) WOE."""
    difference = positives / positives.sum() - negatives / negatives.sum()
    with np.errstate(invalid="ignore"):
        terms = difference * weights_of_evidence(positives, negatives)
    return float(terms[(positives > 0) | (negatives > 0)].sum())


def kolmogorov_smirnov(positives: Floats, negatives: Floats) -> float:
    """Compute the KS: the largest distance of the two cumulative shares.

    Bins stand in order of the event rate.
    """
    gaps = np.cumsum(_shares(positives, negatives), axis=1)
    return float(np.abs(gaps[0] - gaps[1]).max())


def gini(positives: Floats, negatives: Floats) -> float:
    """Compute the Gini, 2 AUC - 1, of ranking rows by the event rate of their bin.

    Ties count half.
    """
    p, n = _shares(positives, negatives)
    before = np.cumsum(n) - n
    return float(2 * (p * (before + n / 2)).sum() - 1)


def variance_share(rows: Floats, sums: Floats, squares: Floats) -> float:
    """Compute which share of the variance of a count or an amount lies between bins.

    That is eta squared. `sums` and `squares` are sums of y and y^2 in each bin; 0 where y does not vary.
    """
    mean = sums.sum() / rows.sum()
    whole = squares.sum() - rows.sum() * mean**2
    return float((sums**2 / rows).sum() - rows.sum() * mean**2) / float(whole) if whole > 0 else 0.0


def inflation_factors(products: Floats, fx: int) -> Floats:
    """Compute the VIF of each column, the diagonal of the inverse of the correlations.

    (columns,). It is inf for a column that is a sum of others. Columns of `fx` fractional bits move a product of
    rounded ones by up to 2^(-2 fx) for each of them: no smaller eigenvalue is told from 0.

    Args:
        products: of standardised columns, over the rows, (columns, columns).
        fx: fractional bits of the columns.
    """
    scale = np.sqrt(products.diagonal())
    values, vectors = np.linalg.eigh(products / np.outer(scale, scale))
    weights = vectors**2
    tiny = values <= len(values) * 2.0 ** (-2 * fx)
    found: Floats = (weights[:, ~tiny] / values[~tiny]).sum(axis=1)
    found[(weights[:, tiny] > NO_PART).any(axis=1)] = np.inf
    return found


def _shares(positives: Floats, negatives: Floats) -> Floats:
    """Return shares of positives and of negatives by bin, (2, bins), by rising event rate."""
    order = np.argsort(positives / np.maximum(positives + negatives, 1), kind="stable")
    shares: Floats = np.array([positives / positives.sum(), negatives / negatives.sum()])[:, order]
    return shares
