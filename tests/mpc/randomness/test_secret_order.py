"""The order of rows is that of their words, and equal words stand by their place."""

import numpy as np
import pytest

from tercet.mpc.randomness.secret_order import _indices


@pytest.mark.parametrize("different", [1, 3, 100, 2**63])
def test_rows_are_sorted_by_words_and_equal_words_by_place(different):
    words = np.random.default_rng(different).integers(0, different, 5000, dtype=np.uint64)
    assert np.array_equal(_indices(words), np.argsort(words, kind="stable"))
