"""Computes a model's metrics and the points of its curves from labels and scores.

It sees labels and scores only, so whoever calls it must be allowed both; what it returns is about as telling as they
are where rows are few, and belongs to the same party.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 10  # of equally many rows, for calibration, gain and predicted against actual
RESIDUAL_BINS = 30
MOST_POINTS = 200  # of a curve: more cannot be seen
OF_CLASSES = frozenset({"softmax", "one-vs-rest"})  # links with a score for each of several classes
MOST_LOG = 300.0  # scores that are logarithms end here, so that squares of what they stand for are still numbers
POWERS = {"poisson": 1.0, "gamma": 2.0}  # by link: how the variance of labels goes with their mean


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts values between neighbouring edges: edges (bins + 1,), counts (bins,)."""

    edges: Floats
    counts: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Holds a report's curves; None where undefined. Each row of an array is a point.

    A decile is one of `BINS` groups of equally many rows (to one), by score. Rows of equal score are exchangeable:
    each counts with the mean label of all of them, so that no curve depends on the order of the rows.

    Attributes:
        prevalence: the share of positive rows, of a classifier.
        roc: (points, 2): false positive rate, true positive rate; from (0, 0) to (1, 1), both rising.
        precision_recall: (points, 2): recall, precision; recall rises from 0 to 1.
        calibration: (deciles, 3): mean predicted probability, observed share, rows; by rising score.
        gain: (deciles + 1, 2): share of the rows by falling score, share of the positive rows among them; from (0, 0).
        lift: (deciles,): the observed share of each decile over the prevalence, by falling score.
        actual: (deciles, 3): mean predicted, mean actual, rows; by rising prediction, of a regression.
        residuals: actual minus predicted, of a regression.
        confusion: (classes, classes): rows by actual and by predicted class, where there are more than two.

    Of more than two classes `calibration` is of the predicted class: its mean probability, and how often it is right.
    """

    prevalence: float | None = None
    roc: Floats | None = None
    precision_recall: Floats | None = None
    calibration: Floats | None = None
    gain: Floats | None = None
    lift: Floats | None = None
    actual: Floats | None = None
    residuals: Histogram | None = None
    confusion: Floats | None = None


def metrics(
    link: str, labels: Floats, scores: Floats, offset: Floats | None = None, power: float = 0.0
) -> dict[str, float]:
    """Compute the link's metrics, without those that the rows do not define.

    auc, ks and average_precision need rows of both classes, r2 and d2 rows that differ, and all of them a row. A score
    above 0 predicts the positive class, of several classes that with the highest score is predicted.
    calibration_error is the expected calibration error over `BINS` deciles: the mean distance, weighted by rows, of
    predicted from observed share. Of several classes auc is the mean over classes of one against the rest, and
    balanced_accuracy the mean share of a class's rows that are found; both of classes that have rows (for auc and
    rows that are of others). deviance is the mean unit deviance, and d2 what it lacks to that of the mean label; with
    offsets to that of the best rate for all exposures, of which they are logarithms.

    Args:
        link: between score and label, one of `METRICS`.
        labels: (rows,), finite; centred (-1/2, 1/2) for logistic, numbers of classes from 0 where there are
            several, else the label's own unit.
        scores: finite, (rows,): log-odds for logistic, in the label's unit for linear, the logarithm of that for
            poisson, gamma and tweedie; of several classes (rows, classes), as `class_probabilities` takes them. None is
            beyond 1e100.
        offset: (rows,), which scores that are logarithms begin with, if there is any.
        power: of a tweedie link.
    """
    if not len(labels):
        return {}
    match link:
        case "logistic":
            return _classification(labels, scores)
        case "softmax" | "one-vs-rest":
            return _choice(link, labels.astype(np.int64), scores)
        case "poisson" | "gamma" | "tweedie":
            offset = np.zeros_like(scores) if offset is None else offset
            return _count_metrics(POWERS.get(link, power), labels, np.clip(scores, -MOST_LOG, MOST_LOG), offset)
    return _regression(labels, scores)


def curves(link: str, labels: Floats, scores: Floats) -> Curves:
    """Compute the curves of a model with this link; arguments as of `metrics`."""
    if not len(labels):
        return Curves()
    if link in OF_CLASSES:
        return _choice_curves(link, labels.astype(np.int64), scores)
    if link != "logistic":
        predicted = scores if link == "linear" else expected(scores)
        return Curves(actual=_deciles(scores, predicted, labels), residuals=histogram(labels - predicted))
    positive = labels > 0
    calibration = _deciles(scores, probabilities(scores), positive)
    if positive.all() or not positive.any():
        return Curves(prevalence=float(positive.mean()), calibration=calibration)
    fpr, tpr, _ = _library().roc_curve(positive, scores, drop_intermediate=False)
    precision, recall, _ = _library().precision_recall_curve(positive, scores)
    _, observed, rows = calibration[::-1].T
    gain = np.column_stack([np.cumsum(rows) / rows.sum(), np.cumsum(rows * observed) / positive.sum()])
    return Curves(
        prevalence=float(positive.mean()),
        roc=_thin(np.column_stack([fpr, tpr])),
        precision_recall=_thin(np.column_stack([recall, precision])[::-1]),
        calibration=calibration,
        gain=np.vstack([np.zeros(2), gain]),
        lift=observed / positive.mean(),
    )


def probabilities(scores: Floats) -> Floats:
    """Convert log-odds to probabilities."""
    odds = np.exp(-np.abs(scores))  # never overflows
    return np.asarray(np.where(scores >= 0, 1, odds) / (1 + odds))


def expected(logs: Floats) -> Floats:
    """Labels of these logarithms; of what is beyond `MOST_LOG`, as of that."""
    return np.asarray(np.exp(np.clip(logs, -MOST_LOG, MOST_LOG)))


def class_probabilities(link: str, scores: Floats) -> Floats:
    """Convert scores (rows, classes) to probabilities; each row adds up to 1.

    A softmax has scores that are logarithms of probabilities, but for what all classes of a row share. One against the
    rest has log-odds of each class; the probabilities of these are divided by their sum.
    """
    return np.exp(_log_probabilities(link, scores))


def histogram(values: Floats, bins: int = RESIDUAL_BINS) -> Histogram:
    """Count values in equally wide bins; small tables have few bins."""
    counts, edges = np.histogram(values, bins=min(bins, max(1, len(values))))
    return Histogram(edges, counts.astype(np.float64))


def _library() -> Any:
    """Load scikit-learn's metrics, which takes two seconds: not when an agent starts."""
    import sklearn.metrics  # noqa: PLC0415

    return sklearn.metrics


def _classification(labels: Floats, scores: Floats) -> dict[str, float]:
    positive = labels > 0
    found: dict[str, float] = {}
    if positive.any() and not positive.all():
        fpr, tpr, _ = _library().roc_curve(positive, scores, drop_intermediate=False)
        found["auc"] = float(_library().roc_auc_score(positive, scores))
        found["ks"] = float(np.max(np.abs(tpr - fpr)))
        found["average_precision"] = float(_library().average_precision_score(positive, scores))
    predicted, observed, rows = _deciles(scores, probabilities(scores), positive).T
    return found | {
        "accuracy": float(np.mean((scores > 0) == positive)),
        # of the log-odds themselves: a probability that rounds to 1 would lose what is left of the error
        "log_loss": float(np.mean(np.logaddexp(0.0, np.where(positive, -scores, scores)))),
        "calibration_error": float(rows @ np.abs(predicted - observed) / rows.sum()),
    }


def _regression(labels: Floats, scores: Floats) -> dict[str, float]:
    found: dict[str, float] = {}
    if np.ptp(labels) > 0:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # labels may hardly differ
            r2 = float(_library().r2_score(labels, scores, force_finite=False))
        found = {"r2": r2} if math.isfinite(r2) else {}
    return found | {
        "rmse": float(_library().root_mean_squared_error(labels, scores)),
        "mae": float(_library().mean_absolute_error(labels, scores)),
    }


def _log_probabilities(link: str, scores: Floats) -> Floats:
    if link == "one-vs-rest":
        scores = -np.logaddexp(0.0, -scores)
    below = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))


def _choice(link: str, labels: NDArray[np.int64], scores: Floats) -> dict[str, float]:
    logs, right = _log_probabilities(link, scores), scores.argmax(axis=1) == labels
    classes, place, rows = np.unique(labels, return_inverse=True, return_counts=True)
    found: dict[str, float] = {}
    if len(classes) > 1:
        found["auc"] = float(np.mean([_library().roc_auc_score(labels == one, logs[:, one]) for one in classes]))
    return found | {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(np.bincount(place, weights=right) / rows)),
        "log_loss": float(-np.mean(logs[np.arange(len(labels)), labels])),
    }


def _choice_curves(link: str, labels: NDArray[np.int64], scores: Floats) -> Curves:
    best, predicted = _log_probabilities(link, scores).max(axis=1), scores.argmax(axis=1)
    classes = scores.shape[1]
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes).astype(np.float64)
    return Curves(
        calibration=_deciles(best, np.exp(best), predicted == labels),
        confusion=counts.reshape(classes, classes),
    )


def _count_metrics(power: float, labels: Floats, logs: Floats, offset: Floats) -> dict[str, float]:
    found, deviance = {}, _deviance(power, labels, logs)
    if np.ptp(labels) > 0:
        # Of one rate for all exposures, the best one: of counts their sum by exposures', of gamma the mean of each.
        exposure = np.exp(offset)
        rate = (labels * exposure ** (1 - power)).sum() / (exposure ** (2 - power)).sum()
        of_mean = _deviance(power, labels, np.log(rate) + offset)
        d2 = 1 - deviance / of_mean if of_mean > 0 else -math.inf  # labels may hardly differ
        found = {"d2": d2} if math.isfinite(d2) else {}
    return found | {
        "deviance": deviance,
        "rmse": float(_library().root_mean_squared_error(labels, np.exp(logs))),
        "mae": float(_library().mean_absolute_error(labels, np.exp(logs))),
    }


def _deviance(power: float, labels: Floats, logs: Floats) -> float:
    """Compute the mean unit deviance from expected labels of these logarithms.

    The power is 1 of counts, 2 of a gamma distribution.
    """
    if power == POWERS["poisson"]:
        parts = labels * (np.log(np.where(labels > 0, labels, 1)) - logs) - labels + np.exp(logs)
    elif power == POWERS["gamma"]:
        rest = np.log(labels) - logs
        parts = np.exp(rest) - 1 - rest
    else:
        rise, fall = 2 - power, 1 - power
        parts = labels**rise / (fall * rise) - labels * np.exp(fall * logs) / fall + np.exp(rise * logs) / rise
    return float(2 * np.maximum(parts, 0).mean())


def _deciles(scores: Floats, predicted: Floats, actual: NDArray[np.float64 | np.bool_]) -> Floats:
    """(deciles, 3): mean predicted, mean actual, rows; by rising score."""
    _, group = np.unique(scores, return_inverse=True)
    sizes = np.bincount(group)
    shared = (np.bincount(group, weights=actual) / sizes)[group]  # of all rows with this score
    groups = np.array_split(np.argsort(scores), min(BINS, len(scores)))
    return np.array([[predicted[rows].mean(), shared[rows].mean(), len(rows)] for rows in groups])


def _thin(points: Floats) -> Floats:
    """Choose at most `MOST_POINTS` of a curve, evenly along its length, with both ends."""
    if len(points) <= MOST_POINTS:
        return points
    length = np.r_[0.0, np.cumsum(np.abs(np.diff(points, axis=0)).sum(axis=1))]
    chosen = np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS - 1))
    return np.asarray(points[np.unique(np.r_[0, chosen[:-1], len(points) - 1])])
