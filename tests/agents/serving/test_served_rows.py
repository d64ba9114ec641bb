"""What was asked for and answered is found again, from the disk too, and takes few bytes."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.alignment.scored_ids import SERVED, ScoredIds
from tercet.agents.serving.served_rows import ASKED, Answers, DayCount, ServedRows


def opened(folder: Path) -> ServedRows:
    """The rows of one model, as they lie on the disk."""
    return ServedRows(ScoredIds(folder, ("model", ""), bytes(32)), DayCount())


def records(rows: ServedRows, *answers: int) -> Answers:
    """One for each, of rows 1, 2, ..., beyond what a signed number holds."""
    ids = ~np.arange(len(answers), dtype=np.uint64)
    return rows.make(ids, np.array(answers, np.uint64))


def test_what_is_noted_is_found_before_and_after_it_is_sorted_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's other answer counts, its first does not, and what was asked for does."""
    monkeypatch.setattr("tercet.agents.serving.served_rows.MOST_RECENT", 3)
    rows = opened(tmp_path)
    rows.note(records(rows, ASKED, ASKED, 2**64 - 5, 7), repeat=True)  # which are sorted in
    changed = records(rows, ASKED, ASKED, 2**64 - 6, 7)[2:3]
    assert rows.answered(changed).all()
    assert not rows.has(changed).any()
    assert rows.most_after(changed) == 2
    rows.note(changed, repeat=True)
    for one in (rows, opened(tmp_path)):
        assert one.has(records(one, ASKED, ASKED, 2**64 - 5, 7)).all()
        assert one.has(changed).all()
        assert not one.has(records(one, 1, 1, 1, 1)).any()
        assert (one.count, one.most_answers) == (3, 2)
    assert rows.day.count == opened(tmp_path).of_today == 3


def test_a_row_takes_few_bytes_of_memory(tmp_path: Path) -> None:
    """A table may have millions."""
    count, found = 50_000, opened(tmp_path)
    many = np.zeros(count, SERVED)
    many["id"], many["answer"] = np.random.default_rng(0).integers(0, 2**63, (2, count), np.uint64)
    found.note(many[:1], repeat=True)
    found._scored.served_path.write_bytes(many.tobytes())
    tracemalloc.start()
    rows = opened(tmp_path)
    assert tracemalloc.get_traced_memory()[0] < 20 * count
    tracemalloc.stop()
    assert rows.has(many[-5:]).all()
