"""Says what an attack has recovered, by the truth that it was not given: rows whose whole record is right.

What no attacker can know it grants: what levels and variables are called, and which way is up.
"""

import numpy as np
from numpy.typing import NDArray

from tests.attacks.differences import Found
from tests.attacks.tables import Table


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
    rest = np.delete(coordinates[rows], k, axis=1)
    groups: dict[bytes, dict[int, int]] = {}
    for row, key in zip(rows, rest, strict=True):
        groups.setdefault(key.tobytes(), {}).setdefault(int(coordinates[row, k]), int(row))
    steps = [onehot[at[c + 1]] - onehot[at[c]] for at in groups.values() for c in at if c + 1 in at]
    return _most(np.array(steps)) if steps else np.zeros(onehot.shape[1], np.int64)


def _most(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most frequent row."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    return distinct[counts.argmax()]  # type: ignore[no-any-return]
