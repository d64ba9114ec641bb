"""Makes a table for an encoding from columns that somebody holds in memory.

It reads them by the rules by which a party's own table is read, and keeps nothing of them.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Numbers, Table, Texts
from tercet.tables.core.values import as_numbers, as_texts
from tercet.tables.encoding.encoding import Encoding

PUBLIC = "a table to score cannot be used"


def table_from_arrays(name: str, encoding: Encoding, columns: Mapping[str, pa.Array], rows: int) -> Table:
    """Return these columns, each `rows` values, as `encoding.apply` takes them.

    Args:
        name: of the table, for errors.
        encoding: of which each column must be there.
        columns: by name; numbers may be texts, and categories numbers.
        rows: of each column.

    Raises:
        TableProblem: a column holds what cannot be read as it was in training.
    """
    kinds = encoding.kinds
    numeric = {column: _numbers(name, column, columns[column]) for column, kind in kinds.items() if kind == "numeric"}
    texts = {column: _texts(name, column, columns[column]) for column, kind in kinds.items() if kind == "categorical"}
    return Table(name, rows, tuple(kinds), numeric, texts)


def _numbers(table: str, name: str, column: pa.Array) -> Numbers:
    try:
        read = as_numbers(column)
    except (pa.ArrowException, UnicodeError):
        raise _unreadable(table, name, "holds something that cannot be read as numbers") from None
    values: Numbers = read.values.to_numpy(zero_copy_only=False).astype(np.float64)
    for wrong, what in ((read.wrong, "other than numbers"), (np.isinf(values), "that are not finite")):
        if wrong.any():
            raise _unreadable(table, name, f"has {wrong.sum():,} values {what}")
    return values


def _texts(table: str, name: str, column: pa.Array) -> Texts:
    try:
        texts: Texts = as_texts(column).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, UnicodeError):
        raise _unreadable(table, name, "holds something that cannot be read as texts") from None
    return texts


def _unreadable(table: str, name: str, what: str) -> TableProblem:
    remedy = "give it as it was in training, or nothing where a value is missing"
    return TableProblem(f"column {name!r} of {table} {what}", remedy, PUBLIC)
