"""An owner who names a column that is not there is told which are, unless these names may be values."""

import pytest

from tercet.tables.core.similar_names import SHOWN, list_existing


@pytest.mark.parametrize(
    ("wanted", "likeliest"), [("custmer", "'customer'"), ("CUSTOMER", "'customer'"), ("Age ", "'Age'")]
)
def test_the_likeliest_column_is_asked_for_and_all_are_listed(wanted, likeliest):
    """A typo is mended at one look."""
    said = list_existing(["customer", "Age", "limit"], [wanted])
    assert said == f"did you mean {likeliest}? Its columns are 'customer', 'Age', 'limit'"


def test_where_nothing_is_near_and_many_are_there_some_are_listed():
    """A table has thousands, perhaps."""
    names = [f"c{number:03d}" for number in range(SHOWN + 5)]
    said = list_existing(names, ["something else"])
    assert said.startswith("its columns are 'c000', ")
    assert said.endswith(f"'c{SHOWN - 1:03d}' and 5 more")


@pytest.mark.parametrize("row", [["7", "Miller"], ["Miller", "-1.5"], ["x", "2020-01-31"], ["", "name"], ["12 %", "a"]])
def test_a_first_line_that_may_be_a_row_is_not_quoted(row):
    """The file lacks its line of names; its first customer does not go into logs."""
    said = list_existing(row, ["customer"])
    assert said == "some of its columns have no name, or a number for one: does its first line hold names?"
