"""Trains a multilayer perceptron in plain float64, to compare a joint one with.

It shares no code with the protocol or its oracle, so that agreement means something.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from tercet.agents.evaluation.baselines import ERRORS, Numbers, batches, rates
from tercet.schemas.files.job import Network, Training

Slope = Callable[[Numbers], Numbers]


@dataclass(frozen=True, slots=True)
class FittedNetwork:
    """Holds weights (units below, units above) and biases (units above,) of each layer."""

    weights: list[Numbers]
    biases: list[Numbers]
    activation: str

    def scores(self, x: Numbers) -> Numbers:
        """Compute rows' pre-activations: (rows,), or (rows, classes)."""
        scores = self.layers(x)[-1]
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def layers(self, x: Numbers) -> list[Numbers]:
        """Compute the pre-activations of each layer."""
        phi, _ = ACTIVATIONS[self.activation]
        found = [x @ self.weights[0] + self.biases[0]]
        for weights, biases in zip(self.weights[1:], self.biases[1:], strict=True):
            found.append(phi(found[-1]) @ weights + biases)
        return found


class Start(NamedTuple):
    """Holds the first weights and row orders that make two runs end alike."""

    first: FittedNetwork
    order: Callable[[int], NDArray[np.int64]]


def draw_start(columns: int, rows: int, outputs: int, network: Network, seed: int) -> Start:
    """Draw a random start."""
    generator = np.random.default_rng(seed)
    widths = (columns, *network.hidden, outputs)
    return Start(_first(generator, widths, network.activation), lambda _: generator.permutation(rows))


def sgd(
    x: Numbers,
    y: Numbers,
    training: Training,
    network: Network,
    *,
    start: Start | None = None,
    seed: int = 0,
    epochs: int | None = None,
) -> FittedNetwork:
    """Train the network by float64 SGD, with the L2 penalty on weights, not on biases.

    A rate that is too large gives weights that are not finite, without a warning.

    Args:
        x: encoded columns (rows, d).
        y: labels, (rows,) or of several classes (rows, classes), as `baselines.sgd` has them.
        training: batch, epochs and the schedule, as a job has them, in numbers.
        network: the hidden layers and the output.
        start: where to begin, and how to go on; at random if None.
        seed: of that.
        epochs: fewer than the schedule is for, where the training is stopped early.
    """
    y = y.reshape(len(y), -1)
    start = start or draw_start(x.shape[1], len(y), y.shape[1], network, seed)
    model = FittedNetwork(list(start.first.weights), list(start.first.biases), network.activation)
    rate = rates(training, len(y))
    for epoch in range(epochs or training.epochs):
        for batch in batches(start.order(epoch), training):
            with np.errstate(over="ignore", invalid="ignore"):
                error = ERRORS[network.output](model.layers(x[batch])[-1], y[batch]) / len(batch)
                _step(model, x[batch], error, next(rate), training.l2)
    return model


def _first(generator: np.random.Generator, widths: tuple[int, ...], activation: str) -> FittedNetwork:
    weights = [
        generator.normal(0, np.sqrt((2 if layer < len(widths) - 2 and activation in HE else 1) / below), (below, above))
        for layer, (below, above) in enumerate(itertools.pairwise(widths))
    ]
    return FittedNetwork(weights, [np.zeros(width) for width in widths[1:]], activation)


def _step(model: FittedNetwork, x: Numbers, error: Numbers, rate: float, l2: float) -> None:
    phi, slope = ACTIVATIONS[model.activation]
    layers = model.layers(x)
    inputs = [x, *(phi(z) for z in layers[:-1])]
    for k in range(len(layers) - 1, -1, -1):
        below = error @ model.weights[k].T * slope(layers[k - 1]) if k else error
        model.weights[k] = (1 - rate * l2) * model.weights[k] - rate * inputs[k].T @ error
        model.biases[k] = model.biases[k] - rate * error.sum(axis=0)
        error = below


def _normal(z: Numbers) -> Numbers:
    """Compute the share of a normal distribution below z."""
    return np.asarray((1 + erf(z / np.sqrt(2))) / 2)


# By name: the function and its slope.
ACTIVATIONS: Mapping[str, tuple[Slope, Slope]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.asarray(z > 0, dtype=np.float64)),
    "leaky-relu": (lambda z: np.where(z > 0, z, z / 128), lambda z: np.where(z > 0, 1, 1 / 128)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z)),
    "gelu": (
        lambda z: z * _normal(z),
        lambda z: _normal(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
    ),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z))),
    "softplus": (lambda z: np.logaddexp(0, z), expit),
}
HE = frozenset({"relu", "leaky-relu", "gelu", "silu"})  # whose first weights are larger
