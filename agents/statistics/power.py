"""Measures how well a column tells labels apart, by its cells."""

import numpy as np
from numpy.typing import NDArray

from tercet.agents.statistics.result import Power
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.statistics import measures


def power_of(classes: int, rows: NDArray[np.int64], sums: Floats) -> Power:
    """Measure a column by its cells: (cells,) rows and (cells, targets) sums.

    `classes` is 0 of a count or an amount.
    """
    counts = rows.astype(np.float64)
    if not classes:
        return Power(explained=measures.variance_share(counts, sums[:, 0], sums[:, 1]))
    by_class = list(sums.T) if classes == 2 else [counts - sums.sum(axis=1), *sums.T]
    return Power(
        iv=max(measures.information_value(each, counts - each) for each in by_class),
        ks=max(measures.kolmogorov_smirnov(each, counts - each) for each in by_class),
        gini=max(measures.gini(each, counts - each) for each in by_class),
    )
