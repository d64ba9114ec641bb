"""Says what an attack has recovered, by the truth that it was not given: rows whose whole record is right.

What no attacker can know it grants: what levels and variables are called, and which way is up.
"""

import numpy as np
from numpy.typing import NDArray

from tests.attacks.differences import Found
from tests.attacks.tables import Table

_KEY = np.random.default_rng(1).integers(1, 2**62, 1024)


def best_right(answers: list[Found], truth: Table) -> float:
    """Of the attack's answers the one that is right most often."""
    return max(records_right(found, truth) for found in answers)


def records_right(found: Found, truth: Table) -> float:
    """The part of rows whose whole record is right, up to names.

    Each number of the attack's basis has to be a change of one level of one variable, the one that fits most rows;
    rows that it does not tell apart count as its guess of the most frequent record.
    """
    onehot, coordinates = truth.onehot.astype(np.int64), found.coordinates
    changes = np.zeros((coordinates.shape[1], onehot.shape[1]), np.int64)
    for k in range(len(found.basis)):
        changes[k] = _change(coordinates, found.walked, onehot, k)
    offsets = onehot - coordinates @ changes
    single = np.abs(changes).sum(axis=1) == 2  # one level down, one up
    honest = found.walked & ~(coordinates - _most(coordinates))[:, ~single].any(axis=1)
    best = _most(offsets[honest]) if honest.any() else None
    right = np.zeros(len(onehot), bool)
    if best is not None:
        right[honest] = (offsets[honest] == best).all(axis=1)
    rest = truth.records[~found.walked]  # the attacker guesses
    guessed = (rest == np.bincount(truth.records).argmax()).sum()
    return float((right.sum() + guessed) / len(onehot))


def _change(coordinates: NDArray[np.int64], walked: NDArray[np.bool_], onehot: NDArray[np.int64], k: int):
    """What happens to a record where coordinate k goes up by one and the others stay."""
    rows = np.flatnonzero(walked)
    chosen = coordinates[rows]
    rest, level = _hashed(chosen) - chosen[:, k] * _KEY[k], chosen[:, k]
    order = np.lexsort((level, rest))
    rest, level, rows = rest[order], level[order], rows[order]
    first = np.flatnonzero(np.diff(rest, prepend=rest[:1] - 1) | np.diff(level, prepend=0))
    rest, level, rows = rest[first], level[first], rows[first]
    up = np.flatnonzero((rest[1:] == rest[:-1]) & (level[1:] == level[:-1] + 1))
    return _most(onehot[rows[up + 1]] - onehot[rows[up]]) if len(up) else np.zeros(onehot.shape[1], np.int64)


def _most(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most frequent row; of several the lowest."""
    _, first, counts = np.unique(_hashed(rows), return_index=True, return_counts=True)
    frequent = rows[first[counts == counts.max()]]
    return frequent[np.lexsort(frequent.T[::-1])[0]]  # type: ignore[no-any-return]


def _hashed(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number of each row, which differs where rows do."""
    return rows @ _KEY[: rows.shape[1]]
