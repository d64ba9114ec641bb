"""Reads one column's values as numbers or as texts, whatever type the source has them in.

It works on whole Arrow arrays, guesses nothing, and marks what can't be read so instead of raising or dropping it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from tercet.tables.core.spelling import spell


def _texts(words: Sequence[str]) -> pa.Array:
    """Make an array without `pa.array`, which loads pandas where it is installed."""
    parts = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(parts), pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(parts)))


MISSING = _texts(csv.ConvertOptions().null_values)  # "", "NA", "NULL", "nan" and the like
# Signs that people write into columns of numbers where they have none; among categories they are texts like others.
SIGNS = _texts(["?", "-", "--", ".", "None", "none", "NONE", "na", "<NA>", "NaT"])
ABSENT = pa.concat_arrays([MISSING, SIGNS])
BLANKS = " \t"
WORDS = {"true": 1.0, "false": 0.0}
TRUTHS = _texts([spelling for word in WORDS for spelling in (word, word.title(), word.upper())])
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}  # below it, each whole number is one float


class ReadColumn(NamedTuple):
    """A column's values, and which of its rows are something else; those are null in `values`."""

    values: pa.Array
    wrong: NDArray[np.bool_]


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values of this type are texts."""
    text: bool = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return text


def plain(column: pa.Array) -> pa.Array:
    """Return a column without dictionaries and extension types; texts as large_string.

    Raises:
        UnicodeError: a text is not UTF-8, which not every source checks.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if not is_text(column.type):
        return column
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raise UnicodeError("text that is not UTF-8") from None
    return column.cast(pa.large_string())


def as_numbers(column: pa.Array) -> ReadColumn:
    """Read numbers as float64, null where missing or NaN.

    Decimals and large integers are rounded to the next float.

    Texts are numbers in decimal or exponent notation, `true` and `false`; "NA" and the like are missing, and so are
    SIGNS.
    """
    column = plain(column)
    if is_text(column.type):
        values, wrong = _parse_texts(column)
    else:
        values, wrong = column.cast(pa.float64(), safe=False), np.zeros(len(column), np.bool_)
    return ReadColumn(pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values), wrong)


def signs(column: pa.Array) -> NDArray[np.bool_]:
    """Mark rows of a column of numbers that hold one of SIGNS, and so are missing."""
    return _holds(column, SIGNS)


def truths(column: pa.Array) -> NDArray[np.bool_]:
    """Mark rows of a column of numbers that hold `true` or `false` as text."""
    return _holds(column, TRUTHS)


def _holds(column: pa.Array, texts: pa.Array) -> NDArray[np.bool_]:
    column = plain(column)
    if not is_text(column.type):
        return np.zeros(len(column), np.bool_)
    found: NDArray[np.bool_] = pc.is_in(pc.utf8_trim(column, BLANKS), texts).to_numpy(zero_copy_only=False)
    return found


def as_texts(column: pa.Array) -> pa.Array:
    """Read texts as large_string by the rule of `tables.core.spelling`.

    Null where missing; whole numbers as digits.
    """
    column = plain(column)
    return spell(column if is_text(column.type) else _texts_of(column))


def _texts_of(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if not (pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return column.cast(pa.large_string())
    digits, fractional = as_digits(column)
    return pc.if_else(pa.array(fractional), column.cast(pa.large_string()), digits)


def as_digits(column: pa.Array) -> ReadColumn:
    """Read whole numbers as decimal digits.

    Wrong are those with a fraction, infinite, or too large for a float to be exact.

    Args:
        column: integers, floats (NaN is missing) or decimals.
    """
    if pa.types.is_decimal(column.type):
        whole = column.cast(pa.decimal256(76, 0), safe=False)  # all that Arrow has; the fraction is cut off
        exact = pc.equal(whole.cast(column.type), column)
    elif pa.types.is_floating(column.type):
        bound = EXACT[column.type]
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        exact = pc.and_(pc.equal(pc.trunc(column), column), pc.less(pc.abs(column), float(bound)))
        whole = pc.if_else(exact, column, pa.scalar(None, pa.float64())).cast(pa.int64())
    else:
        return ReadColumn(column.cast(pa.large_string()), np.zeros(len(column), np.bool_))
    wrong = pc.fill_null(pc.invert(exact), fill_value=False).to_numpy(zero_copy_only=False)
    return ReadColumn(pc.if_else(exact, whole.cast(pa.large_string()), pa.scalar(None, pa.large_string())), wrong)


def _parse_texts(texts: pa.Array) -> ReadColumn:
    present = pc.if_else(pc.is_in(texts, ABSENT), pa.scalar(None, pa.large_string()), texts)
    try:
        return ReadColumn(present.cast(pa.float64()), np.zeros(len(texts), np.bool_))
    except pa.ArrowInvalid:
        return _parse_one_by_one(present)


def _parse_one_by_one(texts: pa.Array) -> ReadColumn:
    """Parse each different text once.

    Only where a batch holds anything else than plain numbers.
    """
    different = pc.unique(texts)
    numbers = [_number(text) for text in different.to_pylist()]
    place = pc.index_in(texts, different).to_numpy(zero_copy_only=False)
    wrong = np.array([isinstance(number, str) for number in numbers], np.bool_)
    values = pa.array([None if isinstance(number, str) else number for number in numbers], pa.float64())
    return ReadColumn(values.take(pa.array(place)), wrong[place])


def _number(text: str | None) -> float | str | None:
    """Read a text as a number, None where it is missing, or the text itself."""
    stripped = "" if text is None else text.strip(BLANKS)
    if stripped.lower() in WORDS:
        return WORDS[stripped.lower()]
    if pc.is_in(pa.scalar(stripped, pa.large_string()), ABSENT).as_py():
        return None
    try:
        number: float = pa.scalar(stripped).cast(pa.float64()).as_py()
    except pa.ArrowInvalid:
        return stripped
    return number
