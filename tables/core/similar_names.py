"""Tells the owner of a table which columns there are, where a name is wrong.

Settings or a job may name a column that is not there.

It tells no name where these may be values: the first line of a CSV file without a line of names is a row.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from tercet.tables.core.problem import join_names

SHOWN: Final = 20  # names that one error lists
VALUE: Final = re.compile(r"\s*|[+-]?[0-9][0-9.,:/ TZeE+-]*[%]?")


def list_existing(names: Sequence[str], wanted: Iterable[str]) -> str:
    """Say which columns a table has, and which of them may be meant by `wanted`.

    Such as "did you mean 'customer'? Its columns are 'customer', 'age'".
    """
    if any(VALUE.fullmatch(name) for name in names):
        return "some of its columns have no name, or a number for one: does its first line hold names?"
    likely = dict.fromkeys(near for name in wanted for near in _similar_names(name, names))
    asked = f"did you mean {' or '.join(map(repr, likely))}? Its" if likely else "its"
    return f"{asked} columns are {join_names(names, SHOWN)}"


def _similar_names(name: str, names: Sequence[str]) -> list[str]:
    """Names that differ by a letter or two, or by capitals."""
    lower = {one.lower(): one for one in names}
    return [lower[one] for one in get_close_matches(name.lower(), lower, n=1)]
