"""A category is one category however a source stores it, and different ones stay different."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.core.spelling import spell
from tercet.tables.core.values import as_texts

MIDNIGHT = datetime(2020, 1, 2)  # noqa: DTZ001 - as files have it, without a zone

SAME: dict[str, list[Any]] = {
    "a whole number": ["1", "1.0", "1.00", " 1\t", "１", 1, 1.0, Decimal("1.00")],  # noqa: RUF001
    "nought": ["0", "-0", "0.0", "-0.0", 0, -0.0],
    "a fraction": ["-2.5", "-2.50", -2.5, Decimal("-2.500")],
    "a word": ["tenant", " tenant", "tenant\n", "\u00a0tenant"],
    "a truth value": ["true", "True", "TRUE", True],
    "a falsehood": ["false", "False", "FALSE", False],
    "a day": ["2020-01-02", "2020-01-02 00:00:00", "2020-01-02T00:00:00.000", date(2020, 1, 2), MIDNIGHT],
    "nothing": ["", " ", None, float("nan")],
}
DIFFERENT = ["1", "01", "1e0", "10", "100", "1.01", "1.10.0", "+1", "tenant", "Tenant", "true!", "2020-01-02 00:00:01"]


@pytest.mark.parametrize("case", SAME)
def test_a_category_is_the_same_from_every_type_and_spelling(case):
    """A gap turns a column of whole numbers into floats, another program writes other texts."""
    found = {as_texts(pa.array([value])).to_pylist()[0] for value in SAME[case]}
    assert len(found) == 1


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_is_the_same_in_every_unit(unit):
    """Data frames have nanoseconds, databases microseconds."""
    moment = datetime(2020, 1, 2, 3, 4, 5)  # noqa: DTZ001
    stored = pa.array([moment, MIDNIGHT], pa.timestamp(unit))
    assert as_texts(stored).to_pylist() == ["2020-01-02 03:04:05", "2020-01-02"]


def test_other_texts_stay_apart():
    """Zeros in front, case and signs count."""
    assert len(set(spell(pa.array(DIFFERENT, pa.large_string())).to_pylist())) == len(DIFFERENT)


@given(st.lists(st.text(max_size=4) | st.text(alphabet="0123456789.-: T", max_size=12) | st.none()))
def test_what_is_by_the_rule_stays_as_it_is(texts):
    """So that rows are encoded by what was learnt from others."""
    once = spell(pa.array(texts, pa.large_string()))
    assert spell(once).equals(once)
    assert len(once) == len(texts)
