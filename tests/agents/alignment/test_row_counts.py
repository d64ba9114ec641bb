"""Few matched ids are told to the party whose ids they are, by their form; many are nothing to tell."""

import numpy as np
import pyarrow as pa
import pytest

from tercet.agents.alignment.row_counts import partly_matched


def ids(*forms: str, count: int = 100) -> pa.Array:
    """So many ids of each form."""
    return pa.array([form.format(number) for form in forms for number in range(count)], pa.large_string())


def test_few_matched_ids_are_told_with_what_they_look_like_and_what_the_others_do():
    """Here the partner lost leading zeros; not one id is shown."""
    both = ids("0{:04d}", "{:04d}")
    text = partly_matched("customers", both, np.arange(167, 200))
    assert text is not None
    assert text.startswith("only 33 of the 200 ids of table 'customers' are in all tables. ")
    matched, others = text.split("; ")
    assert "Those are 33 of digits only" in matched
    assert "167 of digits only, 167 of them with leading zeros, 4 to 5 characters long" in others
    assert "0099" not in text


@pytest.mark.parametrize(("rows", "said"), [(0, True), (99, True), (100, False), (200, False)])
def test_only_fewer_than_half_are_worth_a_word(rows, said):
    """A company's customers are seldom all another's."""
    assert (partly_matched("customers", ids("{}", "a{}"), np.arange(rows)) is not None) == said


def test_an_empty_table_has_nothing_to_match():
    """What is to be said of it others say."""
    assert partly_matched("customers", ids(), np.arange(0)) is None
