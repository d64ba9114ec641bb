"""Hints at columns that the owner may want to look at before a job.

Such are empty columns, codes among numbers, and the positive class.

Hints guess and decide nothing; they name columns and show no value.
"""

import re
from contextlib import closing
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import problems_of
from tercet.tables.core.values import is_text
from tercet.tables.encoding.two_classes import about_two_classes
from tercet.tables.snapshot.snapshot import Snapshot
from tercet.tables.sources.source import CSV_SUFFIXES, open_source

EMPTY: Final = "it has no value in any row: leave it out with `exclude`"
CODE: Final = "its numbers look like codes: if they are no quantities, list it under `categorical` or `exclude`"
CODE_NAME: Final = re.compile(
    r"(^|[^a-z])(zip|plz|(zip|post|postal)?_?code|id|fips|sic|naics|mcc)([^a-z]|$)", re.IGNORECASE
)
CODE_DIGITS: Final = 5  # in every row: so many are seldom a quantity's


def hints(snapshot: Snapshot, settings: TableSettings) -> dict[str, str]:
    """Find hints by column. Of a file the first rows are read again.

    Raises:
        TableProblem: the file can be read no more.
    """
    with problems_of(snapshot.name, str(settings.path)):
        padded = _padded(settings)
    found: dict[str, str] = {}
    for one in snapshot.columns:
        values = snapshot.table[one.name]
        if values.null_count == len(values):
            found[one.name] = EMPTY
        elif one.kind == "numeric" and not one.declared and (one.name in padded or _like_code(one.name, values)):
            found[one.name] = CODE
    if (said := _of_label(snapshot)) is not None:
        found[str(snapshot.chosen.label)] = said
    return found


def _like_code(name: str, values: pa.ChunkedArray) -> bool:
    """Tell whether numbers are like a code.

    They are whole, from 0, and called a code or have the same number of digits everywhere.
    """
    low, high = pc.min_max(values).as_py().values()
    if low < 0 or not 1 < high < 2**53 or not pc.all(pc.equal(pc.floor(values), values)).as_py():
        return False
    digits = len(str(int(low)))
    return bool(CODE_NAME.search(name)) or (low < high and CODE_DIGITS <= digits == len(str(int(high))))


def _padded(settings: TableSettings) -> set[str]:
    """Find numeric columns of a CSV file, some of whose first values have leading zeros."""
    if settings.path is None or not settings.path.name.lower().endswith(CSV_SUFFIXES):
        return set()
    with closing(open_source(settings)) as source:
        numbers = [field.name for field in source.schema if not is_text(field.type)]
        first = next(iter(source.batches(numbers)), None) if numbers else None
    return set() if first is None else {name for name in numbers if _has_padded(first.column(name))}


def _has_padded(texts: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, r"^\s*0[0-9]+\s*$")).as_py())


def _of_label(snapshot: Snapshot) -> str | None:
    if snapshot.label is None:
        return None
    values = np.unique(snapshot.label)
    names = snapshot.classes or (tuple(repr(float(value)) for value in values) if len(values) == 2 else ())
    return about_two_classes(names, snapshot.chosen.positive, snapshot.name)
