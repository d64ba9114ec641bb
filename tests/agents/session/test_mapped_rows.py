"""Words of rows lie in a file that goes with the process, or that is found again."""

import stat
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.session.mapped_rows import MappedRows

ROWS, WORDS = np.array([4, 1]), np.array([[1, 2, 3], [4, 5, 6]], np.uint64)


def written(path: Path, *, keep: bool) -> MappedRows:
    """Two of five rows are there."""
    rows = MappedRows(path, 5, 3, keep=keep)
    rows.write_rows(ROWS, WORDS)
    return rows


def test_a_file_that_is_kept_is_found_again(tmp_path: Path) -> None:
    """For its owner only."""
    path = tmp_path / "job" / "rows"
    written(path, keep=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert np.array_equal(MappedRows(path, 5, 3, keep=True).read_rows(ROWS), WORDS)


def test_runs_of_rows_are_written_where_they_belong(tmp_path: Path) -> None:
    """Whatever their order; a row that is not there is refused, and changes nothing."""
    store, rng = MappedRows(tmp_path / "rows", 9, 2), np.random.default_rng(0)
    expected = np.zeros((9, 2), np.uint64)
    for rows in ([3, 4, 5], [8, 0, 1, 7], [2], [6, 5], []):
        words = rng.integers(0, 2**64, (len(rows), 2), np.uint64)
        store.write_rows(np.array(rows, np.int64), words)
        expected[rows] = words
        assert np.array_equal(store.words, expected)
    for rows in ([8, 9], [-1]):
        with pytest.raises(IndexError):
            store.write_rows(np.array(rows), np.ones((len(rows), 2), np.uint64))
    assert np.array_equal(store.words, expected)


def test_any_other_file_has_no_name(tmp_path: Path) -> None:
    """And does not find one that has."""
    path = tmp_path / "rows"
    assert np.array_equal(written(path, keep=False).read_rows(ROWS), WORDS)
    assert not path.exists()
    written(path, keep=True)
    assert not MappedRows(path, 5, 3).read_rows(ROWS).any()


def test_a_file_of_another_size_is_made_anew(tmp_path: Path) -> None:
    """Whoever has mapped the old one still reads it."""
    path = tmp_path / "rows"
    old = written(path, keep=True)
    assert not MappedRows(path, 4, 3, keep=True).read_rows(np.arange(4)).any()
    assert np.array_equal(old.read_rows(ROWS), WORDS)
    assert path.stat().st_size == 8 * 4 * 3
