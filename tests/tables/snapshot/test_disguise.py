"""A column of numbers, dates or truth values with odd cells is never taken for categories without its owner's word."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.snapshot.disguise import FORMS, OTHER, forms_of
from tercet.tables.snapshot.preview import preview_table
from tercet.tables.snapshot.snapshot import Snapshot, take_snapshot

ROWS, ODD = 200, 55  # and the row with the odd cell
NUMBERS = [f"{row * 1.37:.2f}" for row in range(ROWS)]
PUBLIC = "the table 'people' has a column of which its owner's settings do not say what it is"


def file(folder: Path, cells: list[str], **settings: Any) -> TableSettings:
    """The settings of a CSV file with a column `x` of these cells, and one of texts."""
    rows = "".join(f'{row},"{cell}",region {row % 3}\n' for row, cell in enumerate(cells))
    (folder / "t.csv").write_text(f"customer,x,region\n{rows}")
    return TableSettings(path=folder / "t.csv", id="customer", **settings)


def kind_of_x(settings: TableSettings, folder: Path) -> tuple[Snapshot, str]:
    """A snapshot, and what its column `x` is taken for."""
    with take_snapshot("people", settings, folder / "work", with_label=False) as snapshot:
        return snapshot, next(one.kind for one in snapshot.columns if one.name == "x")


def refusal(settings: TableSettings, folder: Path) -> TableProblem:
    """How the table is refused; a look refuses it as well, or tells nothing where these are not all its rows."""
    try:
        found = preview_table("people", settings, with_label=False)
    except TableProblem:
        pass
    else:
        assert (found.preview, found.rows) == (None, None)
    with pytest.raises(TableProblem) as caught:
        take_snapshot("people", settings, folder / "work", with_label=False)
    return caught.value


def odd(cell: str) -> list[str]:
    """Numbers but for one cell."""
    return [*NUMBERS[:ODD], cell, *NUMBERS[ODD + 1 :]]


@pytest.mark.parametrize("cell", ["?", " ?", "None", "-", "<NA>"])
def test_a_sign_for_nothing_leaves_a_column_of_numbers_one_and_is_told(tmp_path, cell):
    """With the line where it stands."""
    snapshot, kind = kind_of_x(file(tmp_path, odd(cell)), tmp_path)
    assert kind == "numeric"
    reported = "column 'x' has 1 value read as missing: a sign such as ? or None (line 57)"
    assert snapshot.notes == (reported,)
    assert kind_of_x(file(tmp_path, NUMBERS), tmp_path)[0].notes == ()


@pytest.mark.parametrize("cell", ["1,234.50", "5%", "x", "<5", "not said", "true", "2020-01-01", "12 EUR"])
def test_one_odd_cell_among_numbers_is_refused_with_its_line(tmp_path, cell):
    """To the others nothing is said but that the party has to mend its settings."""
    found = refusal(file(tmp_path, odd(cell)), tmp_path)
    assert "column 'x' is text, and nearly all of it looks like numbers" in found.what
    assert "1 value other than plain numbers (line 57)" in found.what
    assert "`numeric` or `categorical`" in found.remedy
    assert found.public == PUBLIC


def test_a_line_of_names_that_comes_again_is_refused(tmp_path):
    """As where files were put together."""
    assert "(line 57)" in refusal(file(tmp_path, odd("x")), tmp_path).what


@pytest.mark.parametrize("cells", [odd("true"), ["true", "7"], ["0", "FALSE", "2"]])
def test_truth_values_among_numbers_are_refused_where_the_settings_say_numbers_too(tmp_path, cells):
    """They would be 1 and 0; beside nothing but these they are."""
    with pytest.raises(TableProblem, match="column 'x' should be numeric and has 1 value written as true or false"):
        kind_of_x(file(tmp_path, cells, numeric=("x",)), tmp_path)
    assert kind_of_x(file(tmp_path, ["true", "0", "", "False", "1"], numeric=("x",)), tmp_path)[1] == "numeric"


def test_many_odd_cells_are_refused_where_nearly_all_different_texts_are_numbers(tmp_path):
    """A third of the customers have not said."""
    cells = ["not said" if row % 3 == 0 else number for row, number in enumerate(NUMBERS)]
    assert "67 values other than plain numbers (line 2, 5, 8, ...)" in refusal(file(tmp_path, cells), tmp_path).what


OTHERS = {
    "money": [f"${row},000.00" for row in range(ROWS)],
    "shares": [f"{row / 2} %" for row in range(ROWS)],
    "dates": [f"2020-01-{row % 28 + 1:02d}" if row != ODD else "soon" for row in range(ROWS)],
    "days first": [f"{row % 28 + 1}.1.2020" for row in range(ROWS)],
    "months": [f"{row % 28 + 1}-Jan-2020" for row in range(ROWS)],
    "times": [f"{row % 24}:05" if row != ODD else "noon" for row in range(ROWS)],
    "truth values": ["true" if row % 2 else "False" for row in range(ROWS - 1)] + ["perhaps"],
}


@pytest.mark.parametrize("case", OTHERS)
def test_whatever_else_is_guessed_is_refused_likewise(tmp_path, case):
    """Dates, times, truth values, and numbers as people write them."""
    found = refusal(file(tmp_path, OTHERS[case]), tmp_path)
    assert "column 'x' is text" in found.what
    for cell in OTHERS[case]:
        assert cell not in found.what


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ("numbers", ["inf", "-Infinity", "+INF", "7", "$ 5", ".5"]),
        ("dates or times", ["2020-01-01", "1 Jan 2020", "1. März 2020", "1 авг. 2020", "January 1, 2020", "12:05 pm"]),
        ("truth values", ["true", "false"]),
    ],
)
def test_every_form_is_found_among_other_texts(form, texts):
    """With digits or without; what holds a number or a truth value is none."""
    others = ["owner", "A1", "infant", "untrue", "3XL", "4 — 2020", ""]
    place = list(FORMS).index(form)
    assert forms_of(pa.array([*others, *texts], pa.large_string())).tolist() == [OTHER] * 7 + [place] * len(texts)
    assert forms_of(pa.array(others[:1], pa.large_string())).tolist() == [OTHER]


CATEGORIES = {
    "words": ["owner", "tenant", "lodger"],
    "ranges": ["18-25", "26-40", "41-65", "66+"],
    "codes": ["A1", "A2", "B1"],
    "sizes": ["3XL", "XL", "12a"],
    "grades": ["1", "2", "A", "B"],
    "yes and no": ["yes", "no"],
}


@pytest.mark.parametrize("case", CATEGORIES)
def test_categories_are_not_mistaken_for_numbers(tmp_path, case):
    """However many rows there are of each."""
    cells = [CATEGORIES[case][row % len(CATEGORIES[case])] for row in range(ROWS)]
    assert kind_of_x(file(tmp_path, cells), tmp_path)[1] == "categorical"


def test_what_the_owner_says_counts(tmp_path):
    """Categories that look like numbers, and numbers that are texts."""
    assert kind_of_x(file(tmp_path, odd("x"), categorical=("x",)), tmp_path)[1] == "categorical"
    parquet.write_table(pa.table({"customer": range(ROWS), "x": NUMBERS}), tmp_path / "t.parquet")
    settings = TableSettings(path=tmp_path / "t.parquet", id="customer")
    assert "column 'x' is text, and all of it looks like numbers" in refusal(settings, tmp_path).what
    said = settings.model_copy(update={"numeric": ("x",)})
    assert kind_of_x(said, tmp_path)[1] == "numeric"


def test_the_first_odd_cell_may_come_late(tmp_path):
    """After more texts than are remembered, in a file of several blocks."""
    cells = [f"{row:040}%" for row in range(30_000)]
    assert "(line 2, 3, 4, ...)" in refusal(file(tmp_path, cells), tmp_path).what
