"""Previews a table: could a job use its first rows, and how many bits has a record?

It keeps nothing, and leaves what is wrong further on for later. Of a query it sees names and types alone: a database
might work for hours for the first row.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import pyarrow as pa

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableFaults, TableProblem, UnusableError, problems_of
from tercet.tables.core.table import Kind, Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import SAMPLE, RecordBits, record_bits
from tercet.tables.encoding.woe import NO_WOE, WoeByColumn
from tercet.tables.snapshot.columns import ChosenColumns, choose_columns
from tercet.tables.snapshot.recorder import Recorder
from tercet.tables.sources.source import Source, open_source, query_schema


class Preview(NamedTuple):
    """Holds what the first rows say; entropies where they can be told from them."""

    names: tuple[str, ...]  # of the columns that are used
    columns: int  # once these are encoded
    bits: RecordBits
    has_numbers: bool  # whether one of the columns is numeric


class PreviewResult(NamedTuple):
    """Holds what was read.

    Attributes:
        preview: None where the first rows leave open what a column is.
        rows: of the whole table; None where it has more than were read.
        classes: of the label in these rows, if it is of classes.
        positive: the class that becomes 1, if the settings name it.
    """

    preview: Preview | None
    rows: int | None
    classes: tuple[str, ...]
    positive: str | None


def check_query(
    name: str,
    settings: TableSettings,
    login: tuple[str, str] | None,
    *,
    with_label: bool,
    label_kind: Kind | None = None,
    expected: Mapping[str, Kind] | None = None,
) -> None:
    """Check the columns that a database says it would answer with.

    Arguments are those of `take_snapshot`.

    Raises:
        TableProblem: the query cannot be asked, or the table cannot be used as these columns show.
    """
    with problems_of(name, settings.database or ""):
        schema, faults = query_schema(settings, login), TableFaults()
        if schema is None:
            return
        chosen = choose_columns(
            schema, settings, faults, with_label=with_label, label_kind=label_kind, expected=expected
        )
        if chosen is not None:
            with faults.gather():
                chosen.check_likeness()
        faults.refuse()


def preview_table(
    name: str,
    settings: TableSettings,
    *,
    with_label: bool,
    label_kind: Kind | None = None,
    expected: Mapping[str, Kind] | None = None,
    woe: WoeByColumn = NO_WOE,
) -> PreviewResult:
    """Read up to SAMPLE rows of a table, as a training would.

    It may encode columns by weights of evidence, `woe`. Or as a prediction by a model of `expected` columns would.
    Only `with_label` may a table have no other column.

    Raises:
        TableProblem: the table cannot be used, as these rows show; all that is wrong with them is told.
    """
    with problems_of(name, str(settings.path)), closing(open_source(settings)) as source:
        faults, target, first = TableFaults(), io.BytesIO(), FirstRows(source)
        chosen = choose_columns(
            source.schema, settings, faults, with_label=with_label, label_kind=label_kind, expected=expected
        )
        if chosen is None:
            faults.refuse()
        assert chosen is not None
        recorder = Recorder(first, chosen, settings.missing)
        recorder.write(target, faults)
        recorder.check(faults, is_whole=first.is_whole)
        faults.refuse()
        classes = recorder.finish().classes
    features = pa.ipc.open_file(pa.py_buffer(target.getbuffer())).read_all()
    found = None if recorder.is_disguised else _preview(name, settings, chosen, features, rows=first.rows, woe=woe)
    return PreviewResult(found, first.rows if first.is_whole else None, classes, chosen.positive)


def _preview(
    name: str, settings: TableSettings, chosen: ChosenColumns, features: pa.Table, *, rows: int, woe: WoeByColumn
) -> Preview | None:
    kinds = {one.name: one.kind for one in chosen.columns}
    arrays = {one: features[one].to_numpy() for one in kinds}
    numeric, categorical = (
        {one: values for one, values in arrays.items() if kinds[one] == kind} for kind in ("numeric", "categorical")
    )
    table = Table(name, rows, tuple(kinds), numeric, categorical)
    try:
        encoding = Encoding.fit(lambda: iter([table]), clip=settings.clip, rare=settings.rare, whiten=False, woe=woe)
    except (TableProblem, UnusableError):  # rows in common may do better
        return None
    bits = record_bits(encoding, iter([table]))
    return Preview(tuple(encoding.kinds), len(encoding.names), bits, encoding.has_numbers)


class FirstRows:
    """Limits a source to its first SAMPLE rows."""

    def __init__(self, source: Source) -> None:
        self._source, self.unit, self.schema = source, source.unit, source.schema
        self.rows, self.is_whole = 0, True

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield batches like the source's, and no more rows."""
        for batch in self._source.batches(columns):
            part = batch.slice(0, SAMPLE - self.rows)
            self.is_whole = part.num_rows == batch.num_rows
            self.rows += part.num_rows
            yield part
            if not self.is_whole:
                return

    def places(self, rows: Sequence[int]) -> list[int]:
        """Return the source's."""
        return self._source.places(rows)

    def close(self) -> None:
        """Leave the source to whoever has opened it."""
