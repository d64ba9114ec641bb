"""Every source gives the same table for the same data, is read in batches, and fails without quoting anything."""

import gzip
import socket
import sqlite3
from contextlib import closing, contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as postgresql
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem, UnusableError
from tercet.tables.snapshot.snapshot import take_snapshot
from tercet.tables.sources.csv_source import BLOCK
from tercet.tables.sources.source import open_source

ROWS = 2000
USED: dict[str, Any] = {"id": "customer", "label": "paid"}


def data() -> pa.Table:
    """Two thousand customers with something missing in every feature."""
    row = np.arange(ROWS)
    return pa.table(
        {
            "customer": row * 7 + 1,
            "age": pa.array(row % 80, mask=row % 11 == 0),
            "limit": pa.array(row / 7, mask=row % 5 == 0),
            "city": pa.array([f"Zürich {i % 3}" for i in row], mask=row % 13 == 0),
            "paid": row % 2,
        }
    )


CREATE = 'CREATE TABLE people (customer {integer}, age {integer}, "limit" {real}, city TEXT, paid {integer})'
TYPES = {"integer": "INTEGER", "real": "DOUBLE PRECISION"}
NUMERIC = {"integer": "NUMERIC(12, 2)", "real": "NUMERIC"}


def run(url, *statements) -> None:
    """Have PostgreSQL do something."""
    with postgresql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def fill_postgres(url, types) -> None:
    """Make the table there."""
    run(url, "DROP TABLE IF EXISTS people", CREATE.format(**types))
    with postgresql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        rows = data().to_pydict()
        rows["paid"] = [str(value) for value in rows["paid"]]
        for start in range(0, ROWS, 500):
            part = [tuple(column[row] for column in rows.values()) for row in range(start, start + 500)]
            values = ", ".join("(" + ", ".join("NULL" if v is None else repr(v) for v in row) + ")" for row in part)
            cursor.execute(f"INSERT INTO people VALUES {values}")


def as_csv(folder, request):
    csv.write_csv(data(), folder / "t.csv")
    return TableSettings(path=folder / "t.csv", **USED)


def as_gzip(folder, request):
    csv.write_csv(data(), folder / "t.csv")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    return TableSettings(path=folder / "t.csv.gz", **USED)


def as_parquet(folder, request):
    parquet.write_table(data(), folder / "t.parquet", row_group_size=300)
    return TableSettings(path=folder / "t.parquet", **USED)


def as_parquet_folder(folder, request):
    return TableSettings(path=spark_folder(folder), **USED)


def spark_folder(folder):
    """As Spark writes it: parts, one of them empty, checksums beside them, and a mark that it has finished."""
    parts = folder / "people.parquet"
    parts.mkdir()
    for number, (start, stop) in enumerate([(0, 700), (700, 700), (700, ROWS)]):
        part = parts / f"part-{number:05d}-c000.snappy.parquet"
        parquet.write_table(data().slice(start, stop - start), part, row_group_size=300)
        (parts / f".{part.name}.crc").write_bytes(b"crc")
    (parts / "_SUCCESS").touch()
    parquet.write_metadata(data().schema, parts / "_common_metadata")
    return parts


def as_parquet_of_other_types(folder, request):
    table = data()
    kinds = [pa.large_string(), pa.float32(), pa.float64(), pa.dictionary(pa.int8(), pa.string()), pa.bool_()]
    cast = [
        column.cast(kind) if "dict" not in str(kind) else column.dictionary_encode()
        for column, kind in zip(table, kinds, strict=True)
    ]
    parquet.write_table(pa.table(cast, table.column_names), folder / "t.parquet")
    return TableSettings(path=folder / "t.parquet", **USED)


def as_sqlite(folder, request):
    with closing(sqlite3.connect(folder / "a b?%.db")) as connection, connection:
        connection.execute(CREATE.format(**TYPES))
        connection.executemany(
            "INSERT INTO people VALUES (?, ?, ?, ?, ?)", [tuple(r.values()) for r in data().to_pylist()]
        )
    return TableSettings(database=f"sqlite:///{folder}/a b?%.db", query="SELECT * FROM people", **USED)


def as_postgresql(folder, request):
    url = request.getfixturevalue("postgres_url")
    fill_postgres(url, TYPES)
    return TableSettings(database=url, query="SELECT * FROM people ORDER BY customer", **USED)


def as_postgresql_numeric(folder, request):
    url = request.getfixturevalue("postgres_url")
    fill_postgres(url, NUMERIC)
    return TableSettings(database=url, query="SELECT * FROM people ORDER BY customer;", **USED)


SOURCES = [
    as_csv, as_gzip, as_parquet, as_parquet_folder, as_parquet_of_other_types, as_sqlite, as_postgresql,
    as_postgresql_numeric,
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_snapshot(source, tmp_path, request):
    """Ids, kinds, missing values, numbers to the last bit."""
    settings = source(tmp_path, request)
    with take_snapshot("people", settings, tmp_path / "work", with_label=True) as snapshot:
        assert [(one.name, one.kind, one.declared) for one in snapshot.columns] == [
            ("age", "numeric", False),
            ("limit", "numeric", False),
            ("city", "categorical", False),
        ]
        assert snapshot.ids.to_pylist() == [str(value) for value in data()["customer"].to_pylist()]
        assert snapshot.label is not None
        assert snapshot.label.tolist() == data()["paid"].to_pylist()
        assert snapshot.table.to_pydict() == data().select(["age", "limit", "city"]).to_pydict()


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_gives_the_columns_that_are_asked_for_in_that_order(source, tmp_path, request):
    """And no others, in every batch."""
    with closing(open_source(source(tmp_path, request))) as opened:
        assert opened.schema.names == data().column_names
        batches = list(opened.batches(["paid", "customer"]))
    assert {tuple(batch.schema.names) for batch in batches} == {("paid", "customer")}
    assert sum(batch.num_rows for batch in batches) == ROWS


# --- files


def problem(settings, folder, **how) -> TableProblem:
    """How taking a snapshot fails; nothing is left on the disk."""
    with pytest.raises(TableProblem) as caught:
        take_snapshot("people", settings, folder / "work", with_label=False, **how)
    assert not list(folder.glob("work/*"))
    found = caught.value
    assert found.__cause__ is None
    assert found.__suppress_context__
    assert found.public == "the table 'people' can't be read"
    return found


def test_a_wide_csv_file_is_read_many_rows_at_a_time(tmp_path):
    """What is done for each column of a batch would take longer than its cells."""
    rows, names = 1200, [f"column{number}" for number in range(400)]
    lines = [",".join(names), *[",".join(["0.12345678"] * len(names))] * rows]
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    batches = open_source(TableSettings(path=tmp_path / "wide.csv", id="column0")).batches(names)
    sizes = [batch.num_rows for batch in batches]
    assert sum(sizes) == rows
    assert max(sizes) > rows // 2


@pytest.mark.parametrize(
    "name", ["missing.csv", "missing.parquet", "folder.csv", "folder.parquet", "text.parquet", "x.xls"]
)
def test_a_file_that_is_none_or_something_else_is_refused_by_its_path(tmp_path, name):
    """The path is for the owner only."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "text.parquet").write_text("customer,age\n1,2\n")
    assert name in problem(TableSettings(path=tmp_path / name, **USED), tmp_path).what


def test_a_damaged_gzip_file_is_refused(tmp_path):
    """Truncated, in a block after the first or in its last bytes, or not gzip at all: never half a table."""
    plain = b"customer,age\n" + b"".join(b"%d,%d\n" % (i, i * i % 97) for i in range(250_000))
    content = gzip.compress(plain, compresslevel=1)
    assert len(plain) > 2 * BLOCK
    for damaged in (content[: 3 * len(content) // 4], content[:-4], plain[:20]):
        (tmp_path / "t.csv.gz").write_bytes(damaged)
        found = problem(TableSettings(path=tmp_path / "t.csv.gz", **USED), tmp_path)
        assert "it can't be read: the file is damaged" in found.what


def test_a_damaged_parquet_file_is_refused(tmp_path):
    """Wherever the damage is."""
    as_parquet(tmp_path, None)
    content = (tmp_path / "t.parquet").read_bytes()
    for start in (4, 1000, len(content) - 400):
        (tmp_path / "t.parquet").write_bytes(content[:start] + b"\xff" * 60 + content[start + 60 :])
        found = problem(TableSettings(path=tmp_path / "t.parquet", **USED), tmp_path)
        assert "it can't be read" in found.what


def test_parquet_with_nested_columns_beside_those_in_use_is_read(tmp_path):
    """A nested column's inner name may look like another column's."""
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": [3.5, 4.5], "customer": [1, 2]})
    parquet.write_table(table, tmp_path / "t.parquet")
    settings = TableSettings(path=tmp_path / "t.parquet", id="customer", columns=("a.b",))
    with take_snapshot("people", settings, tmp_path / "work", with_label=False) as snapshot:
        assert snapshot.table.to_pydict() == {"a.b": [3.5, 4.5]}
    with closing(open_source(settings)) as source:
        assert [batch.schema.names for batch in source.batches(["a.b"])] == [["a.b"]]


def damage_inside(parts):
    """Of one part, whose end is whole."""
    part = parts / "part-00002-c000.snappy.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:4] + b"\xff" * 60 + content[64:])


OTHER = data().append_column("more", pa.array(range(ROWS)))
SPOILED = {
    "a part of other columns": (
        lambda parts: parquet.write_table(OTHER, parts / "part-9.parquet"),
        "part-9.parquet has",
    ),
    "a part of another type": (
        lambda parts: parquet.write_table(
            data().set_column(1, "age", data()["age"].cast(pa.float64())), parts / "part-9.parquet"
        ),
        "part-9.parquet has other columns or types than part-00000-c000.snappy.parquet",
    ),
    "a damaged part": (lambda parts: (parts / "part-9.parquet").write_bytes(b"PAR1" * 9), "part-9.parquet: it can't"),
    "a part damaged inside": (damage_inside, "part-00002-c000.snappy.parquet: it can't be read"),
    "partitions": (lambda parts: (parts / "year=2020").mkdir(), "partitions in folders of their own are not read"),
    "another file": (lambda parts: (parts / "part-9.csv").touch(), "'part-9.csv', which is no Parquet file"),
    "not finished": (lambda parts: (parts / "_temporary").mkdir(), "its writer has not finished"),
    "a Delta table": (lambda parts: (parts / "_delta_log").mkdir(), "not all count"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_folder_that_may_not_be_one_whole_table_is_refused(tmp_path, case):
    """Never are some of its rows a table."""
    parts = spark_folder(tmp_path)
    spoil, words = SPOILED[case]
    spoil(parts)
    assert words in problem(TableSettings(path=parts, **USED), tmp_path).what


def test_rows_of_a_folder_are_counted_over_all_its_parts(tmp_path):
    """In the order of their names."""
    parts = spark_folder(tmp_path)
    table = data().slice(0, 3).set_column(4, "paid", pa.array([1, None, 0]))
    table = table.set_column(0, "customer", pa.array([-1, -2, -3]))
    parquet.write_table(table, parts / "part-9.parquet")
    with pytest.raises(TableProblem, match=rf"'paid' has 1 value missing \(row {ROWS + 2}\)"):
        take_snapshot("people", TableSettings(path=parts, **USED), tmp_path / "work", with_label=True)


def test_a_part_that_changes_while_the_folder_is_read_is_refused(tmp_path):
    """Its columns are compared again when its turn comes."""
    parts = spark_folder(tmp_path)
    with closing(open_source(TableSettings(path=parts, **USED))) as source:
        parquet.write_table(OTHER.drop_columns(["age"]), parts / "part-00002-c000.snappy.parquet")
        with pytest.raises(UnusableError, match=r"part-00002-c000\.snappy\.parquet has other columns"):
            list(source.batches(["customer", "age"]))


# --- databases


@pytest.fixture
def sqlite_file(tmp_path):
    """A function from a query to the settings for it, over a small SQLite file."""
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection, connection:
        connection.execute("CREATE TABLE t (customer INTEGER, age INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, 2), (2, 3)])

    def asked(query):
        return TableSettings(database=f"sqlite:///{tmp_path}/t.db", query=query, **USED)

    return asked


BAD_QUERIES = ["SELEC 'secretvalue'", "SELECT secretvalue FROM t", "SELECT * FROM secretvalue"]


REFUSED_BY_SQLITE = {
    BAD_QUERIES[0]: "a mistake in its syntax",
    BAD_QUERIES[1]: "names a column",
    BAD_QUERIES[2]: "names a table",
    "DELETE FROM t RETURNING 'secretvalue' AS x": "only allowed to read",
    "": "the query failed",
}


@pytest.mark.parametrize("query", REFUSED_BY_SQLITE)
def test_what_sqlite_refuses_is_told_without_its_text(sqlite_file, tmp_path, query):
    """Nor is anything written."""
    found = problem(sqlite_file(query), tmp_path)
    assert REFUSED_BY_SQLITE[query] in found.what
    assert "secretvalue" not in str(found)
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_sqlite_file_that_is_not_there_is_not_made(tmp_path):
    """A wrong path must not look like an empty table."""
    found = problem(TableSettings(database=f"sqlite:///{tmp_path}/no.db", query="SELECT 1", **USED), tmp_path)
    assert "there is no such file" in found.what
    assert not (tmp_path / "no.db").exists()
    (tmp_path / "no.db").write_bytes(b"something else" * 100)
    found = problem(
        TableSettings(database=f"sqlite:///{tmp_path}/no.db", query="SELECT 1 AS customer", **USED), tmp_path
    )
    assert "no SQLite database" in found.what


def test_a_sqlite_column_that_changes_its_type_far_down_is_named(sqlite_file, tmp_path):
    """With what to write into the query."""
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection, connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(row, row) for row in range(3, 70_000)])
        connection.execute("INSERT INTO t VALUES (70000, 'secretvalue')")
    with pytest.raises(TableProblem, match=r"column 'age' changes its type.* CAST") as caught:
        take_snapshot("people", sqlite_file("SELECT customer, age FROM t"), tmp_path / "work", with_label=False)
    assert "secretvalue" not in str(caught.value)


STATES = {
    BAD_QUERIES[0]: "42601",
    BAD_QUERIES[1]: "42703",
    BAD_QUERIES[2]: "42P01",
    "DELETE FROM t RETURNING 'secretvalue' AS customer": "25006",
    "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone": "25006",
    "SELECT 'secretvalue'::integer AS customer": "22P02",
    "SELECT 1 AS customer; DELETE FROM t": "42601",
}


@pytest.mark.parametrize("query", STATES)
def test_what_postgresql_refuses_is_told_by_its_state(postgres_url, tmp_path, query):
    """Not in its words, which quote the query and values; and nothing is written."""
    run(postgres_url, "DROP TABLE IF EXISTS t", "CREATE TABLE t AS SELECT 1 AS customer, 2 AS age")
    found = problem(TableSettings(database=postgres_url, query=query, **USED), tmp_path)
    assert f"(SQLSTATE {STATES[query]})" in found.what
    assert "secretvalue" not in str(found)
    with closing(open_source(TableSettings(database=postgres_url, query="SELECT * FROM t", **USED))) as source:
        assert sum(batch.num_rows for batch in source.batches(["age"])) == 1


def test_postgresql_that_fails_halfway_gives_no_half_table(postgres_url, tmp_path):
    """The answer is streamed, so the error comes last."""
    query = "SELECT i AS customer, 1 / (999999 - i) AS age FROM generate_series(1, 1000000) i"
    found = problem(TableSettings(database=postgres_url, query=query, **USED), tmp_path)
    assert "the query failed" in found.what


def test_types_of_postgresql_are_taken_for_what_they_are(postgres_url, tmp_path):
    """UUIDs are ids, NUMERIC any number of digits, its NaN missing; JSON and names are text."""
    uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    query = (
        f"SELECT '{uuid}'::uuid AS customer, 10.50::numeric AS a, 'NaN'::numeric AS b, true AS c, 'x'::varchar AS d, "
        "100::numeric AS e, 100.0::numeric AS f, 0.1::real AS g"
    )
    settings = TableSettings(database=postgres_url, query=query, id="customer", categorical=("e", "f"))
    with take_snapshot("people", settings, tmp_path / "work", with_label=False) as snapshot:
        assert snapshot.ids.to_pylist() == [uuid]
        (row,) = snapshot.table.to_pylist()
        assert row.pop("g") == float(np.float32(0.1))
        assert row == {"a": 10.5, "b": None, "c": 1, "d": "x", "e": "100", "f": "100"}
        assert [one.kind[0] for one in snapshot.columns] == list("nnncccn")


def test_a_large_numeric_id_keeps_its_digits(postgres_url, tmp_path):
    """Beyond what a float could hold."""
    query = "SELECT 12345678901234567890123456789.00::numeric AS customer, 1 AS age"
    settings = TableSettings(database=postgres_url, query=query, **USED)
    with take_snapshot("people", settings, tmp_path / "work", with_label=False) as snapshot:
        assert snapshot.ids.to_pylist() == ["12345678901234567890123456789"]


def test_a_login_is_used_and_a_wrong_one_refused(postgres, tmp_path):
    """By a sentence that holds neither name nor password."""
    settings = TableSettings(database=postgres.address, query="SELECT 1 AS customer, current_user AS me", id="customer")
    user, password = postgres.login
    with take_snapshot("people", settings, tmp_path / "work", with_label=False, login=postgres.login) as snapshot:
        assert snapshot.table.to_pydict() == {"me": [user]}
    found = problem(settings, tmp_path, login=(user, "p@ss/word:%"))
    assert "refused the login" in found.what
    assert "p@ss" not in str(found)
    assert password not in str(found)


def test_a_database_that_is_not_there_is_named_by_its_address(postgres, tmp_path):
    """Host, port and name: what an operator has to compare."""
    for url in (f"postgresql://127.0.0.1:{postgres.port}/nodatabase", "postgresql://127.0.0.1:1/nodatabase"):
        found = problem(TableSettings(database=url, query="SELECT 1", **USED), tmp_path, login=("tercet", "secretword"))
        assert "can't connect to 127.0.0.1, port " in found.what
        assert "'nodatabase'" in found.what
        assert "secretword" not in str(found)


@contextmanager
def silent_server():
    """An address where somebody listens and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://127.0.0.1:{server.getsockname()[1]}/x"


def test_a_database_that_says_nothing_is_given_up(tmp_path):
    """After ten seconds, or what the URL says."""
    with silent_server() as url:
        settings = TableSettings(database=f"{url}?connect_timeout=2", query="SELECT 1", **USED)
        assert "can't connect" in problem(settings, tmp_path).what


def test_an_operators_own_connection_options_are_kept(postgres_url):
    """Encryption, say, or an application's name."""
    settings = TableSettings(
        database=f"{postgres_url}?application_name=tercet%20bank",
        query="SELECT current_setting('application_name') AS a, current_setting('transaction_read_only') AS b",
        id="a",
    )
    with closing(open_source(settings)) as source:
        (batch,) = source.batches(["a", "b"])
    assert batch.to_pylist() == [{"a": "tercet bank", "b": "on"}]


def test_a_source_that_fails_to_open_says_so_before_it_has_a_name(tmp_path):
    """`take_snapshot` adds which table it is."""
    with pytest.raises(UnusableError, match=r"neither in \.csv"):
        open_source(TableSettings(path=tmp_path / "t.xls", **USED))
