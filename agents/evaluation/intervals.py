"""Computes intervals of metrics of held-out rows, and compares two models on them.

AUC goes by DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988), by ranks as Sun and Xu (2014) compute it. KS goes
by a bootstrap of both curves. All is of two classes; it sees labels and scores only.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Interval = tuple[float, float]

CONFIDENCE: Final = 0.95
Z: Final = 1.959963984540054  # of it, both sides of a normal distribution
DRAWS: Final = 1000
MOST_PLACES: Final = 1024  # between which a curve is looked at: more change KS by less than its interval
SEED: Final = 0  # the same rows give the same interval


class AucDifference(NamedTuple):
    """Compares the AUC of two models on the same rows.

    Attributes:
        difference: the second's less the first's.
        interval: of the difference, with confidence `CONFIDENCE`.
        p: of a difference at least as large, both ways, where there is none in truth.
    """

    difference: float
    interval: Interval
    p: float


def intervals(link: str, labels: Floats, scores: Floats) -> dict[str, Interval]:
    """Compute the intervals of auc and ks of a logistic model, with confidence `CONFIDENCE`.

    They are left out of other models, where a class has fewer than two rows, and where the scores tell the classes
    apart without a mistake: then the rows do not say how far off that is.

    Args:
        link: between score and label.
        labels: (rows,), above 0 for the positive class.
        scores: (rows,), finite.
    """
    positive = labels > 0
    if link != "logistic" or min(positive.sum(), (~positive).sum()) < 2:
        return {}
    (auc,), covariance = delong(positive, scores[:, None])
    if covariance[0, 0] <= 0 or not 0 < auc < 1:
        return {}
    return {"auc": _auc_interval(auc, math.sqrt(covariance[0, 0])), "ks": _ks_interval(positive, scores)}


def delong(positive: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """Compute the AUC of each model, and their covariance.

    Args:
        positive: (rows,); each class has at least two rows.
        scores: (rows, models).

    Returns:
        (models,) and (models, models).
    """
    first, second = scores[positive], scores[~positive]
    ranks = [_mid_ranks(column) for column in scores.T]
    above = np.stack([r[positive] - _mid_ranks(c) for r, c in zip(ranks, first.T, strict=True)]) / len(second)
    below = 1 - np.stack([r[~positive] - _mid_ranks(c) for r, c in zip(ranks, second.T, strict=True)]) / len(first)
    covariance = np.atleast_2d(np.cov(above)) / len(first) + np.atleast_2d(np.cov(below)) / len(second)
    return above.mean(axis=1), covariance


def compare_auc(labels: Floats, first: Floats, second: Floats) -> AucDifference | None:
    """Compare the scores of two models for the same rows, each (rows,).

    None where the rows cannot tell: a class has fewer than two rows, or the two models order the rows alike.
    """
    positive = labels > 0
    if min(positive.sum(), (~positive).sum()) < 2:
        return None
    (one, other), covariance = delong(positive, np.column_stack([first, second]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 1e-12 * (covariance[0, 0] + covariance[1, 1]):  # what is left by rounding
        return None
    difference, deviation = float(other - one), math.sqrt(variance)
    p = math.erfc(abs(difference) / deviation / math.sqrt(2))
    return AucDifference(difference, (difference - Z * deviation, difference + Z * deviation), p)


def _auc_interval(auc: float, deviation: float) -> Interval:
    """Compute an interval that stays within 0 and 1, on the scale of log-odds."""
    middle, reach = math.log(auc / (1 - auc)), Z * deviation / (auc * (1 - auc))
    return _share(middle - reach), _share(middle + reach)


def _share(log_odds: float) -> float:
    """Convert log-odds, which may be large, to a share."""
    return (1 + math.tanh(log_odds / 2)) / 2


def _ks_interval(positive: Flags, scores: Floats) -> Interval:
    """Compute an interval that holds the true KS at least as often as `CONFIDENCE` says.

    KS is the largest distance of two curves, and that of a sample is too large. So the lower end is below it by what
    the distance anywhere may be off, as the bootstrap finds; the upper end by what it may be off at one place.
    """
    first, second = _counts(positive, scores)
    rows, others = int(first.sum()), int(second.sum())
    one, other = np.cumsum(first) / rows, np.cumsum(second) / others
    place = int(np.abs(other - one).argmax())
    sign = 1.0 if other[place] >= one[place] else -1.0
    distance, rng = sign * (other - one), np.random.default_rng(SEED)
    again_one = np.cumsum(rng.multinomial(rows, first / rows, DRAWS), axis=1) / rows
    again_other = np.cumsum(rng.multinomial(others, second / others, DRAWS), axis=1) / others
    off = (sign * (again_other - again_one) - distance).max(axis=1)
    spread = one[place] * (1 - one[place]) / rows + other[place] * (1 - other[place]) / others
    low = distance[place] - float(np.quantile(off, (1 + CONFIDENCE) / 2))
    return max(0.0, float(low)), min(1.0, float(distance[place] + Z * math.sqrt(spread)))


def _counts(positive: Flags, scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the rows of both classes by score, in at most `MOST_PLACES` groups of rising score."""
    ranks = _mid_ranks(scores)
    if len(scores) > MOST_PLACES:
        ranks = np.floor(ranks * (MOST_PLACES / (len(scores) + 1)))
    values, group = np.unique(ranks, return_inverse=True)
    return tuple(np.bincount(group[rows], minlength=len(values)) for rows in (positive, ~positive))  # type: ignore[return-value]


def _mid_ranks(values: Floats) -> Floats:
    """Rank from 1; equal values share the mean of their ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group], np.float64)
