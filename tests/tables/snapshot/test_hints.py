"""An owner is pointed at empty columns, codes among numbers, and a label of two classes; of others nothing is said."""

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.snapshot.hints import CODE, EMPTY, hints
from tercet.tables.snapshot.snapshot import take_snapshot

ROWS = range(40)
LABEL = [f"{row % 2}" for row in ROWS]


@pytest.fixture
def hinted(tmp_path):
    """A function from columns and settings to hints, of a Parquet file or, where all is text, a CSV file."""

    def hinted(columns, label=LABEL, *, as_csv=False, **settings):
        table = pa.table({"customer": [f"c{row}" for row in ROWS], "paid": label, **columns})
        path = tmp_path / ("t.csv" if as_csv else "t.parquet")
        (csv.write_csv if as_csv else parquet.write_table)(table, path)
        supplied = TableSettings(path=path, id="customer", label="paid", **settings)
        with take_snapshot("people", supplied, tmp_path / "work", with_label=True, label_kind=None) as snapshot:
            return hints(snapshot, supplied)

    return hinted


CODES = {
    "zip": [501 + row for row in ROWS],
    "ZIP code": [10.0 + row for row in ROWS],
    "plz": [10115 + row for row in ROWS],
    "branch_id": [*range(1, 40), None],
    "area": [20_000 + 7 * row for row in ROWS],
}
QUANTITIES = {
    "age": [18 + row for row in ROWS],
    "income": [9_000 + 700 * row for row in ROWS],
    "idle": list(ROWS),
    "zip": [row / 7 for row in ROWS],
    "code": [row % 2 for row in ROWS],
    "id": [-row for row in ROWS],
    "distance": [10_000.5 + row for row in ROWS],
    "always": [12_345 for _ in ROWS],
}


@pytest.mark.parametrize("name", CODES)
def test_whole_numbers_that_are_called_codes_or_look_like_them_get_a_hint(hinted, name):
    """Unless the settings say what they are."""
    columns = {name: CODES[name], "x": [row / 3 for row in ROWS]}
    assert hinted(columns) == {name: CODE}
    assert hinted(columns, numeric=(name,)) == {}
    assert hinted(columns, categorical=(name,)) == {}
    assert hinted(columns, exclude=(name,)) == {}


@pytest.mark.parametrize("name", QUANTITIES)
def test_quantities_and_truth_values_get_none(hinted, name):
    """A hint at every column would be read by nobody."""
    assert hinted({name: QUANTITIES[name], "x": [row / 3 for row in ROWS]}) == {}


def test_numbers_of_a_file_with_leading_zeros_get_a_hint(hinted):
    """Whose zeros would be gone; a fraction below one has none of these."""
    columns = {"region": [f"{row:04d}" for row in ROWS], "rate": [f"0.{row}" for row in ROWS]}
    assert hinted(columns, as_csv=True) == {"region": CODE}


def test_a_column_without_any_value_gets_a_hint(hinted):
    """Of whatever type it is."""
    columns = {"a": [None for _ in ROWS], "b": pa.array([None for _ in ROWS], pa.string()), "c": [1.5, *[None] * 39]}
    assert hinted(columns) == {"a": EMPTY, "b": EMPTY}
    assert hinted({"a": ["" for _ in ROWS], "x": [str(row) for row in ROWS]}, as_csv=True) == {"a": EMPTY}


@pytest.mark.parametrize(
    ("label", "positive", "said"),
    [
        (["yes", "no"] * 20, None, "yes is taken as the positive class"),
        ([1, 2] * 20, None, 'write positive = "..."'),
        (["good", "bad"] * 20, None, 'write positive = "..."'),
        (["good", "bad"] * 20, "good", None),
        ([1, 2] * 20, "2", None),
        ([0.5, 1.5, 2.5, 3.5] * 10, None, None),
        (["a", "b", "c", "d"] * 10, None, None),
    ],
)
def test_a_label_of_two_classes_gets_a_hint_where_one_is_needed(hinted, label, positive, said):
    """Whatever a job will make of it."""
    found = hinted({"x": [row / 3 for row in ROWS]}, label, positive=positive)
    assert found.keys() == (set() if said is None else {"paid"})
    assert said is None or said in found["paid"]


def test_a_file_that_is_gone_meanwhile_is_a_problem_of_its_table(tmp_path):
    """Told as any other."""
    (tmp_path / "t.csv").write_text("customer,age\n1,2\n")
    settings = TableSettings(path=tmp_path / "t.csv", id="customer")
    with take_snapshot("people", settings, tmp_path / "work", with_label=False) as snapshot:
        (tmp_path / "t.csv").unlink()
        with pytest.raises(TableProblem, match="table 'people'"):
            hints(snapshot, settings)
