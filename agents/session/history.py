"""Keeps what a party learned in training: losses, metrics and held-out scores.

Only what the job lets this party know comes in here, and nothing here is sent on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.schemas.files.job import METRICS, EarlyStopping

Floats = NDArray[np.float64]


@dataclass(slots=True)
class History:
    """Keeps results by epoch; empty where this party is told nothing.

    Attributes:
        losses: the mean training loss of each epoch.
        held_out_losses: the mean loss of the held-out rows after each epoch.
        metrics: of the held-out rows after an epoch.
        seconds: that each epoch took, evaluation included; `rates`: of each epoch's first step.
        intervals: of metrics of the model that is kept, by name: low and high.
        best_epoch: whose model was kept, where the job stops early; else None.
        folds: metrics of each fold by the model of the others' rows, in a job with folds.
        shortfall: why the model that is kept is not better than a constant; empty if it is, or if nobody can tell.
        latest: the last scores of the held-out rows, (rows,), or of several classes (rows, classes).
        scores: those of the model that is kept, and `labels` what they are compared with.
    """

    losses: list[float] = field(default_factory=list)
    held_out_losses: list[float] = field(default_factory=list)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    folds: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    shortfall: str = ""
    latest: Floats | None = field(default=None, repr=False)
    scores: Floats | None = field(default=None, repr=False)
    labels: Floats | None = field(default=None, repr=False)

    def to_checkpoint(self) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Copy arrays and facts from which `restore` makes the same again."""
        arrays = {name: getattr(self, name) for name in ("latest", "scores", "labels")}
        facts = {
            "losses": [*self.losses],
            "held_out_losses": [*self.held_out_losses],
            "metrics": list(self.metrics.items()),
            "seconds": list(self.seconds.items()),
            "rates": list(self.rates.items()),
            "best_epoch": self.best_epoch,
        }
        return {name: array for name, array in arrays.items() if array is not None}, facts

    def restore(self, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> None:
        """Restore the history of an earlier attempt."""
        self.losses, self.metrics = list(facts["losses"]), {epoch: dict(found) for epoch, found in facts["metrics"]}
        self.held_out_losses, self.best_epoch = list(facts["held_out_losses"]), facts["best_epoch"]
        self.seconds, self.rates = (dict(facts.get(name, ())) for name in ("seconds", "rates"))  # later than the others
        self.latest, self.scores, self.labels = (arrays.get(name) for name in ("latest", "scores", "labels"))

    def keep_scores(self, epoch: int | None = None) -> None:
        """Keep the latest scores as the final model's; `epoch` where the job chooses one."""
        self.scores = self.latest
        self.best_epoch = self.best_epoch if epoch is None else epoch

    @property
    def last_metrics(self) -> dict[str, float]:
        """Of the model that is kept."""
        if self.best_epoch in self.metrics:
            return self.metrics[self.best_epoch]
        return next(reversed(self.metrics.values()), {})

    @property
    def final_metrics(self) -> dict[str, float]:
        """Of the model that is kept; with folds the mean of what all of them define."""
        return self._over_folds(fmean) if self.folds else self.last_metrics

    @property
    def deviations(self) -> dict[str, float]:
        """Standard deviations of `final_metrics` over a job's folds, as of a sample."""
        return self._over_folds(stdev) if len(self.folds) > 1 else {}

    def _over_folds(self, summarize: Callable[[list[float]], float]) -> dict[str, float]:
        first, *others = self.folds
        names = [name for name in first if all(name in other for other in others)]
        return {name: summarize([fold[name] for fold in self.folds]) for name in names}

    def value(self, epoch: int, on: str) -> float | None:
        """Give the value that early stopping compares; None if it is undefined."""
        losses = {"loss": self.losses, "held_out_loss": self.held_out_losses}
        return losses[on][epoch] if on in losses else self.metrics[epoch].get(on)


class EarlyStopper:
    """Finds the best epoch so far, and decides whether to go on, at the label party."""

    def __init__(self, rule: EarlyStopping, link: str) -> None:
        self.rule = rule
        self._more_is_better = METRICS[link].get(rule.on, False)
        self._best: float | None = None  # of what may be kept
        self._seen: float | None = None  # of all: a model that is still worthless may be on its way
        self._without_gain = 0

    def decide(self, value: float | None, *, worthless: bool) -> tuple[bool, bool]:
        """(best, go on) after an epoch with this value; a worthless model is never the best."""
        best, gained = not worthless and self._gains(value, self._best), self._gains(value, self._seen)
        self._best = value if best else self._best
        self._seen = value if gained else self._seen
        self._without_gain = 0 if best or gained else self._without_gain + 1
        return best, self._without_gain < self.rule.patience

    def to_checkpoint(self) -> list[float | int | None]:
        """Give the state that `restore` takes."""
        return [self._best, self._seen, self._without_gain]

    def restore(self, state: list[Any]) -> None:
        """Restore the state of an earlier attempt."""
        self._best, self._seen, self._without_gain = state

    def _gains(self, value: float | None, best: float | None) -> bool:
        if value is None:
            return False
        if best is None:
            return True
        gain = value - best if self._more_is_better else best - value
        return gain > self.rule.least_gain
