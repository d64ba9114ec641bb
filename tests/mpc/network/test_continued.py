"""What the models of trainings that continue one another tell an owner: no more numbers than as many models.

Trainings are linear in their labels here, so that what an owner learns of them is the rank of a matrix.
"""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tercet.mpc.network.continued import Gain, _rescale

ROWS, OWN, OTHER, JOBS, STEPS = 60, 4, 3, 5, 7
Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]


def trained(x: Matrix, rows: Rows, begin: Matrix, rate: float) -> Matrix:
    """The weights of least squares after some steps, as a matrix over the labels: (columns, labels)."""
    labels = np.eye(ROWS)
    for _ in range(STEPS):
        begin = begin - rate / len(rows) * x[rows].T @ (x[rows] @ begin - labels[rows])
    return begin


def numbers_learned(halves: Sequence[Rows], *, continued: bool, rate: float = 0.3) -> int:
    """How many independent numbers about the labels an owner learns by its own weights of all jobs."""
    x = np.random.default_rng(0).normal(size=(ROWS, OWN + OTHER))
    weights, seen = np.zeros((OWN + OTHER, ROWS)), []
    for rows in halves:
        weights = trained(x, rows, weights if continued else np.zeros_like(weights), rate)
        seen.append(weights[:OWN])
    return int(np.linalg.matrix_rank(np.vstack(seen), tol=1e-9))


@pytest.mark.parametrize("rate", [0.3, 1e-3])
def test_a_continued_model_tells_as_many_numbers_as_another_model(rate: float) -> None:
    """So budgets count it as one; its start is no label party's or owner's secret key to the rest."""
    source = np.random.default_rng(1)
    halves = [np.sort(source.choice(ROWS, ROWS // 2, replace=False)) for _ in range(JOBS)]
    assert numbers_learned(halves, continued=True, rate=rate) == JOBS * OWN
    assert numbers_learned(halves, continued=False, rate=rate) == JOBS * OWN
    assert numbers_learned(halves[:1], continued=True) == OWN


def test_on_the_same_rows_a_model_of_other_rates_tells_no_more_either() -> None:
    """Beyond what another job of the same rows tells, by whatever start."""
    everything = [np.arange(ROWS, dtype=np.int64)] * JOBS
    assert numbers_learned(everything, continued=False) == OWN
    assert numbers_learned(everything, continued=True) <= JOBS * OWN


def test_words_gain_bits_exactly_and_lose_them_to_the_nearest() -> None:
    words = np.array([[5, -6 % 2**64, 2**40]], np.uint64)
    assert np.array_equal(_rescale(words, 3), words * np.uint64(8))
    assert np.array_equal(_rescale(_rescale(words, 3), -3), words)
    assert np.array_equal(_rescale(words, -2).view(np.int64), [[1, -1, 2**38]])
    assert Gain(0, -1) < Gain(1, 0)
