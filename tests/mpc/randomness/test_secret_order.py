"""The order of rows is that of their words, and equal words stand by their place."""

import numpy as np
import pytest

from tercet.mpc.randomness.secret_order import _indices, choose_fold, choose_held_out

KEY = bytes(range(32))


@pytest.mark.parametrize("different", [1, 3, 100, 2**63])
def test_rows_are_sorted_by_words_and_equal_words_by_place(different):
    words = np.random.default_rng(different).integers(0, different, 5000, dtype=np.uint64)
    assert np.array_equal(_indices(words), np.argsort(words, kind="stable"))


def test_each_id_is_in_one_fold_and_folds_are_of_about_one_size() -> None:
    """Also the ids whose hash is at the edge of two; the first of k folds is what a holdout of 1/k chooses."""
    ids = [str(number).encode() for number in range(3000)]
    for folds in (2, 3, 5, 20):
        marks = [choose_fold(KEY, ids, fold, folds) for fold in range(1, folds + 1)]
        assert np.array_equal(np.sum(marks, axis=0), np.ones(len(ids)))
        assert all(abs(one.sum() - len(ids) / folds) < 5 * (len(ids) / folds) ** 0.5 for one in marks)
        assert np.array_equal(marks[0], choose_held_out(KEY, ids, 1 / folds))
    for fold in (0, 6):
        with pytest.raises(ValueError, match="counted from 1"):
            choose_fold(KEY, ids, fold, 5)
