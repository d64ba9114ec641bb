"""What can be measured step by step: each kind of job with its tables, and the same step in plaintext numpy float64.

A case does no measuring of its own but that of its numpy step, which knows nothing of shares or messages.
"""

import statistics
import time
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tercet.schemas.files.job import Network, Privacy, Training, TrainingJob
from tercet.schemas.files.settings import TableSettings

Floats = NDArray[np.float64]

PARTIES: Final = ("bank", "card")
HELPER: Final = "notary"
NUMPY_STEPS: Final = 300
ROWS: Final = 20_000  # of the synthetic table, where nothing else is asked for
COLUMNS: Final = 100


class Case(ABC):
    """Rows x, (rows, columns), of which each party holds one half of the columns, and what the label party's y is."""

    fields: dict[str, Any]  # the model, as the job describes it
    x: Floats
    y: NDArray[Any]

    def __init__(self, arguments: Namespace) -> None:
        self.arguments = arguments

    @abstractmethod
    def numpy_step(self) -> Callable[[NDArray[np.int64]], None]:
        """A function that takes one step of plain gradient descent on the rows of a batch."""

    @property
    def name(self) -> str:
        """What is measured."""
        rows, columns = self.x.shape
        return f"{self.fields['model']} {rows} x {columns}, batch {self.arguments.batch}"

    def job(self) -> TrainingJob:
        """The job."""
        training = Training(epochs=self.arguments.epochs, batch=self.arguments.batch, rate=0.1)
        tables = tuple((party, "table") for party in PARTIES)
        return TrainingJob(
            name="step",
            label=PARTIES[0],
            helper=HELPER,
            tables=tables,
            training=training,
            privacy=Privacy(helper_sees=self.arguments.helper_sees, checks=self.arguments.checks),
            **self.fields,
        )

    def write_tables(self, folder: Path) -> dict[str, TableSettings]:
        """A CSV file for each party; the first holds the label."""
        ids, tables = np.arange(len(self.y)), {}
        for party, half in zip(PARTIES, np.array_split(self.x, 2, axis=1), strict=True):
            names = [f"{party}{number}" for number in range(half.shape[1])]
            label = [self.y] if party == PARTIES[0] else []
            path = folder / f"{party}.csv"
            header = ",".join(["id", *names, *["label" for _ in label]])
            columns = np.column_stack([ids, half, *label])
            np.savetxt(path, columns, ["%d", *["%.9g"] * (columns.shape[1] - 1)], ",", header=header, comments="")
            tables[party] = TableSettings(path=path, id="id", label="label" if label else None, numeric=tuple(names))
        return tables

    def numpy_seconds(self) -> float:
        """Median seconds of a float64 step on the pooled columns."""
        step, generator, times = self.numpy_step(), np.random.default_rng(1), []
        for _ in range(NUMPY_STEPS):
            rows = generator.permutation(len(self.y))[: self.arguments.batch]
            start = time.perf_counter()
            step(rows)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


class Logistic(Case):
    """Standardised synthetic columns and 0/1 labels that depend on them."""

    fields: dict[str, Any] = {"model": "logistic"}

    def __init__(self, arguments: Namespace) -> None:
        super().__init__(arguments)
        generator = np.random.default_rng(0)
        rows, columns = arguments.rows or ROWS, arguments.columns or COLUMNS
        self.x = generator.normal(size=(rows, columns))
        score = self.x @ generator.normal(size=columns) / np.sqrt(columns)
        self.y = (generator.random(rows) < 1 / (1 + np.exp(-3 * score))).astype(np.float64)

    def numpy_step(self) -> Callable[[NDArray[np.int64]], None]:
        """Product, sigmoid, product."""
        weights, rate = np.zeros(self.x.shape[1]), 0.1 / self.arguments.batch

        def step(rows: NDArray[np.int64]) -> None:
            part = self.x[rows]
            error = 1 / (1 + np.exp(-part @ weights)) - self.y[rows]
            np.subtract(weights, rate * (part.T @ error), out=weights)

        return step


class Layers(Case):
    """A model with or without hidden layers; `one_hot` is the label, (rows, outputs)."""

    one_hot: Floats

    def __init__(self, arguments: Namespace) -> None:
        super().__init__(arguments)
        self._layers: list[tuple[Floats, Floats]] = []

    @property
    def _network(self) -> Network | None:
        network: Network | None = self.fields.get("network")
        return network

    def _widths(self) -> list[int]:
        hidden = () if self._network is None else self._network.hidden
        return [self.x.shape[1], *hidden, self.one_hot.shape[1]]

    def numpy_step(self) -> Callable[[NDArray[np.int64]], None]:
        """Forward and back through the activations to the output."""
        generator, widths = np.random.default_rng(2), self._widths()
        rate = 0.1 / self.arguments.batch
        layers = [(generator.normal(size=(i, o)) * np.sqrt(2 / i), np.zeros(o)) for i, o in pairwise(widths)]
        self._layers = layers
        network = self._network
        phi = ACTIVATIONS["relu" if network is None else network.activation]
        link = _softmax if network is None or network.output == "softmax" else _sigmoid

        def step(rows: NDArray[np.int64]) -> None:
            inputs, slopes = [self.x[rows]], []
            for weights, bias in layers[:-1]:
                a, slope = phi(inputs[-1] @ weights + bias)
                inputs.append(a)
                slopes.append(slope)
            error = link(inputs[-1] @ layers[-1][0] + layers[-1][1]) - self.one_hot[rows]
            for a, slope, (weights, bias) in zip(
                reversed(inputs), [*reversed(slopes), None], reversed(layers), strict=True
            ):
                back = error if slope is None else (error @ weights.T) * slope
                np.subtract(weights, rate * (a.T @ error), out=weights)
                np.subtract(bias, rate * error.sum(axis=0), out=bias)
                error = back

        return step

    def mistakes(self) -> float:
        """Which part of all rows of several classes the numpy model gets wrong as it is now."""
        scores, phi = self.x, ACTIVATIONS["relu" if self._network is None else self._network.activation]
        for weights, bias in self._layers[:-1]:
            scores, _ = phi(scores @ weights + bias)
        weights, bias = self._layers[-1]
        return float(np.mean(np.argmax(scores @ weights + bias, axis=1) != self.y))


class Digits(Layers):
    """scikit-learn's handwritten digits, 1797 x 64 in ten classes, standardised."""

    def __init__(self, arguments: Namespace) -> None:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - a second that the other case need not wait

        super().__init__(arguments)
        x, self.y = load_digits(return_X_y=True)
        self.x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
        self.one_hot = np.eye(10)[self.y]


class Softmax(Digits):
    """Without a hidden layer."""

    fields: dict[str, Any] = {"model": "softmax"}


class Mlp(Digits):
    """64-64-10 with ReLU and softmax, or SiLU and one class against the rest where the helper sees nothing."""

    def __init__(self, arguments: Namespace) -> None:
        super().__init__(arguments)
        self.fields = _network_fields(arguments, "softmax", "one-vs-rest")


class Synthetic(Layers):
    """The synthetic table of the logistic case through one hidden layer of 64."""

    def __init__(self, arguments: Namespace) -> None:
        super().__init__(arguments)
        table = Logistic(arguments)
        self.x, self.y, self.one_hot = table.x, table.y, table.y[:, None]
        self.fields = _network_fields(arguments, "logistic", "logistic")


def _network_fields(arguments: Namespace, shown: str, blind: str) -> dict[str, Any]:
    """The layers of a network for the mode that is asked for; blind by default."""
    is_shown = arguments.helper_sees == "scores"
    activation, output = ("relu", shown) if is_shown else ("silu", blind)
    return {
        "model": "mlp",
        "network": Network.model_validate({"hidden": (64,), "activation": activation, "output": output}),
    }


def _relu(z: Floats) -> tuple[Floats, Floats]:
    return np.maximum(z, 0.0), np.asarray(z > 0, np.float64)


def _silu(z: Floats) -> tuple[Floats, Floats]:
    chances = _sigmoid(z)
    return z * chances, chances * (1 + z * (1 - chances))


def _sigmoid(z: Floats) -> Floats:
    chances: Floats = 1 / (1 + np.exp(-z))
    return chances


def _softmax(z: Floats) -> Floats:
    odds = np.exp(z - z.max(axis=1, keepdims=True))
    chances: Floats = odds / odds.sum(axis=1, keepdims=True)
    return chances


ACTIVATIONS: Final = {"relu": _relu, "silu": _silu}
CASES: Final[dict[str, type[Case]]] = {"logistic": Logistic, "softmax": Softmax, "mlp": Mlp}
BATCH: Final = {"logistic": 1024, "softmax": 128, "mlp": 128}


def make_case(arguments: Namespace) -> Case:
    """Make what is asked for; a network is of the synthetic table where that has a size."""
    if arguments.model == "mlp" and (arguments.rows or arguments.columns):
        return Synthetic(arguments)
    return CASES[arguments.model](arguments)
