"""Merges bins of an own column until the rate of the label goes one way from bin to bin.

It sees counts that its party was told, or has itself.
"""

import numpy as np

from tercet.agents.statistics.power import power_of
from tercet.agents.statistics.result import OwnColumn
from tercet.mpc.statistics import measures
from tercet.tables.binning.bins import NumericBins
from tercet.tables.binning.monotone import monotone_groups


def make_monotone(column: OwnColumn) -> OwnColumn:
    """Merge bins of numbers, and measure the column anew.

    Missing values keep a bin of their own. A column of categories, and one of whose weights of evidence nothing is
    known, stays as it is.
    """
    bins = column.bins
    if not isinstance(bins, NumericBins) or column.sums is None or column.woe is None:
        return column
    numbers, rows, positives = len(bins.intervals), np.array(column.rows), np.array(column.sums)[:, 0]
    groups = monotone_groups(positives[:numbers], (rows - positives)[:numbers], measures.information_value)
    groups += [[place] for place in range(numbers, bins.count)]
    rows, positives = (np.array([counts[group].sum() for group in groups]) for counts in (rows, positives))
    return OwnColumn(
        bins=bins.merged(groups),
        rows=tuple(rows.tolist()),
        sums=tuple((count,) for count in positives.tolist()),
        woe=tuple(measures.weights_of_evidence(positives, rows - positives).tolist()),
        power=power_of(2, rows, positives[:, np.newaxis]),
        vif=column.vif,
    )
