"""Finds columns of the label party that alone tell the label.

Copies, or what is known only after it.

A sample of the rows is split in two: what a column's values mean is learnt from one half and tried on the other.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.tables.core.moments import Floats
from tercet.tables.core.table import Table
from tercet.tables.snapshot.snapshot import Snapshot

SAMPLE = 50_000  # rows
BINS = 64  # of equally many rows, by which a numeric column is cut up
NEARLY_ALL = 0.99  # of pairs of rows in the right order; or of the variance of a number's rank
LEAST = 10  # rows of a class, or with a number, without which chance may do it
LEAKING = (
    "alone tells nearly every label: leave it out with `columns` if it is a copy of the label or an index of rows that "
    "are sorted by it, or if it is not known yet when you predict"
)


def leakage_warnings(table: Snapshot, rows: NDArray[np.bool_], *, classes: bool) -> list[str]:
    """Warn the label party of columns that tell the label, of these rows.

    Args:
        table: a snapshot with its label.
        rows: marks of those to look at, such as those that are trained on.
        classes: whether labels are of classes, two or more, or else numbers.
    """
    assert table.label is not None
    chosen = np.flatnonzero(rows)
    if len(chosen) == 0:
        return []
    marks = np.zeros(table.rows, np.bool_)
    marks[chosen[:: len(chosen) // SAMPLE + 1]] = True  # from all over the table, which may be sorted by its label
    (sample,) = table.batches(marks, SAMPLE)
    label = table.label[marks]
    targets = [(label == one).astype(np.float64) for one in np.unique(label)] if classes else [_ranks(label)]
    found = [name for name in sample.columns if _is_leaking(_places(sample, name), targets, classes=classes)]
    return [f"column {name!r} {LEAKING}" for name in found]


def _places(table: Table, name: str) -> NDArray[np.int64]:
    """Return the number of each row's category or bin.

    Missing ones have one of their own.
    """
    if name in table.categorical:
        texts = pa.array(table.categorical[name], pa.large_string()).dictionary_encode(null_encoding="encode")
        places: NDArray[np.int64] = texts.indices.to_numpy().astype(np.int64)
        return places
    values = table.numeric[name]
    there = values[~np.isnan(values)]
    edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS)) if len(there) else np.empty(0)
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _is_leaking(places: NDArray[np.int64], targets: list[Floats], *, classes: bool) -> bool:
    found = [_quality(places, target, classes=classes) for target in targets]
    known = [one for one in found if one is not None]
    return bool(known) and float(np.mean(known)) >= NEARLY_ALL


def _quality(places: NDArray[np.int64], target: Floats, *, classes: bool) -> float | None:
    """Measure how well a column tells a target: the AUC of a class, R2 of a rank.

    None where there are too few rows.
    """
    learnt, tried = slice(None, None, 2), slice(1, None, 2)
    counts = np.bincount(places[learnt], minlength=places.max() + 1)
    sums = np.bincount(places[learnt], target[learnt], minlength=places.max() + 1)
    mean = target[learnt].mean()
    means = np.where(counts > 0, sums / np.maximum(counts, 1), mean)
    guess, truth = means[places[tried]], target[tried]
    if classes:
        return None if min(truth.sum(), (1 - truth).sum()) < LEAST else _auc(guess, truth)
    spread = np.square(truth - mean).sum()
    return None if len(truth) < LEAST or spread == 0 else float(1 - np.square(truth - guess).sum() / spread)


def _ranks(label: Floats) -> Floats:
    """Rank numbers, so that a few large ones are not all that counts.

    Ties share their rank.
    """
    _, place, counts = np.unique(label, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - counts / 2)[place]
    return ranks


def _auc(guess: Floats, truth: Floats) -> float:
    """Return the share of pairs of 1 and 0 that are in order; a tie counts half."""
    _, place = np.unique(guess, return_inverse=True)
    ones, noughts = np.bincount(place, truth), np.bincount(place, 1 - truth)
    below = np.cumsum(noughts) - noughts / 2
    return float((ones * below).sum() / (ones.sum() * noughts.sum()))
