"""A value is read as the number or text that it is, whatever type carries it; what is neither is marked, row by row."""

import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.core.values import SIGNS, as_numbers, as_texts, signs

FLOATS = st.floats(allow_nan=False)


def numbers(values, kind=None) -> list[float | None]:
    """The numbers in a column without anything wrong."""
    read, wrong = as_numbers(pa.array(values, kind))
    assert not wrong.any()
    assert read.type == pa.float64()
    found: list[float | None] = read.to_pylist()
    return found


@given(st.lists(FLOATS | st.none()))
def test_a_number_is_the_same_to_the_last_bit_as_number_and_as_text(values):
    """Python writes floats so that they can be read again."""
    texts = [None if value is None else repr(value) for value in values]
    assert numbers(values, pa.float64()) == numbers(texts, pa.string()) == values


@given(st.lists(st.integers(-(2**53), 2**53) | st.none()))
def test_whole_numbers_are_numbers_in_every_type(values):
    """Integers, decimals, floats, dictionaries."""
    array = pa.array(values, pa.int64())
    assert numbers(values, pa.int64()) == numbers(values, pa.decimal128(20, 0)) == values
    assert as_numbers(array.dictionary_encode()).values.to_pylist() == values


@given(st.lists(st.sampled_from(["", "NA", "nan", "NULL", "1", " 2\t", "-3e2", "true", "False", "old", "1,5", "0x1"])))
def test_what_is_no_number_is_marked_where_it_stands_and_nothing_else_is(texts):
    """However few or many there are."""
    meaning = {"1": 1.0, " 2\t": 2.0, "-3e2": -300.0, "true": 1.0, "False": 0.0}
    read, wrong = as_numbers(pa.array(texts, pa.string()))
    assert wrong.tolist() == [text in {"old", "1,5", "0x1"} for text in texts]
    assert read.to_pylist() == [meaning.get(text) for text in texts]


def test_nan_is_missing_and_infinity_is_not():
    """In every type that has them."""
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        assert numbers(np.array([math.nan, math.inf], kind.to_pandas_dtype()), kind) == [None, math.inf]
    assert numbers(["nan", "-inf"]) == [None, -math.inf]
    assert numbers([None], pa.null()) == [None]
    assert numbers([True, False, None]) == [1, 0, None]


@given(st.lists(st.sampled_from(["1.5", *SIGNS.to_pylist(), " ? ", "x"])))
def test_a_sign_for_nothing_is_missing_among_numbers_and_is_counted(texts):
    """Where it stands, however few or many there are."""
    found = [text.strip() in SIGNS.to_pylist() for text in texts]
    read, wrong = as_numbers(pa.array(texts, pa.string()))
    assert read.to_pylist() == [1.5 if text == "1.5" else None for text in texts]
    assert wrong.tolist() == [text == "x" for text in texts]
    assert signs(pa.array(texts, pa.string())).tolist() == found
    assert not signs(pa.array([1.0, None])).any()


def test_large_integers_become_the_nearest_float():
    """Not an error: a feature needs no more digits."""
    assert numbers([2**53 + 1, 2**64 - 1], pa.uint64()) == [2.0**53, 2.0**64]


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        (["a", "", None, " ", "NA"], pa.string(), ["a", None, None, None, "NA"]),
        ([1, None, -2], pa.int8(), ["1", None, "-2"]),
        ([1.0, None, 1.5, -0.0, math.nan], pa.float64(), ["1", None, "1.5", "0", None]),
        ([Decimal("1.00"), Decimal("1.50"), None], pa.decimal128(5, 2), ["1", "1.5", None]),
        ([True, None], pa.bool_(), ["true", None]),
        ([None], pa.null(), [None]),
    ],
)
def test_a_category_is_the_same_text_from_every_type(values, kind, texts):
    """A column of whole numbers does not change its categories when a missing value turns it into floats."""
    read = as_texts(pa.array(values, kind))
    assert read.type == pa.large_string()
    assert read.to_pylist() == texts
