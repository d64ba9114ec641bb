"""Words of rows lie in a file that goes with the process, or that is found again."""

import stat
from pathlib import Path

import numpy as np

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
