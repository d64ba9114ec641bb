"""Opens what a party's settings call a table, as a stream of Arrow record batches.

It is a file, or a query of a database.

It reads and never writes, decides nothing about columns or values, and passes on no text of a library or a database,
since these quote values, queries and logins.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.problem import UnusableError
from tercet.tables.sources.csv_source import CsvSource
from tercet.tables.sources.parquet_folder import ParquetFolder
from tercet.tables.sources.parquet_source import PARQUET_SUFFIX, ParquetSource
from tercet.tables.sources.sql_source import PostgresSource, SqliteSource, postgresql_schema, sqlite_schema

SQLITE = "sqlite:"
CSV_SUFFIXES = (".csv", ".csv.gz")


class Source(Protocol):
    """Reads one table once, in batches.

    Its memory does not grow with the table's rows.

    Attributes:
        unit: what its owner looks a row up by: "line" of a file, "row" of an answer.
        schema: all columns in their order, names as they are (perhaps twice), types as declared or, for CSV, inferred
            from the first megabyte.
    """

    unit: str
    schema: pa.Schema

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read these columns in this order.

        CSV gives all of them as text, PostgreSQL its NUMERIC.

        Raises:
            UnusableError: the source is damaged, or stopped answering.
        """
        ...

    def places(self, rows: Sequence[int]) -> list[int]:
        """Return the numbers of these rows by that unit.

        They are given from 0 and in ascending order.
        """
        ...

    def close(self) -> None:
        """Let go of file and connection; the caller must, whatever happened."""
        ...


def open_source(
    settings: TableSettings, login: tuple[str, str] | None = None, interrupt: Interrupt | None = None
) -> Source:
    """Open the table; of a query this already asks the database.

    Args:
        settings: where the table is.
        login: user name and password for PostgreSQL.
        interrupt: set from another thread, it ends a query.

    Raises:
        UnusableError: there is nothing that can be read.
    """
    if settings.database is not None:
        assert settings.query is not None  # the settings see to it
        interrupt = interrupt or Interrupt()
        if settings.database.startswith(SQLITE):
            return SqliteSource(settings.database, settings.query, interrupt)
        return PostgresSource(settings.database, settings.query, login, interrupt)
    assert settings.path is not None
    if settings.path.is_dir():
        return ParquetFolder(settings.path)
    name = settings.path.name.lower()
    if name.endswith(CSV_SUFFIXES):
        return CsvSource(settings.path)
    if name.endswith(PARQUET_SUFFIX):
        return ParquetSource(settings.path)
    raise UnusableError(
        "it is no folder, and its name ends neither in .csv, .csv.gz nor .parquet",
        "save the table as Parquet, or as CSV, comma-separated, with a line of column names",
        "can't be read",
    )


def query_schema(settings: TableSettings, login: tuple[str, str] | None = None) -> pa.Schema | None:
    """Find the columns of a query's answer without a row of it.

    None where the database cannot say that. Types are PostgreSQL's; SQLite has none, and all columns are texts.

    Raises:
        UnusableError: the database cannot be asked this.
    """
    assert settings.database is not None
    assert settings.query is not None
    if settings.database.startswith(SQLITE):
        return sqlite_schema(settings.database, settings.query)
    return postgresql_schema(settings.database, settings.query, login)
