"""Looks at the first rows of a table: how many columns it has once encoded, and how many bits a record of it holds.

It keeps nothing, refuses nothing that is wrong further on, and is for files: a database would be asked twice.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from schemas.settings import TableSettings
from tables.columns import Chosen, choose
from tables.disguise import Disguise, refuse_disguised
from tables.encoding import Encoding
from tables.entropy import SAMPLE, RecordBits, record_bits
from tables.problem import problems_of
from tables.source import Source, open_source
from tables.table import Table
from tables.values import as_numbers, as_texts


class Preview(NamedTuple):
    """What the first rows say."""

    names: tuple[str, ...]  # of the columns that are used
    columns: int  # once these are encoded
    bits: RecordBits
    has_numbers: bool  # whether one of the columns is numeric


def preview(name: str, settings: TableSettings, *, with_label: bool) -> Preview | None:
    """Read up to SAMPLE rows of a table, as a training would; None where it has no row.

    The label is not looked at; but only `with_label` may a table have no other column.

    Raises:
        TableProblem: they cannot be read, or it is not clear what a column is.
    """
    with problems_of(name, str(settings.path)), closing(open_source(settings)) as source:
        chosen = choose(source.schema, settings, with_label=with_label, label_kind=None)
        guessed = {one.name: Disguise(source) for one in chosen.columns if one.is_guess}
        tables = list(_first(name, source, chosen))
        for column, disguise in guessed.items():
            for table in tables:
                disguise.add(pa.array(table.categorical[column], pa.large_string()), 0)
        refuse_disguised(guessed)
    if not tables:
        return None
    encoding = Encoding.fit(lambda: iter(tables), clip=settings.clip, rare=settings.rare, whiten=False)
    names, bits = tuple(encoding.kinds), record_bits(encoding, iter(tables))
    return Preview(names, len(encoding.names), bits, encoding.has_numbers)


def _first(name: str, source: Source, chosen: Chosen) -> Iterator[Table]:
    rows = 0
    for batch in source.batches(chosen.names):
        part = batch.slice(0, SAMPLE - rows)
        rows += part.num_rows
        if part.num_rows:
            yield _table(name, part, chosen)
        if rows >= SAMPLE:
            return


def _table(name: str, batch: pa.RecordBatch, chosen: Chosen) -> Table:
    """The features of a batch, what is no number counting as missing."""
    numeric, categorical = {}, {}
    for one in chosen.columns:
        values = batch.column(one.name)
        if one.kind == "numeric":
            numbers = as_numbers(values).values.to_numpy(zero_copy_only=False).astype(np.float64)
            numeric[one.name] = np.where(np.isfinite(numbers), numbers, np.nan)
        else:
            categorical[one.name] = as_texts(values).to_numpy(zero_copy_only=False)
    return Table(name, batch.num_rows, tuple(one.name for one in chosen.columns), numeric, categorical)
