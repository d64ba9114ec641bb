"""Spells ids of every source by one rule.

So the same id matches however each party stores it.

An id is text in Unicode NFKC without white space around it. Whole numbers of any type are written in decimal digits, as
integers print; text stays as it is otherwise, so that leading zeros and case count. No error here shows an id.
"""

from typing import Never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tercet.tables.core.problem import RowPlaces, UnusableError, WrongRows
from tercet.tables.core.values import ReadColumn, as_digits, is_text, plain

SHARES = 16


class IdColumn:
    """Gathers and checks the ids of one table batch by batch.

    Args:
        name: of the column, for errors.
        places: where the owner finds the rows.
        decimal: whether texts are numbers, as PostgreSQL sends its NUMERIC.
        own: whether to keep the ids as the table has them too.
    """

    def __init__(self, name: str, places: RowPlaces, *, decimal: bool = False, own: bool = False) -> None:
        self._name, self._decimal = name, decimal
        self._parts: list[pa.Array] = []
        self._own_parts: list[pa.Array] | None = [] if own else None
        self._rows = 0
        self._fractional, self._empty, self._repeated = (WrongRows(places) for _ in range(3))

    def add(self, column: pa.Array) -> None:
        """Take the ids of the next rows.

        Raises:
            UnusableError: values of this type are no ids.
        """
        ids, wrong = normalise(column, decimal=self._decimal)
        if self._own_parts is not None:
            own = plain(column)
            self._own_parts.append(ids if own.equals(ids) else own)  # most tables' are, and need no room twice
        self._fractional.add(wrong, self._rows)
        self._empty.add(pc.is_null(ids).to_numpy(zero_copy_only=False) & ~wrong, self._rows)
        self._parts.append(ids)
        self._rows += len(ids)

    def finish(self) -> pa.LargeStringArray:
        """Return all ids in the order of their rows, none empty, none twice.

        Raises:
            UnusableError: some are no whole numbers, empty, or there already; says how many and where.
        """
        if self._fractional:
            self._refuse(
                self._fractional.describe("not whole, or too large for a floating-point number to tell apart"),
                "store ids as integers or text",
                "has ids that are not whole numbers",
            )
        if self._empty:
            self._refuse(self._empty.describe("empty"), "give every row an id", "has rows without an id")
        ids = pa.chunked_array(self._parts, pa.large_string()).combine_chunks()
        self._parts.clear()
        if len(ids) > 0 and _has_repeats(ids):
            self._repeated.add(_repeats(ids), 0)
            self._refuse(
                self._repeated.describe("already further up"), "keep one row for each id", "has an id more than once"
            )
        return ids

    def own(self, ids: pa.LargeStringArray) -> pa.Array | None:
        """Return the ids as the table has them, after `finish`.

        None where these are `ids`, or not kept.
        """
        own = pa.chunked_array(self._own_parts).combine_chunks() if self._own_parts else ids
        self._own_parts = None
        return None if own.equals(ids) else own

    def _refuse(self, what: str, remedy: str, public: str) -> Never:
        raise UnusableError(f"id column {self._name!r} has {what}", remedy, public)


def normalise(column: pa.Array, *, decimal: bool = False) -> ReadColumn:
    """Read ids as large_string by the rule above, null where missing or empty.

    Wrong are numbers that are not whole.

    Args:
        column: integers, floats, decimals or texts, also dictionary-encoded.
        decimal: whether texts are decimal numbers without trailing zeros; then those with a point are wrong.

    Raises:
        UnusableError: values of another type are no ids.
        UnicodeError: a text is not UTF-8.
    """
    column = plain(column)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return as_digits(column)
    if not is_text(kind):
        raise UnusableError(
            f"the id column holds {'yes/no values' if pa.types.is_boolean(kind) else 'values'} of type {kind}, "
            "which are no ids",
            "name a column of whole numbers or text in `id`, or turn this one into text in the source",
            "has no ids that can be used",
        )
    ids = pc.utf8_trim_whitespace(pc.utf8_normalize(column, form="NFKC"))
    ids = pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.large_string()), ids)
    wrong = np.zeros(len(ids), np.bool_)
    if decimal:
        wrong = pc.fill_null(pc.match_substring_regex(ids, r"[^0-9-]"), fill_value=False).to_numpy(zero_copy_only=False)
        ids = pc.if_else(pa.array(wrong), pa.scalar(None, pa.large_string()), ids)
    return ReadColumn(ids, wrong)


def _has_repeats(ids: pa.LargeStringArray) -> bool:
    """Tell whether an id is there twice; none may be empty.

    It goes by shares of the ids: a hash table of all would take five times their memory.
    """
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int64)[ids.offset + 1 : ids.offset + len(ids) + 1]
    share = np.frombuffer(data, np.uint8)[ends - 1] % SHARES  # by the last byte, so that equal ids fall together
    parts = (ids.filter(pa.array(share == number)) for number in range(SHARES))
    return any(len(pc.unique(part)) < len(part) for part in parts)


def _repeats(ids: pa.Array) -> NDArray[np.bool_]:
    codes = ids.dictionary_encode().indices.to_numpy()  # counted up as new ids come
    latest = np.maximum.accumulate(np.concatenate([[-1], codes[:-1]]))
    repeats: NDArray[np.bool_] = codes <= latest
    return repeats


FORMS = {
    r"^[0-9]+$": "of digits only",
    r"^-?[0-9]+\.[0-9]+$": "of digits with a decimal point",
    r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$": "written as UUIDs",
    r"^\pL+$": "of letters only",
    r"^[\pL0-9]+$": "of letters and digits",
    r"": "of other forms",
}


def describe_ids(ids: pa.Array | pa.ChunkedArray) -> str:
    """Describe ids as counts by form.

    Their owner compares them with another party's by telephone.

    Such as "23,000 of digits only, 12 of them with leading zeros, 3 to 8 characters long".
    """
    if len(ids) == 0:
        return "none"
    counts = {}
    rest = ids
    for form, words in FORMS.items():
        fits = pc.match_substring_regex(rest, form)
        counts[words] = pc.sum(fits).as_py() or 0
        rest = rest.filter(pc.invert(fits))
    said = [f"{count:,} {words}" for words, count in counts.items() if count]
    zeros = pc.sum(pc.match_substring_regex(ids, r"^0[0-9]+$")).as_py()
    if zeros:
        said.insert(1, f"{zeros:,} of them with leading zeros")
    shortest, longest = pc.min_max(pc.utf8_length(ids)).as_py().values()
    length = f"{shortest} to {longest}" if shortest < longest else f"{longest}"
    return f"{', '.join(said)}, {length} character{'s' * (longest > 1)} long"
