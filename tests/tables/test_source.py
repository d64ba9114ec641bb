"""A table is read as it stands or refused with what to mend; the public sentence gives nothing away."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import TableSettings
from tables.source import Table, TableProblem, read_table

GOOD = "customer,age,sex,limit,defaulted\n007,41,f,1e3,0\n8,39.5,m,-2,1\n"


@pytest.fixture
def write(tmp_path):
    """A function from a text and settings to the settings of a table file with that text."""

    def write(text, name="bank.csv", **settings):
        path = tmp_path / name
        content = text.encode() if isinstance(text, str) else text
        path.write_bytes(content)
        given = {"id": "customer", "label": "defaulted", "categorical": ("sex",)} | settings
        return TableSettings(path=path, **given)

    return write


def problem(settings, *, with_label=True) -> TableProblem:
    """How reading fails."""
    with pytest.raises(TableProblem) as caught:
        read_table("customers", settings, with_label=with_label)
    return caught.value


def test_a_table_keeps_ids_as_text_columns_in_order_and_values_as_they_are(write):
    """Leading zeros of an id survive, and so does the order of the features."""
    table = read_table("customers", write(GOOD), with_label=True)
    assert (table.rows, table.ids, table.columns) == (2, ["007", "8"], ("age", "sex", "limit"))
    assert {name: list(values) for name, values in table.numeric.items()} == {"age": [41, 39.5], "limit": [1e3, -2]}
    assert list(table.categorical["sex"]) == ["f", "m"]
    assert table.label is not None
    assert list(table.label) == [0, 1]
    assert {values.dtype for values in (*table.numeric.values(), table.label)} == {np.dtype(np.float64)}


def test_a_gzipped_table_is_the_same_table(write):
    """The name's ending says so."""
    table = read_table("customers", write(gzip.compress(GOOD.encode()), name="bank.csv.gz"), with_label=True)
    assert (table.ids, table.columns) == (["007", "8"], ("age", "sex", "limit"))


def test_columns_choose_features_and_their_order(write):
    """What is not listed is not read, so it may hold anything."""
    text = GOOD.replace("41", "unknown")
    table = read_table("customers", write(text, columns=("limit", "sex")), with_label=False)
    assert table.columns == ("limit", "sex")
    assert list(table.numeric) == ["limit"]


def test_the_label_is_no_feature_even_where_nobody_asks_for_it(write):
    """And need not be there: rows to be scored have none."""
    assert read_table("customers", write(GOOD), with_label=False).columns == ("age", "sex", "limit")
    unlabelled = "customer,age,sex\n1,41,f\n"
    assert read_table("customers", write(unlabelled), with_label=False).label is None


def test_categories_are_texts_whatever_they_look_like(write):
    """1 and 01 are two categories, NA is Namibia."""
    table = read_table("customers", write("customer,sex\n1,1\n2,01\n3,NA\n"), with_label=False)
    assert list(table.categorical["sex"]) == ["1", "01", "NA"]


def test_a_table_shows_no_values_when_printed(write):
    """Tables end up in logs and tracebacks."""
    table = read_table("customers", write(GOOD), with_label=True)
    assert repr(table) == "Table('customers': 2 rows, 2 numeric and 1 categorical columns)"


ROW = "1,41,f,3,0\n"
HEAD = "customer,age,sex,limit,defaulted\n"

BAD_CONTENT = {
    "empty file": ("", "it is empty", "can't be read"),
    "no rows": (HEAD, "has no rows", "has no rows"),
    "a short row": (HEAD + ROW + "2,40\n", "line 3 has not 5 columns as those before but 2", "can't be read"),
    "a long row": (HEAD + "2,40,m,1,2,3\n", "line 2 has not 5 columns", "can't be read"),
    "other delimiter": (GOOD.replace(",", ";"), "`id` names 'customer'", "lacks a column"),
    "bytes": (b"\x89PNG\r\n\x1a\n\0\0\0", "not CSV in UTF-8", "can't be read"),
    "another encoding": ((HEAD + "1,41,\xe9,3,0\n").encode("latin-1"), "not CSV in UTF-8", "can't be read"),
    "a name twice": (GOOD.replace("limit", "age"), "column 'age' stands more than once", "of the same name"),
    "an id twice": (
        HEAD + ROW + "2,1,m,1,0\n" + ROW,
        "id column 'customer' has 1 value already further up (line 4)",
        "has an id more than once",
    ),
    "an empty id": (HEAD + ROW + " ,1,m,1,0\n", "has 1 value empty (line 3)", "rows without an id"),
    "a missing number": (
        HEAD + "1,,f,3,0\n2,,m,3,0\n",
        "column 'age' has 2 values missing or NaN (line 2, 3)",
        "has missing values",
    ),
    "a NaN": (HEAD + "1,nan,f,3,0\n", "column 'age' has 1 value missing or NaN", "has missing values"),
    "an infinity": (HEAD + ROW + "2,1,m,-inf,0\n", "column 'limit' has 1 value not finite", "not finite"),
    "too large": (HEAD + "1,1,m,1e999,0\n", "column 'limit' has 1 value not finite", "not finite"),
    "a text": (
        HEAD + ROW + "2,old,m,3,0\n3,,m,3,0\n",
        "column 'age' should be numeric and has 1 value other than numbers (line 3)",
        "has text in a numeric column",
    ),
    "a missing category": (HEAD + "1,41,,3,0\n", "'sex' has 1 value missing", "has missing values"),
    "a missing label": (HEAD + "1,41,f,3,\n", "column 'defaulted' has 1 value", "has missing values"),
    "a label in words": (HEAD + "1,41,f,3,yes\n", "column 'defaulted' should be numeric", "text in a numeric"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_a_bad_table_is_refused_with_what_is_wrong_and_where(write, case):
    """In full to the owner; to the others without columns, lines or counts."""
    text, what, public = BAD_CONTENT[case]
    found = problem(write(text))
    assert what in found.what
    assert public in found.public
    assert found.remedy in str(found)
    for secret in ("age", "limit", "sex", "customer,", "defaulted", "line", "bank.csv", *"0123456789"):
        assert secret not in found.public


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "id": ({"id": "client"}, "`id` names 'client'", "lacks a column"),
    "label": ({"label": "paid"}, "`label` names 'paid'", "has no label"),
    "no label": ({"label": None}, "the settings name none", "has no label"),
    "label is the id": ({"label": "customer"}, "`label` names the id column", "has no label"),
    "categorical": ({"categorical": ("job", "sex")}, "`categorical` names 'job'", "lacks a column"),
    "columns": ({"columns": ("age", "income", "sex")}, "`columns` names 'income'", "lacks a column"),
    "unused": ({"columns": ("age",)}, "`categorical` names 'sex'", "described wrongly"),
    "id as a feature": ({"columns": ("customer", "sex")}, "`columns` names 'customer'", "described wrongly"),
    "label as a feature": ({"columns": ("defaulted", "sex")}, "names 'defaulted'", "described wrongly"),
    "none": ({"columns": (), "categorical": ()}, "no column beside id and label", "has no columns"),
    "twice": ({"columns": ("age", "age", "sex")}, "`columns` names 'age'", "described wrongly"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_fit_the_file_are_named(write, case):
    """By the setting and the column."""
    settings, what, public = BAD_SETTINGS[case]
    found = problem(write(GOOD, **settings))
    assert what in found.what
    assert public in found.public


def test_a_table_of_ids_and_labels_alone_is_refused(write):
    """There is nothing to train on."""
    assert "no column beside" in problem(write("customer,defaulted\n1,0\n", categorical=())).what


@pytest.mark.parametrize("name", ["missing.csv", "folder.csv", "bank.parquet"])
def test_a_file_that_is_none_or_no_csv_is_refused_by_its_path(tmp_path, name):
    """The path is for the owner only."""
    (tmp_path / "folder.csv").mkdir()
    found = problem(TableSettings(path=tmp_path / name, id="customer", label="defaulted"))
    assert name in found.what
    assert found.public == "the table 'customers' can't be read"


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: c[:-4], lambda _: GOOD.encode()])
def test_a_damaged_gzip_file_is_refused(write, damage):
    """Truncated or not gzip at all: never half a table."""
    content = gzip.compress((HEAD + "".join(f"{i},{i * i % 97},f,{i},0\n" for i in range(5000))).encode())
    found = problem(write(damage(content), name="bank.csv.gz"))
    assert "it can't be read: the file is damaged" in found.what


CELL = st.text(alphabet='abc19.,-"\n\r; é\x00', max_size=4)


@given(rows=st.lists(st.lists(CELL, max_size=4), max_size=5), raw=st.booleans(), noise=st.binary(max_size=40))
def test_whatever_the_file_holds_it_is_a_table_or_a_table_problem(tmp_path_factory, rows, raw, noise):
    """No other error escapes, and no error text quotes a long value."""
    path: Path = tmp_path_factory.mktemp("any") / "x.csv"
    path.write_bytes(noise if raw else "\n".join(["a,b,c", *map(",".join, rows)]).encode())
    settings = TableSettings(path=path, id="a", categorical=("b",))
    try:
        table = read_table("x", settings, with_label=False)
    except TableProblem:
        return
    assert isinstance(table, Table)
    assert len(set(table.ids)) == table.rows > 0
    assert np.isfinite(table.numeric["c"]).all()


@given(secret=st.text(alphabet="qwxz", min_size=6, max_size=12), place=st.sampled_from(["age", "row", "id", "label"]))
def test_no_error_quotes_a_value_of_the_table(tmp_path_factory, secret, place):
    """What the CSV library says about a bad row contains it, and stays inside."""
    lines = {
        "age": f"1,{secret},f,3,0\n",
        "row": f"1,{secret}\n",
        "id": f"{secret},1,f,3,0\n{secret},1,f,3,0\n",
        "label": f"1,41,f,3,{secret}\n",
    }
    path: Path = tmp_path_factory.mktemp("any") / "x.csv"
    path.write_text(HEAD + lines[place])
    found = problem(TableSettings(path=path, id="customer", label="defaulted", categorical=("sex",)))
    assert secret not in f"{found}{found.what}{found.public}"
    assert found.__cause__ is None
    assert found.__suppress_context__
