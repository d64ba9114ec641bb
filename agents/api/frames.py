"""Takes data frames of any library that speaks Arrow, without importing one.

It copies nothing that it need not, and changes no frame of the caller's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from tercet.schemas.core.names import NAME_PATTERN
from tercet.schemas.files.invalid import Invalid
from tercet.tables.core.problem import join_names
from tercet.tables.core.similar_names import list_existing

UNNAMED_INDEX: Final = re.compile(r"__index_level_\d+__")


def is_frame(value: Any) -> bool:
    """Tell whether a value is a data frame, or columns by name."""
    return hasattr(value, "__arrow_c_stream__") or isinstance(value, Mapping)


def table_of(place: str, frame: Any, ids: Sequence[str] = ()) -> pa.Table:
    """Return a frame as an Arrow table, without the index of a pandas frame.

    Args:
        place: what errors begin with.
        frame: has `__arrow_c_stream__`, or is a mapping from names to values.
        ids: columns that stay though they are an index.

    Raises:
        Invalid: it is no frame, or two columns have one name.
    """
    if not is_frame(frame):
        kind = type(frame).__name__
        raise Invalid(
            f"{place}: {kind} is no data frame; give one of pandas, polars or pyarrow, or a mapping of columns"
        )
    try:
        table = pa.table(dict(frame) if isinstance(frame, Mapping) else frame)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # whose texts may quote a value
        raise Invalid(f"{place}: Arrow has no type for a column; give each column values of one type") from None
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise Invalid(f"{place}: column {join_names(twice)} is there more than once; give every column once")
    table = table.drop_columns([name for name in _index_columns(table) if name not in ids])
    return table.cast(pa.schema([_storable(field) for field in table.schema]))


def check_parties(frames: Mapping[str, Any]) -> None:
    """Return if a simulation's parties can be so named.

    Raises:
        Invalid: there are too few, or a name is none.
    """
    if not isinstance(frames, Mapping) or len(frames) < 2:
        raise Invalid('frames: give two parties or more, each with its frame: {"bank": ..., "card": ...}')
    for party in frames:
        if not isinstance(party, str) or not re.fullmatch(NAME_PATTERN, party):
            raise Invalid(
                f"frames: {party!r} is no party's name, which has small letters, digits and hyphens, begins with a "
                f"letter or digit, and is no longer than 32 characters"
            )


def find_label(tables: Mapping[str, pa.Table], label: str) -> tuple[str, str]:
    """Find the label's party and column by `party.column`, or by the name of one party's column.

    Raises:
        Invalid: there is no such column, or more than one.
    """
    party, _, column = label.partition(".")
    found = [(one, label) for one, table in tables.items() if label in table.column_names]
    if party in tables and column in tables[party].column_names:
        found.append((party, column))
    if len(found) == 1:
        return found[0]
    if found:
        raise Invalid(f"label: {label!r} is a column of {' and of '.join(one for one, _ in found)}; write party.column")
    if party in tables and column:
        raise Invalid(
            f"label: the frame of {party} has no column {column!r}; "
            f"{list_existing(tables[party].column_names, [column])}"
        )
    raise Invalid(f"label: no party has a column {label!r}; write party.column, such as {next(iter(tables))}.default")


def unused_name(wanted: str, tables: Mapping[str, pa.Table]) -> str:
    """Return a column name that no table has, such as this one."""
    used = {name for table in tables.values() for name in table.column_names}
    while wanted in used:
        wanted += "_"
    return wanted


def _index_columns(table: pa.Table) -> list[str]:
    """Name the columns that are the index of a pandas frame."""
    about = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = [name for name in about.get("index_columns", ()) if isinstance(name, str)]
    return [name for name in table.column_names if name in index or UNNAMED_INDEX.fullmatch(name)]


def _storable(field: pa.Field) -> pa.Field:
    """Return a field as a file can have it: not as a view, which newer libraries make."""
    kind = field.type
    if pa.types.is_string_view(kind):
        return pa.field(field.name, pa.large_string())
    if pa.types.is_null(kind):
        return pa.field(field.name, pa.float64())
    return pa.field(field.name, kind)
