"""Trains the same models in plaintext: on each party's columns alone, and on all pooled.

For comparison only: it needs in one place what the parties never show one another, and shares no code with the
protocol or its oracle, so that agreement means something.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tercet.schemas.files.job import USUAL_POWER, Training

Numbers = NDArray[np.float64]

LEAST_ROWS = 32  # a smaller last batch with fewer joins the one before, as in the protocol
POOLED = "pooled"


class Model(Protocol):
    """Anything that was fitted."""

    def scores(self, x: Numbers) -> Numbers:
        """Compute rows' pre-activations: (rows,), or (rows, classes)."""
        ...


Fit = Callable[[Numbers, Numbers], Model]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Holds a linear model: weights (d,) and intercept; of classes (d, classes) and (classes,)."""

    weights: Numbers
    intercept: Numbers | float

    def scores(self, x: Numbers) -> Numbers:
        """Compute rows' pre-activations: (rows,), or (rows, classes)."""
        return np.asarray(x @ self.weights + self.intercept)


def sgd(
    x: Numbers,
    y: Numbers,
    training: Training,
    *,
    link: str = "logistic",
    seed: int = 0,
    epochs: int | None = None,
    offset: Numbers | None = None,
    counts: Numbers | None = None,
    power: float = 0.0,
) -> Fitted:
    """Train a generalised linear model by float64 SGD from zero.

    The L2 penalty is on the weights but not on the intercept.

    A rate that is too large gives weights that are not finite, without a warning.

    Args:
        x: encoded columns (rows, d).
        y: labels (rows,), of logistic regression 0 or 1; of several classes (rows, classes), 1 in the column of each
            row's class.
        training: batch, epochs and the schedule, as a job has them, in numbers.
        link: between score and label, one of `ERRORS`.
        seed: of the order of the rows, a new one in each epoch.
        epochs: fewer than the schedule is for, where the training is stopped early.
        offset: (rows,), of a model with one score: what that begins with.
        counts: (rows, 1), how often rows count.
        power: of a tweedie link.
    """
    weights, intercept = np.zeros((x.shape[1], *y.shape[1:])), np.zeros(y.shape[1:])
    error = functools.partial(_tweedie, power=power) if link == "tweedie" else ERRORS[link]
    generator = np.random.default_rng(seed)
    rate_of = rates(training, len(y))
    for _ in range(epochs or training.epochs):
        order = generator.permutation(len(y))
        for batch in batches(order, training):
            rate = next(rate_of)
            with np.errstate(over="ignore", invalid="ignore"):
                z = x[batch] @ weights + intercept
                slope = error(z if offset is None else z + offset[batch], y[batch]) / len(batch)
                if counts is not None:
                    slope = slope * counts[batch].reshape(-1, *[1] * (slope.ndim - 1))
                weights = (1 - rate * training.l2) * weights - rate * (x[batch].T @ slope)
                intercept = intercept - rate * slope.sum(axis=0)
    return Fitted(weights, intercept)


def auc(y: Numbers, scores: Numbers) -> float:
    """Compute the area under the ROC curve."""
    return float(roc_auc_score(y, scores))


def compare(  # noqa: PLR0917
    train: Mapping[str, Numbers],
    held_out: Mapping[str, Numbers],
    y_train: Numbers,
    y_held_out: Numbers,
    fit: Fit,
    pooled: Fit | None = None,
) -> dict[str, float]:
    """Compute held-out AUC for each party's columns alone, and for all "pooled".

    Every party gets the label, though in truth only one has it: what its columns could do at best.

    Args:
        train: encoded training columns by party, rows aligned.
        held_out: the same columns of held-out rows.
        y_train: labels of the training rows.
        y_held_out: labels of the held-out rows.
        fit: the same kind of model, batch, epochs and schedule for all, from columns and labels.
        pooled: instead of `fit` for all columns side by side.
    """
    sets = {party: (train[party], held_out[party]) for party in train}
    sets[POOLED] = (np.hstack(list(train.values())), np.hstack([held_out[party] for party in train]))
    fits = dict.fromkeys(sets, fit) | {POOLED: pooled or fit}
    return {name: auc(y_held_out, fits[name](x, y_train).scores(x_held_out)) for name, (x, x_held_out) in sets.items()}


def batches(order: NDArray[np.int64], training: Training) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of an epoch, batch by batch."""
    batch = int(training.batch)
    starts = list(range(0, len(order), batch))
    if len(starts) > 1 and len(order) - starts[-1] < min(batch, LEAST_ROWS):
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:stop]


def rates(training: Training, rows: int) -> Iterator[float]:
    """Compute the rate of each step of a job; that of a smaller batch is as much smaller."""
    sizes = [len(batch) for batch in batches(np.arange(rows), training)]
    rate, last = float(training.rate), training.epochs * len(sizes) - 1
    for step, size in enumerate(itertools.cycle(sizes)):
        match training.schedule:
            case "constant":
                now = rate
            case "inverse-time":
                now = rate / (1 + training.decay * step)
            case "exponential":
                now = rate * training.decay**step
            case "linear":
                now = rate * (1 - (1 - training.final) * step / max(last, 1))
        yield now * min(1.0, size / sizes[0])


def _sigmoid(z: Numbers) -> Numbers:
    return np.asarray((1 + np.tanh(z / 2)) / 2)


def _softmax(z: Numbers) -> Numbers:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _tweedie(z: Numbers, y: Numbers, power: float = USUAL_POWER) -> Numbers:
    return np.asarray(np.exp((2 - power) * z) - y * np.exp((1 - power) * z))


# By link, the gradient of the loss (log-loss, half squared error, half deviance) with respect to score z, label y.
ERRORS: Mapping[str, Callable[[Numbers, Numbers], Numbers]] = {
    "logistic": lambda z, y: _sigmoid(z) - y,
    "linear": lambda z, y: z - y,
    "softmax": lambda z, y: _softmax(z) - y,
    "one-vs-rest": lambda z, y: _sigmoid(z) - y,
    "poisson": lambda z, y: np.exp(z) - y,
    "gamma": lambda z, y: 1 - y * np.exp(-z),
    "tweedie": _tweedie,
}
