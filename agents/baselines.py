"""What the same training would reach without Tercet: each party's columns alone, and all of them pooled in clear.

For comparison only: it needs in one place what the parties never show one another, and shares no code with the
protocol or its oracle, so that agreement means something.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from schemas.job import Training

Numbers = NDArray[np.float64]

LEAST_ROWS = 32  # a smaller last batch with fewer joins the one before, as in the protocol
POOLED = "pooled"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A logistic regression: weights (d,) and intercept."""

    weights: Numbers
    intercept: float

    def scores(self, x: Numbers) -> Numbers:
        """The pre-activations of rows: (rows,)."""
        return np.asarray(x @ self.weights + self.intercept)


def sgd(x: Numbers, y: Numbers, training: Training, *, model: str = "logistic", seed: int = 0) -> Fitted:
    """Logistic or linear regression by float64 SGD from zero, the L2 penalty on the weights but not on the intercept.

    Args:
        x: encoded columns (rows, d).
        y: labels (rows,), of logistic regression 0 or 1.
        training: batch, epochs and the schedule, as a job has them.
        model: "logistic" or "linear".
        seed: of the order of the rows, a new one in each epoch.
    """
    weights, intercept = np.zeros(x.shape[1]), 0.0
    generator = np.random.default_rng(seed)
    rates = _rates(training)
    for _ in range(training.epochs):
        order = generator.permutation(len(y))
        for batch in _batches(order, training.batch):
            rate = next(rates)
            # the gradient of the mean log-loss, or half squared error, with respect to each score
            scores = x[batch] @ weights + intercept
            slope = ((_sigmoid(scores) if model == "logistic" else scores) - y[batch]) / len(batch)
            weights = (1 - rate * training.l2) * weights - rate * (x[batch].T @ slope)
            intercept -= rate * slope.sum()
    return Fitted(weights, float(intercept))


def auc(y: Numbers, scores: Numbers) -> float:
    """The area under the ROC curve."""
    return float(roc_auc_score(y, scores))


def compare(
    train: Mapping[str, Numbers],
    held_out: Mapping[str, Numbers],
    y_train: Numbers,
    y_held_out: Numbers,
    training: Training,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Held-out AUC for each party's encoded columns alone, and under "pooled" for all of them side by side.

    Every party gets the label, though in truth only one has it: what its columns could do at best.

    Args:
        train: encoded training columns by party, rows aligned.
        held_out: the same columns of held-out rows.
        y_train: labels of the training rows.
        y_held_out: labels of the held-out rows.
        training: the same batch, epochs and schedule for all.
        seed: the same order of rows for all.
    """
    sets = {party: (train[party], held_out[party]) for party in train}
    sets[POOLED] = (np.hstack(list(train.values())), np.hstack([held_out[party] for party in train]))
    return {
        name: auc(y_held_out, sgd(x, y_train, training, seed=seed).scores(x_held_out))
        for name, (x, x_held_out) in sets.items()
    }


def _batches(order: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    starts = list(range(0, len(order), batch))
    if len(starts) > 1 and len(order) - starts[-1] < min(batch, LEAST_ROWS):
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:stop]


def _rates(training: Training) -> Iterator[float]:
    """The rate of each step, counted over the whole job."""
    step = 0
    while True:
        match training.schedule:
            case "constant":
                yield training.rate
            case "inverse-time":
                yield training.rate / (1 + training.decay * step)
            case "exponential":
                yield training.rate * training.decay**step
        step += 1


def _sigmoid(z: Numbers) -> Numbers:
    return np.asarray((1 + np.tanh(z / 2)) / 2)
