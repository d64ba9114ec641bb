"""An index of a data frame is no feature, and what may be one, or tells the label by itself, is told the owner."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.snapshot.leakage import leakage_warnings
from tercet.tables.snapshot.snapshot import Snapshot, take_snapshot

ROWS = 400
RNG = np.random.default_rng(5)
INDEX = "__index_level_0__"
RANGE = {"kind": "range", "name": None, "start": 0, "stop": ROWS, "step": 1}


def written(folder: Path, columns: dict[str, Any], *index: Any) -> TableSettings:
    """A Parquet file as pandas writes it, with these columns as the index."""
    table = pa.table({"customer": range(ROWS), **columns})
    metadata = json.dumps({"index_columns": index, "columns": [], "pandas_version": "2.2.3"})
    parquet.write_table(table.replace_schema_metadata({"pandas": metadata}), folder / "t.parquet")
    return TableSettings(path=folder / "t.parquet", id="customer")


def obtained(folder: Path, settings: TableSettings, **how: Any) -> Snapshot:
    """A snapshot of which only what it says of columns is looked at."""
    with take_snapshot("people", settings, folder / "work", with_label=False, **how) as snapshot:
        return snapshot


def names(snapshot: Snapshot) -> list[str]:
    """The features."""
    return [one.name for one in snapshot.columns]


SHUFFLED = RNG.permutation(ROWS)
AGES = RNG.normal(40, 9, ROWS)


def test_the_index_that_pandas_notes_is_left_out_and_that_is_told(tmp_path):
    """Whatever it is called; where rows are only numbered, the file has no such column."""
    snapshot = obtained(tmp_path, written(tmp_path, {"age": AGES, INDEX: SHUFFLED}, INDEX))
    assert names(snapshot) == ["age"]
    assert snapshot.notes == (f"column '{INDEX}' is the index of a data frame and is left out; `columns` may name it",)
    assert names(obtained(tmp_path, written(tmp_path, {"age": AGES, "branch": SHUFFLED}, "branch"))) == ["age"]
    for index in ((RANGE,), (), ("customer",)):
        snapshot = obtained(tmp_path, written(tmp_path, {"age": AGES}, *index))
        assert (names(snapshot), snapshot.notes) == (["age"], ())


def test_an_index_that_the_owner_or_a_model_wants_is_used(tmp_path):
    """That is a word of theirs."""
    settings = written(tmp_path, {"age": AGES, INDEX: SHUFFLED}, INDEX)
    for said in ({"columns": ("age", INDEX)}, {"numeric": (INDEX,)}, {"categorical": (INDEX,)}):
        assert names(obtained(tmp_path, settings.model_copy(update=said))) == ["age", INDEX]
    snapshot = obtained(tmp_path, settings, expected={INDEX: "numeric"})
    assert (names(snapshot), snapshot.notes) == ([INDEX], ())


def test_a_table_of_nothing_but_an_index_has_no_columns(tmp_path):
    """And says so."""
    with pytest.raises(TableProblem, match="no column beside id and label"):
        obtained(tmp_path, written(tmp_path, {INDEX: SHUFFLED}, INDEX))


@pytest.mark.parametrize("metadata", [b"", b"[]", b'{"index_columns": 3}', b"\xff"])
def test_notes_that_are_none_are_passed_over(tmp_path, metadata):
    """As another library may write them."""
    table = pa.table({"customer": range(ROWS), "age": AGES}).replace_schema_metadata({"pandas": metadata})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert names(obtained(tmp_path, TableSettings(path=tmp_path / "t.parquet", id="customer"))) == ["age"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_column_without_a_name_is_warned_of(tmp_path, name):
    """A CSV file cannot say that it is an index."""
    rows = "".join(f"{SHUFFLED[row]},{row},{AGES[row]}\n" for row in range(ROWS))
    (tmp_path / "t.csv").write_text(f"{name},customer,age\n{rows}")
    (note,) = obtained(tmp_path, TableSettings(path=tmp_path / "t.csv", id="customer")).notes
    assert note.startswith(f"column {name!r} has no name of its own")


def test_a_column_that_counts_the_rows_is_warned_of_whatever_its_name(tmp_path):
    """From any number on, over batches; one step of two, or a gap, and it does not count."""
    count = np.arange(70_000) + 17.0
    skipping, gaps = count.copy(), count.copy()
    skipping[66_000:] += 1
    gaps[3] = np.nan
    columns = {"number": count, "skips": skipping, "gaps": gaps, "back": count[::-1]}
    parquet.write_table(pa.table({"customer": range(70_000), **columns}), tmp_path / "t.parquet")
    (note,) = obtained(tmp_path, TableSettings(path=tmp_path / "t.parquet", id="customer")).notes
    assert note.startswith("column 'number' only counts the rows")


# --- columns that tell the label


def reported(folder: Path, label: Any, columns: dict[str, Any], *, classes: bool) -> list[str]:
    """The columns that are warned of, of a table with this label."""
    table = pa.table({"customer": range(len(label)), "label": label, **columns})
    parquet.write_table(table, folder / "t.parquet")
    settings = TableSettings(path=folder / "t.parquet", id="customer", label="label")
    kind: Any = "categorical" if isinstance(label[0], str) else "numeric"
    with take_snapshot("people", settings, folder / "work", with_label=True, label_kind=kind) as snapshot:
        found = leakage_warnings(snapshot, np.ones(len(label), np.bool_), classes=classes)
    assert all("alone tells nearly every label" in warning for warning in found)
    return [warning.split("'")[1] for warning in found]


def test_what_tells_yes_from_no_is_warned_of_and_what_only_helps_is_not(tmp_path):
    """Copies, what is filled in later, an index of sorted rows; not a good feature, nor a name for each row."""
    label = np.sort(RNG.integers(0, 2, ROWS))
    columns = {
        "copy": 5.0 - label,
        "word": np.where(label, "late", "on time"),
        "filled in later": [float(day) if is_late else None for day, is_late in zip(SHUFFLED, label, strict=True)],
        "index": np.arange(ROWS),
        "good": label + RNG.normal(0, 0.5, ROWS),
        "none": RNG.normal(0, 1, ROWS),
        "own name": [f"customer {row}" for row in range(ROWS)],
        "empty": pa.nulls(ROWS, pa.float64()),
    }
    assert reported(tmp_path, label, columns, classes=True) == ["copy", "word", "filled in later", "index"]


def test_so_is_what_tells_several_classes_or_a_number(tmp_path):
    """By the same measure for each class; of a number, nearly all of its variance."""
    kinds = RNG.integers(0, 3, ROWS)
    columns = {"copy": kinds * 2, "one of them": kinds == 1, "none": RNG.normal(0, 1, ROWS)}
    assert reported(tmp_path, [f"kind {kind}" for kind in kinds], columns, classes=True) == ["copy"]
    price = np.exp(RNG.normal(3, 0.5, ROWS))
    columns = {"net": price / 1.19, "size": price + RNG.normal(0, 5, ROWS)}
    assert reported(tmp_path, price, columns, classes=False) == ["net"]


def test_a_few_rows_say_nothing(tmp_path):
    """Among so few chance may be right."""
    label = np.array([0] * 300 + [1] * 12)
    assert reported(tmp_path, label, {"copy": label}, classes=True) == []
    assert reported(tmp_path, [0.5, 1.5], {"copy": [0.5, 1.5]}, classes=False) == []
