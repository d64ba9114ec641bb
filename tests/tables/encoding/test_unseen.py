"""Categories that no training row had are counted, and a column of nothing else is refused, unless rows are few."""

import pytest

from tercet.tables.core.problem import UnusableError
from tercet.tables.encoding.unseen import FEW, count_unseen
from tests.tables.made_up import fit, table

TRAINED = table({"a": [1, 2, 3, 4]}, {"k": ["x", "y", "x", None], "l": ["u", "u", "v", "u"]})


def reported(*batches, rare=0) -> list[str]:
    """What is said of these rows."""
    return [str(one) for one in count_unseen(fit(TRAINED, rare=rare), batches)]


def rows(k, l="u") -> object:  # noqa: E741
    """Rows of these categories of `k`, all of one of `l`."""
    return table({"a": [1] * len(k)}, {"k": k, "l": [l] * len(k)})


def test_known_categories_and_missing_ones_are_nothing_to_tell():
    """Missing ones have had their word in training."""
    assert reported(rows(["x", "y", None])) == []


def test_unknown_ones_are_counted_over_batches_among_the_rows_that_have_one():
    """By column, without a value."""
    assert reported(rows(["x", "z", None]), rows(["w"])) == ["column 'k': 2 of 3 values were not there in training"]


def test_where_some_were_rare_they_cannot_be_told_apart():
    """Only their number was kept."""
    said = "column 'k': 1 of 2 values were rare in training or not there, and count as rare"
    assert reported(rows(["x", "y"]), rare=2) == [said]


def test_a_column_of_which_no_category_is_known_is_refused_with_all_such():
    """To the others no column is named."""
    with pytest.raises(UnusableError, match="no value of column 'k', 'l' was there in training") as caught:
        reported(rows(["z"] * (FEW - 1), "w"), rows([None, "w"], "w"))
    assert caught.value.public == "has other values than the model was trained on"
    assert len(reported(rows(["z"] * (FEW - 1), "w"))) == 2  # one fewer may all be new
    assert reported(rows([None] * FEW)) == []
