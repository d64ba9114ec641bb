"""Cells below the minimum tell nobody anything; what the minimum does not protect from is said and shown."""

from tests.attacks.cells import from_marks, from_powers, from_two_columns, guessed, rare_levels, single_rows


def test_bins_of_single_rows_give_their_labels_away_and_merged_ones_do_not() -> None:
    """To a partner that may know the WOE of its own bins."""
    assert single_rows(protected=False) == 1.0
    assert single_rows(protected=True) == guessed() < 0.8


def test_the_label_party_counts_rare_levels_only_without_the_check() -> None:
    """Each of them is merged into a larger cell."""
    assert rare_levels(protected=False) == 1.0
    assert rare_levels(protected=True) == 0.0


def test_the_difference_of_two_columns_of_one_owner_still_tells_a_label() -> None:
    """As docs/protocol.md says; agents ask for many rows for each bin."""
    assert from_two_columns()


def test_marks_alone_tell_labels_where_bins_are_as_many_as_rows() -> None:
    """Agents refuse such a job."""
    read, guess = from_marks()
    assert read == 1.0
    assert guess < 0.8


def test_an_amount_of_powers_of_two_tells_the_bins_of_chosen_rows() -> None:
    """Partners allow amounts by a word of their own."""
    assert from_powers() == 1.0
