"""Products that read rows where they are stored, against those of copied rows."""

import numpy as np
import pytest

from tercet.mpc.arithmetic.stored_rows import MOST_OUTPUTS, StoredRows
from tercet.mpc.interface.row_store import FirstUse

RNG = np.random.default_rng(7)
WORDS = RNG.integers(0, 2**64, (40, 21), np.uint64)
FEATURES = RNG.integers(-(2**31), 2**31, (40, 21)).astype(np.int32)


@pytest.mark.parametrize("outputs", [0, 1, 2, MOST_OUTPUTS, MOST_OUTPUTS + 1, 9])
@pytest.mark.parametrize("stored", [WORDS, FEATURES], ids=["words", "features"])
@pytest.mark.parametrize("rows", [0, 1, 33])
def test_products_are_those_of_copied_rows(stored: np.ndarray, rows: int, outputs: int) -> None:
    """Modulo 2^64, in any order, with repeated rows, and of the first columns alone."""
    index = RNG.integers(0, 40, rows)
    x = stored[index].astype(np.int64).view(np.uint64) if stored is FEATURES else stored[index]
    w, e = (RNG.integers(0, 2**64, (n, outputs), np.uint64) for n in (21, rows))
    found = StoredRows(stored, index)
    assert found.shape == (rows, 21)
    assert np.array_equal(found.copied, x)
    assert np.array_equal(found.product(w), x @ w)
    assert np.array_equal(found.product(w[:17]), x[:, :17] @ w[:17])
    assert np.array_equal(found.transposed_product(e), x.T @ e)
    for factor in (w, w[:17]):
        product, transposed = found.products(factor, e)
        assert np.array_equal(product, x[:, : len(factor)] @ factor)
        assert np.array_equal(transposed, x.T @ e)


def test_no_row_beyond_what_is_stored_is_read() -> None:
    """Nor one before it; and no product reads past its factor."""
    for index in ([0, 40], [-1], [-1, 40]):
        with pytest.raises(IndexError):
            StoredRows(WORDS, np.array(index))
    rows = StoredRows(WORDS, np.arange(3))
    for outputs in (1, 9):
        with pytest.raises(ValueError, match="shapes"):
            rows.product(np.ones((22, outputs), np.uint64))
        with pytest.raises(ValueError, match="shapes"):
            rows.transposed_product(np.ones((4, outputs), np.uint64))
        for w, e in ((22, 3), (21, 4)):
            with pytest.raises(ValueError, match="shapes"):
                rows.products(np.ones((w, outputs), np.uint64), np.ones((e, outputs), np.uint64))


def test_rows_are_numbered_by_their_first_use() -> None:
    """So what is new in a batch is one piece, whatever was before."""
    used = FirstUse(6)
    for rows, new, places in (([4, 1], [4, 1], [0, 1]), ([1, 5, 4, 0], [5, 0], [1, 2, 0, 3]), ([4], [], [0])):
        assert used.of(np.array(rows)).tolist() == new
        assert used.places(np.array(rows)).tolist() == places
    assert used.of(np.array([3, 2])).tolist() == [3, 2]
    assert used.of(np.array([3, 2])).tolist() == []
