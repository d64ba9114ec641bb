"""A snapshot is the table as it was, or a refusal with what to mend; the public sentence gives nothing away."""

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.values import as_numbers
from tercet.tables.snapshot.snapshot import MOST_DISTINCT, describe, take_snapshot

GOOD = "customer,age,sex,limit,defaulted\n007,41,f,1e3,0\n8,,m,-2,1\n"
HEAD = "customer,age,sex,limit,defaulted\n"
ROW = "1,41,f,3,0\n"
USED: dict[str, Any] = {"id": "customer", "label": "defaulted"}


@pytest.fixture
def write(tmp_path):
    """A function from a text or columns, and settings, to the settings of a table file with that content."""

    def write(content, **settings):
        if isinstance(content, pa.Table):
            parquet.write_table(content, tmp_path / "bank.parquet")
            return TableSettings(path=tmp_path / "bank.parquet", **USED | settings)
        (tmp_path / "bank.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        return TableSettings(path=tmp_path / "bank.csv", **USED | settings)

    return write


@pytest.fixture
def snapshot_of(write, tmp_path):
    """A function that takes a snapshot of such a file; all are closed in the end."""
    obtained = []

    def snapshot_of(content, *, with_label=False, label_kind="numeric", expected=None, own_ids=False, **settings):
        supplied, how = write(content, **settings), {"with_label": with_label, "label_kind": label_kind}
        how["own_ids"] = own_ids
        obtained.append(take_snapshot("customers", supplied, tmp_path / "work", **how, expected=expected))
        return obtained[-1]

    yield snapshot_of
    for snapshot in obtained:
        snapshot.close()


@pytest.fixture
def problem(write, tmp_path):
    """A function that finds how taking such a snapshot fails. Nothing is left on the disk."""

    def problem(content, *, with_label=True, label_kind="numeric", expected=None, **settings) -> TableProblem:
        supplied, before = write(content, **settings), set(tmp_path.glob("work/*"))
        how = {"with_label": with_label, "label_kind": label_kind}
        with pytest.raises(TableProblem) as caught:
            take_snapshot("customers", supplied, tmp_path / "work", **how, expected=expected)
        assert set(tmp_path.glob("work/*")) == before
        return caught.value

    return problem


# --- what is in it


@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize("asked", [{"with_label": True}, {"expected": {}}])
def test_a_table_may_hold_labels_alone_or_ids_alone(snapshot_of, columnar, asked):
    """Of a label party; for a prediction it has not even labels. Its batches have rows all the same."""
    ids = pa.table({"customer": [f"c{row}" for row in range(7)]})
    content = ids.append_column("defaulted", pa.array([0, 1, 1, 0, 1, 0, 0])) if "with_label" in asked else ids
    snapshot = snapshot_of(content if columnar else _as_csv(content), **asked)
    assert (snapshot.rows, snapshot.columns) == (7, ())
    assert (snapshot.label is None) == ("expected" in asked)
    assert [batch.rows for batch in snapshot.batches(size=3)] == [3, 3, 1]
    marks = np.array([True, False, True, True, False, False, True])
    assert [batch.rows for batch in snapshot.batches(marks, size=3)] == [3, 1]
    assert [entry["kind"] for entry in describe(snapshot)] == ["id"] + ["label"] * ("with_label" in asked)


def _as_csv(content: pa.Table) -> str:
    rows = (",".join(map(str, row.values())) for row in content.to_pylist())
    return "\n".join([",".join(content.column_names), *rows])


def test_a_table_keeps_ids_columns_and_values(snapshot_of):
    """In the order of the file, with what is missing as it is."""
    snapshot = snapshot_of(GOOD, with_label=True)
    assert (snapshot.name, snapshot.rows, snapshot.ids.to_pylist()) == ("customers", 2, ["007", "8"])
    assert snapshot.label.tolist() == [0, 1]
    (batch,) = snapshot.batches()
    assert (batch.name, batch.rows, batch.columns) == ("customers", 2, ("age", "sex", "limit"))
    np.testing.assert_array_equal(batch.numeric["age"], [41, np.nan])
    np.testing.assert_array_equal(batch.numeric["limit"], [1000, -2])
    assert batch.categorical["sex"].tolist() == ["f", "m"]
    assert (batch.numeric["age"].dtype, batch.categorical["sex"].dtype) == (np.float64, np.object_)


def test_the_settings_choose_columns_order_and_kinds(snapshot_of):
    """What they do not name the type decides."""
    snapshot = snapshot_of(GOOD, columns=("limit", "sex", "age"), categorical=("age",), numeric=("limit",))
    found = [(one.name, one.kind, one.declared) for one in snapshot.columns]
    assert found == [("limit", "numeric", True), ("sex", "categorical", False), ("age", "categorical", True)]
    (batch,) = snapshot.batches()
    assert batch.categorical["age"].tolist() == ["41", None]


def test_a_column_with_cuts_is_numeric_and_must_be_there(snapshot_of, problem):
    """Though it looks like text."""
    snapshot = snapshot_of("customer,age,defaulted\n1,?,0\n", cuts={"age": (25.0,)})
    assert [(one.name, one.kind, one.declared) for one in snapshot.columns] == [("age", "numeric", True)]
    assert "`cuts` names 'ages', which the table does not have" in problem(GOOD, cuts={"ages": (25.0,)}).what
    assert "`cuts` names 'limit', which is not among the columns to use" in problem(
        GOOD, columns=("age",), cuts={"limit": (1.0,)}
    ).what  # fmt: skip


def test_the_settings_may_say_what_not_to_use_instead(snapshot_of, problem):
    """Even if it is a date; a name that is not there is told, as everywhere."""
    text = "customer,age,day,defaulted\n1,41,2020-01-01,0\n"
    assert [one.name for one in snapshot_of(text, exclude=("day",)).columns] == ["age"]
    assert [one.name for one in snapshot_of(text, exclude=("day", "customer", "defaulted")).columns] == ["age"]
    found = problem(text, exclude=("days",))
    assert "`exclude` names 'days', which the table does not have; did you mean 'day'?" in found.what
    assert found.lacks == ()


def test_columns_to_use_that_are_not_there_are_told_apart_from_others(problem):
    """Whoever has named them may be another party."""
    found = problem(GOOD, columns=("age", "shoe", "hat"))
    assert found.lacks == ("shoe", "hat")
    assert problem(GOOD, id="number").lacks == ()


def test_the_label_is_no_feature_even_where_nobody_asks_for_it(snapshot_of):
    """And need not be there: rows to be scored have none."""
    assert [one.name for one in snapshot_of(GOOD).columns] == ["age", "sex", "limit"]
    assert snapshot_of("customer,age\n1,41\n").label is None


def test_categories_are_texts_as_they_stand_and_numbers_are_not_guessed_from_them(snapshot_of):
    """1 and 01 are two categories, NA is Namibia where it is one and missing among numbers."""
    snapshot = snapshot_of("customer,sex,age\n1,1,1\n2,01,NA\n3,NA,2\n", categorical=("sex",))
    (batch,) = snapshot.batches()
    assert batch.categorical["sex"].tolist() == ["1", "01", "NA"]
    np.testing.assert_array_equal(batch.numeric["age"], [1, np.nan, 2])


def test_yes_and_no_are_numbers_and_so_is_a_column_of_nothing(snapshot_of):
    """Only text is taken for categories."""
    snapshot = snapshot_of("customer,a,b,defaulted\n1,true,,true\n2,false,,false\n", with_label=True)
    assert [one.kind for one in snapshot.columns] == ["numeric", "numeric"]
    assert snapshot.label.tolist() == [1, 0]
    assert snapshot.table.to_pydict() == {"a": [1, 0], "b": [None, None]}


def test_numbers_written_as_text_are_numbers_if_they_are_declared(snapshot_of):
    """As in a database where all columns are text."""
    table = pa.table({"customer": [1, 2], "age": ["41", " 7.5"], "n": ["1", "2"]})
    snapshot = snapshot_of(table, numeric=("age",), categorical=("n",))
    assert snapshot.table.to_pydict() == {"age": [41, 7.5], "n": ["1", "2"]}


def test_dates_may_be_categories_if_they_are_declared(snapshot_of):
    """The week of a campaign, say."""
    table = pa.table({"customer": [1], "day": pa.array([18262], pa.date32())})
    assert snapshot_of(table, categorical=("day",)).table.to_pydict() == {"day": ["2020-01-01"]}


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 12))
def test_batches_hold_the_marked_rows_in_order_each_once(tmp_path_factory, marks, size, group):
    """However the file is cut, `size` in every batch but the last."""
    folder = tmp_path_factory.mktemp("any")
    rows = len(marks)
    table = pa.table({"customer": range(rows), "age": range(rows), "sex": [f"s{row}" for row in range(rows)]})
    parquet.write_table(table, folder / "t.parquet")
    settings = TableSettings(path=folder / "t.parquet", **USED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tercet.tables.sources.parquet_source.BATCH", group)
        snapshot = take_snapshot("customers", settings, folder / "work", with_label=False)
    with snapshot:
        for mask in (None, np.array(marks)):
            batches = list(snapshot.batches(mask, size))
            wanted = np.arange(rows) if mask is None else np.flatnonzero(mask)
            assert [row for batch in batches for row in batch.numeric["age"].tolist()] == wanted.tolist()
            assert [t for batch in batches for t in batch.categorical["sex"]] == [f"s{row}" for row in wanted]
            assert all(batch.rows == len(batch.numeric["age"]) == size for batch in batches[:-1])


def test_marks_for_another_table_are_an_error(snapshot_of):
    """Of our own."""
    with pytest.raises(ValueError, match="marks for 2 rows"):
        list(snapshot_of(GOOD).batches(np.ones(3, np.bool_)))


def test_a_table_that_changes_later_does_not_change_its_snapshot(snapshot_of, write):
    """Nor one that is gone."""
    snapshot = snapshot_of(GOOD)
    write(GOOD.replace("41", "99")).path.unlink()
    for _ in range(2):
        (batch,) = snapshot.batches()
        assert batch.numeric["age"][0] == 41


OWN_IDS = {
    "text that is folded": pa.array(["x\u00b2", " y ", "z"]),
    "text as it is": pa.array(["x", "y", "z"]),
    "integers": pa.array([7, 8, 9], pa.int32()),
    "whole floats": pa.array([7.0, 8.0, 9.0]),
    "decimals": pa.array([7, 8, 9], pa.decimal128(9, 2)),
}


@pytest.mark.parametrize("case", OWN_IDS)
def test_a_table_has_its_own_ids_in_their_own_type_where_they_are_asked_for(snapshot_of, monkeypatch, case):
    """In all batches; where nobody asks they take no room."""
    monkeypatch.setattr("tercet.tables.sources.parquet_source.BATCH", 2)
    table = pa.table({"customer": OWN_IDS[case], "age": [1, 2, 3]})
    snapshot = snapshot_of(table, own_ids=True)
    assert snapshot.own_ids.to_pylist() == OWN_IDS[case].to_pylist()
    assert snapshot.own_ids.type in {OWN_IDS[case].type, pa.large_string()}
    assert pa.types.is_large_string(snapshot.own_ids.type) == pa.types.is_string(OWN_IDS[case].type)
    assert (snapshot.own_ids is snapshot.ids) == (case == "text as it is")
    snapshot = snapshot_of(table)
    assert snapshot.own_ids is snapshot.ids


def test_own_ids_of_a_csv_file_are_its_text(snapshot_of):
    """Leading zeros and all; those in a dictionary come without it, since a spreadsheet's formulas hide in one."""
    assert snapshot_of("customer,age\n 007,1\n8,2\n", own_ids=True).own_ids.to_pylist() == [" 007", "8"]
    table = pa.table({"customer": pa.array([" =1", "2"]).dictionary_encode(), "age": [1, 2]})
    assert snapshot_of(table, own_ids=True).own_ids.type == pa.large_string()


# --- where it is kept


def test_the_file_is_for_its_owner_only_and_goes_with_the_snapshot(snapshot_of, tmp_path):
    """What was read from it before stays."""
    snapshot = snapshot_of(GOOD)
    (path,) = (tmp_path / "work").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    (batch,) = snapshot.batches()
    snapshot.close()
    snapshot.close()
    assert not path.exists()
    assert batch.numeric["limit"].tolist() == [1000, -2]
    with pytest.raises(ValueError, match="closed"):
        list(snapshot.batches())


def test_the_file_goes_when_the_block_ends_in_an_error(write, tmp_path):
    """Whatever it is."""
    with (
        pytest.raises(KeyError),
        take_snapshot("customers", write(GOOD), tmp_path / "work", with_label=False),
    ):
        raise KeyError
    assert not list((tmp_path / "work").iterdir())


def test_a_folder_that_cant_be_written_is_no_fault_of_the_table(write, tmp_path):
    """And is told as such."""
    (tmp_path / "work").write_text("a file")
    with pytest.raises(FileExistsError):
        take_snapshot("customers", write(GOOD), tmp_path / "work", with_label=False)


def test_snapshot_and_batch_show_no_values_when_printed(snapshot_of):
    """They end up in logs and tracebacks."""
    snapshot = snapshot_of(GOOD)
    assert repr(snapshot) == "Snapshot('customers': 2 rows, 3 features)"
    assert repr(next(snapshot.batches())) == "Table('customers': 2 rows, 2 numeric and 1 categorical columns)"


def test_memory_does_not_grow_with_the_table(tmp_path):
    """Ids and label aside: 150,000 rows of 20 columns in one row group, and twice as many."""
    peaks = [_peak(tmp_path, rows) for rows in (150_000, 300_000)]
    more_features = 150_000 * 20 * 8
    more_ids_and_labels = 150_000 * (8 + 6 + 8)  # with the ids' offsets
    assert peaks[1] - peaks[0] < 2.5 * more_ids_and_labels < more_features / 2


def _peak(folder: Path, rows: int) -> int:
    path = folder / "t.parquet"
    random = np.random.default_rng(1)
    table = pa.table(
        {"customer": np.arange(rows), "y": np.zeros(rows), **{f"x{i}": random.random(rows) for i in range(20)}}
    )
    parquet.write_table(table, path, row_group_size=rows, use_dictionary=False)
    del table
    gc.collect()
    before = pa.total_allocated_bytes()
    seen = [0]
    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tercet.tables.snapshot.recorder.as_numbers", _watched(seen, before))
        settings = TableSettings(path=path, id="customer", label="y")
        with take_snapshot("t", settings, folder / "work", with_label=True) as snapshot:
            for batch in snapshot.batches():
                seen.append(pa.total_allocated_bytes() - before)
                assert batch.rows
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return max(seen) + python


def _watched(seen, before):
    def watched(column):
        seen.append(pa.total_allocated_bytes() - before)
        return as_numbers(column)

    return watched


# --- refusals

BAD_CONTENT = {
    "empty file": ("", "it is empty", "can't be read"),
    "no rows": (HEAD, "has no rows", "has no rows"),
    "a short row": (HEAD + ROW + "2,40\n", "line 3 has not 5 columns as those before but 2", "can't be read"),
    "a long row": (HEAD + "2,40,m,1,2,3\n", "line 2 has not 5 columns", "can't be read"),
    "a long line": (HEAD + f"2,40,{'m' * 3_000_000},1,2\n" + ROW, "longer than a megabyte", "can't be read"),
    "other delimiter": (GOOD.replace(",", ";"), "`id` names 'customer'", "lacks a column"),
    "bytes": (b"\x89PNG\r\n\x1a\n\0\0\0", "not CSV in UTF-8", "can't be read"),
    "another encoding": ((HEAD + "1,41,\xe9,3,0\n").encode("latin-1"), "not CSV in UTF-8", "can't be read"),
    "a typo in the id": (
        GOOD.replace("customer", "custommer"),
        "did you mean 'custommer'? Its columns are 'custommer', 'age', 'sex', 'limit', 'defaulted'",
        "lacks a column",
    ),
    "no such label": (
        GOOD.replace("defaulted", "default"),
        "`label` names 'defaulted', which the table does not have; did you mean 'default'? Its columns are 'customer',",
        "has no label",
    ),
    "a name twice": (GOOD.replace("limit", "age"), "column 'age' stands there more than once", "of the same name"),
    "an id twice": (
        HEAD + ROW + "2,1,m,1,0\n 1,2,m,1,0\n",
        "id column 'customer' has 1 value already further up (line 4)",
        "has an id more than once",
    ),
    "an empty id": (HEAD + ROW + " ,1,m,1,0\n", "has 1 value empty (line 3)", "rows without an id"),
    "an infinity": (HEAD + ROW + "2,1,m,-inf,0\n", "column 'limit' has 1 value not finite (line 3)", "not finite"),
    "too large": (HEAD + "1,1,m,1e999,0\n", "column 'limit' has 1 value not finite", "not finite"),
    "a text": (
        HEAD + "".join(f"{row},1,m,3,0\n" for row in range(2, 150_002)) + "A,old,m,3,0\nB,,m,3,0\nC,older,m,x,0\n",
        "has 2 values other than numbers (line 150002, 150004); column 'limit' should be numeric and has 1 value",
        "has text in a numeric column",
    ),
    "a missing label": (
        HEAD + "1,41,f,3,\n",
        "label column 'defaulted' has 1 value missing (line 2)",
        "has rows without a label",
    ),
    "a label of dates": (HEAD + "1,41,f,3,2020-01-01\n", "'defaulted' holds dates or times", "no label to learn"),
    "a label in words": (
        HEAD + "1,41,f,3,yes\n2,41,f,x,0\n",
        "label column 'defaulted' should be numeric for this model and has 1 value other than numbers (line 2)",
        "has a label that is not a number",
    ),
    "dates": (
        HEAD + "1,2020-01-01,f,10:30,0\n",
        "'age' holds dates or times; column 'limit' holds dates",
        "can't be used",
    ),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_a_bad_table_is_refused_with_what_is_wrong_and_where(problem, case):
    """In full to the owner; to the others without columns, lines or counts."""
    text, what, public = BAD_CONTENT[case]
    found = problem(text)
    assert what in found.what
    assert public in found.public
    assert found.remedy in str(found)
    for secret in ("age", "limit", "sex", "customer,", "defaulted", "line", "bank.csv", *"0123456789"):
        assert secret not in found.public


def test_missing_features_are_refused_where_the_settings_say_so(problem, snapshot_of):
    """All of them in one error; by default they are let through."""
    text = HEAD + "1,,f,3,0\n2,nan,,3,0\n3,4,,NA,0\n"
    found = problem(text, missing="refuse")
    assert "'age' has 2 values missing (line 2, 3); column 'sex' has 2 values missing (line 3, 4)" in found.what
    assert "column 'limit' has 1 value missing (line 4)" in found.what
    assert found.public == "the table 'customers' has missing values"
    assert snapshot_of(text, with_label=True).table.to_pydict() == {
        "age": [None, None, 4],
        "sex": ["f", None, None],
        "limit": [3, 3, None],
    }


def test_an_error_names_a_few_columns_and_counts_the_others(problem):
    """A table has thousands, perhaps."""
    names = [f"c{number}" for number in range(9)]
    text = ",".join(["customer", *names]) + "\n1" + ",inf" * 9 + "\n"
    found = problem(text, with_label=False)
    assert "'c4' has 1 value not finite (line 2); so have 4 more columns" in found.what


@pytest.mark.parametrize("values", [[b"x"], [[1]], [{"a": 1}], [np.timedelta64(1, "s")], [np.datetime64(1, "s")]])
def test_columns_that_are_neither_numbers_nor_text_are_refused_with_a_remedy(problem, values):
    """Unless they are left out."""
    found = problem(pa.table({"customer": [1], "x": values, "age": [1]}), with_label=False)
    assert "column 'x' holds " in found.what
    assert "leave it out with `exclude` or `columns`" in found.remedy
    assert found.public == "the table 'customers' has columns that can't be used"
    found = problem(pa.table({"customer": [1], "x": values}), with_label=False, numeric=("x",))
    assert "column 'x' holds " in found.what


def test_text_in_parquet_that_is_not_utf8_is_refused(problem):
    """Its type promises UTF-8 and nothing checks it."""
    broken = pa.array([b"\xff\xfe"]).view(pa.string())
    for names in (["customer", "x"], ["x", "customer"]):
        found = problem(pa.table([pa.array(["a"]), broken], names), with_label=False)
        assert f"column {names[1]!r} holds text that is not UTF-8" in found.what


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "id": ({"id": "client"}, "`id` names 'client'", "lacks a column"),
    "label": ({"label": "paid"}, "`label` names 'paid'", "has no label"),
    "no label": ({"label": None}, "the settings name none", "has no label"),
    "label is the id": ({"label": "customer"}, "`label` names the id column", "has no label"),
    "categorical": ({"categorical": ("job", "sex")}, "`categorical` names 'job'", "lacks a column"),
    "numeric": ({"numeric": ("job", "age")}, "`numeric` names 'job'", "lacks a column"),
    "columns": ({"columns": ("age", "income", "sex")}, "`columns` names 'income'", "lacks a column"),
    "unused category": (
        {"columns": ("age",), "categorical": ("sex",)},
        "`categorical` names 'sex'",
        "described wrongly",
    ),
    "unused number": ({"columns": ("sex",), "numeric": ("age",)}, "`numeric` names 'age'", "described wrongly"),
    "id as a feature": ({"columns": ("customer", "sex")}, "`columns` names 'customer'", "described wrongly"),
    "label as a feature": ({"columns": ("defaulted", "sex")}, "names 'defaulted'", "described wrongly"),
    "twice": ({"columns": ("age", "age", "sex")}, "`columns` names 'age'", "described wrongly"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_fit_the_table_are_named(problem, case):
    """By the setting and the column."""
    settings, what, public = BAD_SETTINGS[case]
    found = problem(GOOD, **settings)
    assert what in found.what
    assert public in found.public


def test_a_table_of_ids_alone_is_refused_where_no_label_is_asked_for(problem):
    """It adds nothing to a model; whose table may be so is said."""
    for content, settings in (("customer\n1\n", {}), (GOOD, {"columns": ()})):
        found = problem(content, with_label=False, **settings)
        assert "no column beside id and label" in found.what
        assert "only the label party" in found.remedy
        assert found.public == "the table 'customers' has no columns"


CELL = st.text(alphabet='abc19.,-"\n\r; é\x00', max_size=4)


@given(rows=st.lists(st.lists(CELL, max_size=4), max_size=5), raw=st.booleans(), noise=st.binary(max_size=40))
def test_whatever_the_file_holds_it_is_a_snapshot_or_a_table_problem(tmp_path_factory, rows, raw, noise):
    """No other error escapes."""
    folder: Path = tmp_path_factory.mktemp("any")
    (folder / "x.csv").write_bytes(noise if raw else "\n".join(["a,b,c", *map(",".join, rows)]).encode())
    settings = TableSettings(path=folder / "x.csv", id="a", categorical=("b",), numeric=("c",))
    try:
        snapshot = take_snapshot("x", settings, folder / "work", with_label=False)
    except TableProblem:
        assert not list(folder.glob("work/*"))
        return
    with snapshot:
        assert len(set(snapshot.ids.to_pylist())) == snapshot.rows > 0
        for batch in snapshot.batches():
            assert not np.isinf(batch.numeric["c"]).any()
            assert "" not in batch.categorical["b"].tolist()


@given(secret=st.text(alphabet="qwxz", min_size=6, max_size=12), place=st.sampled_from(["age", "row", "id", "label"]))
def test_no_error_quotes_a_value_of_the_table(tmp_path_factory, secret, place):
    """What the CSV library says about a bad row contains it, and stays inside."""
    lines = {
        "age": f"1,{secret},f,3,0\n",
        "row": f"1,{secret}\n",
        "id": f"{secret},1,f,3,0\n{secret},1,f,3,0\n",
        "label": f"1,41,f,3,{secret}\n",
    }
    folder: Path = tmp_path_factory.mktemp("any")
    (folder / "x.csv").write_text(HEAD + lines[place])
    settings = TableSettings(path=folder / "x.csv", numeric=("age",), **USED)
    with pytest.raises(TableProblem) as caught:
        take_snapshot("x", settings, folder / "work", with_label=True)
    found = caught.value
    assert secret not in f"{found}{found.what}{found.public}"
    assert found.__cause__ is None
    assert found.__suppress_context__


# --- at prediction

TRAINED: dict[str, Any] = {"limit": "numeric", "sex": "categorical"}


def test_a_model_gets_its_columns_in_its_order_whatever_the_settings_say(snapshot_of):
    """Other columns do no harm, be they dates."""
    text = "customer,extra,sex,limit\n1,2020-01-01,f,2\n"
    snapshot = snapshot_of(text, expected=TRAINED, columns=("sex", "nosuch"), numeric=("sex",))
    assert [(one.name, one.kind) for one in snapshot.columns] == list(TRAINED.items())
    assert snapshot.table.to_pydict() == {"limit": [2], "sex": ["f"]}


def test_categories_that_look_like_numbers_now_are_still_categories(snapshot_of):
    """A month without letters, or a gap that made a file's integers floats."""
    assert snapshot_of("customer,limit,sex\n1,1,01\n", expected=TRAINED).table["sex"].to_pylist() == ["01"]
    table = pa.table({"customer": [1, 2], "limit": ["1", "2.5"], "sex": [3.0, None]})
    assert snapshot_of(table, expected=TRAINED).table.to_pydict() == {"limit": [1, 2.5], "sex": ["3", None]}


def test_categories_are_found_however_another_program_has_spelt_them(snapshot_of):
    """A gap makes whole numbers floats, and then texts with a point."""
    text = "customer,limit,sex\n1,1,1.0\n2,1, f\n3,1,True\n4,1,\n"
    assert snapshot_of(text, expected=TRAINED).table["sex"].to_pylist() == ["1", "f", "true", None]


def test_every_column_that_differs_is_named_at_once(problem):
    """Those that are missing, those of another type, and those whose text is no number."""
    trained = TRAINED | {"a": "numeric", "b": "categorical", "d": "numeric", "age": "numeric"}
    text = "customer,sex,limit,d,age\n1,f,2,2020-01-01,5\n2,m,high,2020-01-01,6\n3,m,low,2020-01-01,x\n"
    found = problem(text, with_label=False, expected=trained)
    for said in (
        "the table lacks 'a', 'b'",
        "'d' was numeric and holds dates or times",
        "'limit' was numeric and holds text: 2 values other than numbers (line 3, 4)",
        "'age' was numeric and holds text: 1 value other than numbers (line 4)",
    ):
        assert said in found.what
    assert "'sex'" not in found.what
    assert found.public == "the table 'customers' has other columns than the model was trained on"


def test_all_columns_may_be_missing(problem):
    """A wrong table altogether."""
    found = problem("customer,x\n1,2\n", with_label=False, expected=TRAINED)
    assert "the table lacks 'limit', 'sex'" in found.what


def test_held_out_rows_have_labels_to_compare_with(snapshot_of, problem):
    """Evaluation asks for both; a bad label is still a bad label."""
    assert snapshot_of(GOOD, with_label=True, expected=TRAINED).label.tolist() == [0, 1]
    assert "'defaulted' should be numeric" in problem(GOOD.replace(",1\n", ",x\n"), expected=TRAINED).what
    assert "'defaulted' has 1 value missing" in problem(GOOD.replace(",1\n", ",?\n"), expected=TRAINED).what


# --- a label of classes


CLASSES = {
    "texts": (["pear", "apple", " plum", "apple"], ("apple", "pear", "plum"), [1, 0, 2, 0]),
    "whole numbers": ([10, 9, -1, 9], ("-1", "9", "10"), [2, 1, 0, 1]),
    "floats": ([10.0, 9.0, 0.0, 9.0], ("0", "9", "10"), [2, 1, 0, 1]),
    "booleans": ([True, False, True, True], ("false", "true"), [1, 0, 1, 1]),
    "a dictionary": (pa.array(["b", "a", "c", "a"]).dictionary_encode(), ("a", "b", "c"), [1, 0, 2, 0]),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_label_of_classes_is_read_as_ids_are(snapshot_of, case):
    """Numbers in their own order, texts without white space around them; the label says which one."""
    values, classes, label = CLASSES[case]
    snapshot = snapshot_of(
        pa.table({"customer": [1, 2, 3, 4], "age": [1, 2, 3, 4], "defaulted": values}),
        with_label=True,
        label_kind="categorical",
    )
    assert (snapshot.classes, snapshot.label.tolist()) == (classes, label)
    assert describe(snapshot)[1]["distinct"] == len(classes)


def test_a_file_of_any_length_gives_one_list_of_classes(snapshot_of):
    """Though it is read a megabyte at a time, and some classes come late."""
    rows = 200_000
    kinds = [f"kind {row // 50_000 * (row % 7)}" for row in range(rows)]
    text = HEAD + "".join(f"{row},1,m,3,{kind}\n" for row, kind in enumerate(kinds))
    snapshot = snapshot_of(text, with_label=True, label_kind="categorical")
    assert snapshot.classes == tuple(sorted(set(kinds)))
    assert [snapshot.classes[int(place)] for place in snapshot.label] == kinds


def test_a_csv_files_whole_numbers_are_the_classes_of_a_database(snapshot_of):
    """Only of a file with points or exponents they differ, as ids do."""
    text = HEAD + "1,41,f,3,2\n2,41,f,3,10\n3,41,f,3,1\n"
    assert snapshot_of(text, with_label=True, label_kind="categorical").classes == ("1", "2", "10")


def test_where_no_model_is_known_the_labels_type_decides(snapshot_of):
    """As `tercet table` has it."""
    assert snapshot_of(GOOD, with_label=True, label_kind=None).classes == ()
    assert snapshot_of(GOOD.replace(",1\n", ",late\n"), with_label=True, label_kind=None).classes == ("0", "late")


NO_CLASSES = {
    "a missing class": (HEAD + "1,41,f,3,a\n2,41,f,3,\n", "has 1 value missing (line 3)", "rows without a label"),
    "a class named NA": (
        HEAD + "1,41,f,3,a\n2,41,f,3,NA\n3,41,f,3,\n",
        "has 2 values missing (line 3, 4), 1 of them written as NA, null or the like",
        "rows without a label",
    ),
    "fractions": (
        pa.table({"customer": [1, 2], "age": [1, 2], "defaulted": [1.0, 2.5]}),
        "label column 'defaulted' has 1 value not whole (row 2)",
        "a label that is not of classes",
    ),
    "dates": (HEAD + "1,41,f,3,2020-01-01\n", "'defaulted' holds dates or times", "no label to learn"),
}


@pytest.mark.parametrize("case", NO_CLASSES)
def test_a_label_that_names_no_class_is_refused_with_what_is_wrong_and_where(problem, case):
    """Before anything leaves the party."""
    content, what, public = NO_CLASSES[case]
    found = problem(content, label_kind="categorical")
    assert what in found.what
    assert public in found.public
    assert "defaulted" not in found.public
    assert ("give it another name" in found.remedy) == ("NA" in case)


def test_the_positive_class_is_part_of_what_was_read(snapshot_of):
    """So that a run whose settings change meanwhile does not go on with other labels under the same masks."""
    text = HEAD + "1,41,f,3,good\n2,41,f,3,bad\n"
    good, bad = (snapshot_of(text, with_label=True, label_kind=None, positive=one) for one in ("good", "bad"))
    assert (good.chosen.positive, good.classes) == ("good", ("bad", "good"))
    assert good.digest() != bad.digest()
    assert snapshot_of(text, positive="good").digest() == snapshot_of(text, positive="bad").digest()


# --- what is said of it


def test_a_description_says_what_each_column_was_taken_for(snapshot_of):
    """And how much is missing, for the owner to check."""
    text = HEAD + "1,41,f,1,0\n2,,m,2,1\n3,43,,6,1\n"
    id_, label, age, sex, limit = describe(snapshot_of(text, with_label=True, numeric=("limit",)))
    keys = ("column", "kind", "declared", "missing", "mean", "distinct")
    assert {tuple(one) for one in (id_, label, age, sex, limit)} == {keys}  # in one order, as a table has them
    assert tuple(id_.values()) == ("customer", "id", True, 0, None, 3)
    assert tuple(label.values()) == ("defaulted", "label", True, 0, 2 / 3, None)
    assert tuple(age.values()) == ("age", "numeric", False, 1, 42, None)
    assert tuple(sex.values()) == ("sex", "categorical", False, 1, None, 2)
    assert tuple(limit.values()) == ("limit", "numeric", True, 0, 3, None)


def test_a_description_counts_no_more_categories_than_it_must(snapshot_of):
    """An id among them would fill the memory."""
    rows = MOST_DISTINCT + 1
    for distinct, said in ((rows, None), (rows - 1, rows - 1)):
        table = pa.table(
            {"customer": range(rows), "k": [f"k{row % distinct}" for row in range(rows)], "n": [None] * rows}
        )
        _, k, n = describe(snapshot_of(table))
        assert k["distinct"] == said
        assert n["mean"] is None
