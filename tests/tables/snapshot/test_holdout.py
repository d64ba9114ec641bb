"""Which rows a column holds out: from a day or a number on, or where a flag is true."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem, UnusableError
from tercet.tables.snapshot.holdout import mark_held_out
from tercet.tables.snapshot.snapshot import take_snapshot

DAYS = ["2026-05-31", "2026-06-01", "2026-06-01 10:00:00", "2027-01-01T00:00:00", "2025-12"]


def texts(*values: object) -> pa.Array:
    """A column as a snapshot has it."""
    return pa.array(values, pa.large_string())


@pytest.mark.parametrize(
    ("values", "start", "held_out"),
    [
        (DAYS, "2026-06-01", [False, True, True, True, False]),
        (["2", "10", "-3", "1e1"], 10.0, [False, True, False, True]),
        (["1", "0", "true", "False"], None, [True, False, True, False]),
    ],
)
def test_rows_from_a_day_or_number_on_or_with_a_flag_are_held_out(
    values: list[str], start: float | str | None, held_out: list[bool]
) -> None:
    assert mark_held_out("seen", texts(*values), start).tolist() == held_out


@pytest.mark.parametrize(
    ("values", "start"),
    [
        (["2026-06-01", None], "2026-06-01"),
        (["2026-06-01", "1.6.2026"], "2026-06-01"),
        (["3", "spring"], 2.0),
        (["3", None], 2.0),
        (["1", "2"], None),
        (["1", None], None),
    ],
)
def test_a_value_that_does_not_fit_is_counted_and_not_shown(values: list[str], start: float | str | None) -> None:
    with pytest.raises(UnusableError, match=r"'seen'.* 1 values") as caught:
        mark_held_out("seen", texts(*values), start)
    assert "spring" not in str(caught.value)
    assert "seen" not in caught.value.public


def write(path: Path, seen: pa.Array) -> TableSettings:
    """A table of two people, with a column that may hold rows out."""
    parquet.write_table(pa.table({"id": ["a", "b"], "age": [1.5, 2.5], "seen": seen}), path)
    return TableSettings(path=path, id="id", holdouts=("seen",))


def test_the_column_is_no_feature_and_counts_for_the_digest(tmp_path: Path) -> None:
    """A date would be refused as a feature, and need not be excluded."""
    digests = set()
    for day in (1, 2):
        settings = write(tmp_path / "t.parquet", pa.array([dt.date(2026, 6, day), None]))
        with take_snapshot("t", settings, tmp_path / "work", with_label=False) as snapshot:
            assert [one.name for one in snapshot.columns] == ["age"]
            assert snapshot.holdouts["seen"].to_pylist() == [f"2026-06-0{day}", None]
            digests.add(snapshot.digest())
    assert len(digests) == 2


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = write(tmp_path / "t.parquet", pa.array([True, False])).model_copy(update={"holdouts": ("saen",)})
    with pytest.raises(TableProblem, match="`holdouts` names 'saen'"):
        take_snapshot("t", settings, tmp_path / "work", with_label=False)
