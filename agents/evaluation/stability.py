"""Compares new rows with those of a training: the population stability index (PSI).

It sees counts by bin, and no row.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

STABLE, CHANGED = 0.1, 0.25  # from the first on some change, from the second on a large one
HALF: Final = 0.5  # of a row: what an empty bin counts as
FAR: Final = 2.326  # standard deviations: 99 of 100 are below


class Stability(NamedTuple):
    """Says how far a column, or scores, have moved.

    Attributes:
        name: of the column; empty for scores.
        psi: the population stability index.
        chance: what 99 of 100 draws of so many rows stay below if nothing has changed.
        labels: of the bins.
        before, now: rows in each bin.
    """

    name: str
    psi: float
    chance: float
    labels: tuple[str, ...]
    before: tuple[int, ...]
    now: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """Say in a few words what the index means, by the usual thresholds."""
        if self.psi < STABLE:
            return "stable"
        if self.psi <= self.chance:
            return "may be chance: few rows"
        return "some change" if self.psi < CHANGED else "large change"

    @property
    def shares(self) -> list[tuple[str, float, float]]:
        """List each bin's label, and its share of the rows before and now."""
        before, now = sum(self.before), sum(self.now)
        counts = zip(self.labels, self.before, self.now, strict=True)
        return [(label, one / before, other / now) for label, one, other in counts]

    @property
    def is_large(self) -> bool:
        """Tell whether the change is large, and no chance."""
        return self.psi >= CHANGED and self.psi > self.chance


def stability(name: str, labels: Sequence[str], before: Sequence[int], now: Sequence[int]) -> Stability:
    """Compare counts of the same bins; at least one row each."""
    chance = chance_of(before, now)
    return Stability(name, stability_index(before, now), chance, tuple(labels), tuple(before), tuple(now))


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """Compute the PSI: the sum over bins of (a - e) ln(a / e), for shares e before and a now.

    A bin that is empty in one of the two counts as half a row there. One that is empty in both is left out.
    """
    counts = np.array([before, now], np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.maximum(counts[:, counts.any(axis=0)], HALF) / rows
    expected, actual = shares
    return float(((actual - expected) * np.log(actual / expected)).sum())


def chance_of(before: Sequence[int], now: Sequence[int]) -> float:
    """Bound the PSI of two samples of one population, with a confidence of 99%.

    With n and m rows it is about (1 / n + 1 / m) times a chi-squared number of as many degrees of freedom as there are
    bins but one; of that this is the quantile by Wilson and Hilferty.
    """
    freedom = int(np.any([before, now], axis=0).sum()) - 1
    if freedom < 1:
        return 0.0
    spread = 2.0 / (9.0 * freedom)
    quantile = freedom * (1.0 - spread + FAR * np.sqrt(spread)) ** 3
    return float(quantile * (1.0 / sum(before) + 1.0 / sum(now)))
