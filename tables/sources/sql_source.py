"""Asks PostgreSQL or SQLite one query, and streams the answer as Arrow batches.

It can't write there, and gives up on a database that does not answer. It passes on no text of a driver, which may
quote the query, a value or the password.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import adbc_driver_manager as adbc
import pyarrow as pa
import pyarrow.compute as pc

from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.problem import UnusableError

# libpq's names; seconds and, for the last, milliseconds. A server that vanishes is noticed within about a minute.
TIMEOUTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
SQLITE_WINDOW = 2**16  # rows from which the driver tells a column's type; SQLite itself has no types for columns
MISMATCH = re.compile(r"Type mismatch in column (\d+)")
# NUMERIC comes as text. It has up to 131072 digits, so no Arrow type holds all of it; this one says that it is decimal.
NUMERIC = pa.decimal256(76, 38)
READ_ONLY = "SET TRANSACTION READ ONLY"  # a statement, since poolers refuse the connection option of the same effect
CLASSES = {
    "08": "the connection was lost",
    "22": "the query computes something impossible, such as a division by zero",
    "25": "the query would write, and is only allowed to read",
    "28": "the login was refused",
    "53": "the database lacks memory, disk or connections",
    "57": "the database stopped the query or is shutting down",
}
STATES = {
    "42501": "the login may not read what the query asks for",
    "42601": "the query has a mistake in its syntax",
    "42703": "the query names a column that the database does not have",
    "42P01": "the query names a table that the database does not have",
}
SQLITE_WORDS = {
    "no such column": STATES["42703"],
    "no such table": STATES["42P01"],
    "syntax error": STATES["42601"],
    "readonly database": CLASSES["25"],
    "not a database": "the file is no SQLite database",
    "database is locked": "another program keeps the file locked",
}


class _Answer:
    """Reads the rows of one query, as long as its connection lives."""

    unit = "row"

    def __init__(
        self, connection: Any, query: str, interrupt: Interrupt, *before: str, options: dict[str, str] | None = None
    ) -> None:
        """Ask on a connection, after the statements `before`; close it where that fails."""
        self._open = ExitStack()
        try:
            with _explained([]):
                self._open.enter_context(connection)
                cursor = self._open.enter_context(connection.cursor())
                self._open.enter_context(interrupt.ending_with(partial(_cancel, cursor)))
                for statement in before:
                    cursor.execute(statement)
                cursor.adbc_statement.set_options(**(options or {}))
                cursor.execute(query)
                self._reader = cursor.fetch_record_batch()
                self.schema: pa.Schema = _plain_schema(self._reader.schema)
        except BaseException:
            self.close()
            raise

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read these columns of the answer, once."""
        with _explained(self.schema.names):
            for batch in self._reader:
                yield pa.RecordBatch.from_arrays([_plain(batch.column(name)) for name in columns], names=list(columns))

    def places(self, rows: Sequence[int]) -> list[int]:
        """Number rows from 1."""
        return [row + 1 for row in rows]

    def close(self) -> None:
        """End the transaction and the connection, whatever state they are in.

        They have changed nothing.
        """
        # A connection that was lost can't be closed in order, and why it was lost has been said.
        with suppress(OSError, adbc.Error):
            self._open.close()


class SqliteSource(_Answer):
    """Reads the answer of a SQLite file, opened read-only."""

    def __init__(self, url: str, query: str, interrupt: Interrupt) -> None:
        options = {"adbc.sqlite.query.batch_rows": str(SQLITE_WINDOW)}
        super().__init__(_open_sqlite(url), query, interrupt, options=options)


class PostgresSource(_Answer):
    """Reads the answer of a PostgreSQL server, in a transaction that can't write."""

    def __init__(self, url: str, query: str, login: tuple[str, str] | None, interrupt: Interrupt) -> None:
        super().__init__(_open_postgresql(url, login), query, interrupt, READ_ONLY)


def sqlite_schema(url: str, query: str) -> pa.Schema | None:
    """Find the names of an answer's columns without asking for a row.

    SQLite has no types for them: each stands there as text, which may hold anything. None where that finds no names.

    Raises:
        UnusableError: the query cannot be asked.
    """
    with _open_sqlite(url) as connection, _explained([]), connection.cursor() as cursor:
        cursor.adbc_prepare(query)
        try:
            cursor.execute(f"SELECT * FROM (\n{query.rstrip().rstrip(';')}\n) LIMIT 0")  # noqa: S608 - the owner's own
        except adbc.Error:  # what stands alone need not stand within another query
            return None
        return pa.schema([(name, pa.string()) for name in cursor.fetch_record_batch().schema.names])


def postgresql_schema(url: str, query: str, login: tuple[str, str] | None) -> pa.Schema:
    """Have a PostgreSQL server say which columns an answer would have, without a row of it.

    Raises:
        UnusableError: the server does not let us in, or the query cannot be asked.
    """
    with _open_postgresql(url, login) as connection, _explained([]), connection.cursor() as cursor:
        cursor.execute(READ_ONLY)
        return _plain_schema(cursor.adbc_execute_schema(query))


def _open_sqlite(url: str) -> Any:
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        raise UnusableError("there is no such file", "correct `database`: sqlite:///file", "can't be read")
    with _explained([]):
        import adbc_driver_sqlite.dbapi as sqlite  # noqa: PLC0415 - loads pandas where it is installed

        return sqlite.connect(f"file:{quote(str(path))}?mode=ro")


def _open_postgresql(url: str, login: tuple[str, str] | None) -> Any:
    try:
        import adbc_driver_postgresql.dbapi as postgresql  # noqa: PLC0415 - likewise

        return postgresql.connect(_with_login(url, login))
    except (OSError, adbc.Error) as error:
        raise _not_connected(url, str(error)) from None


def _cancel(cursor: Any) -> None:
    """Ask the database to give the query up.

    SQLite's driver cannot, and a server that is gone need not.
    """
    with suppress(OSError, adbc.Error):
        cursor.adbc_cancel()


def _with_login(url: str, login: tuple[str, str] | None) -> str:
    """Make the URL that libpq takes.

    The operator's own words there go above our timeouts.
    """
    parts = urlsplit(url)
    host = parts.netloc
    if login is not None:
        user, password = (quote(text, safe="") for text in login)
        host = f"{user}:{password}@{parts.netloc.rpartition('@')[2]}"
    query = urlencode(TIMEOUTS | dict(parse_qsl(parts.query, keep_blank_values=True)), quote_via=quote)
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def _not_connected(url: str, text: str) -> UnusableError:
    # The driver gives no SQLSTATE here, and the server's text may be in any language.
    if "password authentication failed" in text or "no password supplied" in text:
        return UnusableError(
            "the database refused the login",
            "correct user name and password in the credentials file",
            "can't be read",
        )
    where = urlsplit(url)
    server = f"{where.hostname or 'the local server'}, port {where.port or 5432}"
    return UnusableError(
        f"can't connect to {server}, database {where.path[1:]!r}",
        "check that the server runs and is reachable, that the database exists, and that the login is allowed there",
        "can't be read",
    )


@contextmanager
def _explained(names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException, adbc.Error) as error:
        raise _refused(error, names) from None


def _refused(error: Exception, names: Sequence[str]) -> UnusableError:
    mismatch = MISMATCH.search(str(error))
    if mismatch and names:
        return UnusableError(
            f"column {names[int(mismatch[1])]!r} changes its type after the first {SQLITE_WINDOW:,} rows",
            "write CAST(... AS REAL) or CAST(... AS TEXT) around it in the query",
            "has a column of mixed types",
        )
    state: str | None = getattr(error, "sqlstate", None)
    what = _meaning_of_words(str(error)) if state is None else _meaning(state)
    return UnusableError(what, "try `query` with the database's own shell, and correct it there", "can't be read")


def _meaning_of_words(text: str) -> str:
    # SQLite has no SQLSTATE; its words are always English.
    said = [sentence for words, sentence in SQLITE_WORDS.items() if words in text]
    return said[0] if said else "the query failed, or the database stopped answering"


def _meaning(state: str) -> str:
    sentence = STATES.get(state) or CLASSES.get(state[:2]) or "the database refused the query"
    return f"{sentence} (SQLSTATE {state})"


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    name = getattr(kind, "extension_name", None)
    if name == "arrow.opaque":
        return NUMERIC if kind.type_name == "numeric" else kind.storage_type
    return pa.string() if name in {"arrow.uuid", "arrow.json"} else kind


def _plain(column: pa.Array) -> pa.Array:
    """Strip the driver's own types.

    UUIDs are as they are usually written, NUMERIC without trailing zeros.
    """
    name = getattr(column.type, "extension_name", None)
    if name == "arrow.uuid":
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    if name is None:
        return column
    stored = column.storage
    if column.type.extension_name == "arrow.opaque" and column.type.type_name == "numeric":
        short = pc.replace_substring_regex(stored, r"(\.\d*?)0+$", r"\1")
        return pc.replace_substring_regex(short, r"\.$", "")
    return stored
