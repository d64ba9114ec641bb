"""Two classes become 0 and 1 where it is plain or said which is which, and are refused with the setting otherwise."""

import numpy as np
import pytest

from tercet.tables.encoding.label import UnfitLabel
from tercet.tables.encoding.two_classes import about_two_classes, check_two_classes, two_classes


def fitted(*labels: str, positive: str | None = None) -> tuple[list[float], str | None]:
    """These labels as numbers, and what is said of that."""
    names = tuple(sorted(set(labels)))
    places = np.array([names.index(label) for label in labels], float)
    found, note = two_classes(places, names, positive, "customers")
    return found.tolist(), note


def refused(*labels: str, positive: str | None = None) -> UnfitLabel:
    """Why they are refused."""
    with pytest.raises(UnfitLabel) as caught:
        fitted(*labels, positive=positive)
    assert caught.value.public == "the label of table 'customers' does not fit the model"
    return caught.value


@pytest.mark.parametrize(
    ("no", "yes"),
    [("false", "true"), ("False", "TRUE"), ("-1", "1"), ("-1.0", "1.0"), ("no", "yes"), ("No", "YES"), ("N", "Y")],
)
def test_where_it_is_plain_which_class_is_positive_that_is_taken_and_said(no, yes):
    """In the words of everybody, whichever stands first in the table."""
    found, note = fitted(yes, no, no)
    assert found == [1, 0, 0]
    assert note is not None
    assert note.startswith("the label of table 'customers' is ")
    assert "is taken as the positive class, 1; `positive` beside `label` can name the other one" in note
    assert fitted(no, yes)[0] == [0, 1]


@pytest.mark.parametrize("labels", [("0", "1"), ("0.0", "1.0", "1", "0"), ("00", "1e0")])
def test_zero_and_one_are_nothing_to_talk_about(labels):
    """However they are written."""
    assert fitted(*labels) == ([float(label) for label in labels], None)


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("bad", "good"), "good"),
        (("2", "1"), "1"),
        (("yes", "no"), "no"),
        (("1.0", "2.0"), "2"),
        (("a", "2"), " \u00b2"),
    ],
)
def test_the_settings_say_which_class_is_positive(labels, positive):
    """As classes are read, numbers by their value; nobody has to be told."""
    found, note = fitted(*labels, positive=positive)
    one = {"2": {"2.0"}, " \u00b2": {"2"}}.get(positive, {positive})
    assert (found, note) == ([float(label in one) for label in labels], None)


@pytest.mark.parametrize("labels", [("good", "bad"), ("1", "2"), ("yes", "none"), ("0", "true")])
def test_two_classes_of_which_none_is_plainly_positive_are_refused_with_the_setting(labels):
    """And none of them is shown."""
    problem = refused(*labels)
    assert "has two classes, and nothing says which of them is the positive one" in problem.what
    assert 'write positive = "..."' in problem.remedy
    assert "[tables.customers]" in problem.remedy
    assert not any(label in problem.what for label in labels if label != "1")


def test_a_positive_class_that_does_not_occur_is_refused():
    """Capitals count, as everywhere among texts."""
    assert "`positive` names none of the two classes" in refused("Good", "Bad", positive="good").what
    assert "`positive`" in refused("1", "2", positive=" ").what


def test_other_numbers_of_classes_are_refused_with_what_to_do():
    """One, or more than two, whatever the settings name."""
    assert "has 1 class in the rows" in refused("yes", "yes").what
    problem = refused("0", "1", "2", positive="1")
    assert "has 3 classes in the rows" in problem.what
    assert 'model = "one-vs-rest" or "softmax"' in problem.remedy


def test_classes_that_only_rows_of_others_have_do_not_count():
    """A label that is not known yet, say."""
    label, note = two_classes(np.array([0.0, 2.0]), ("0", "?", "1"), None, "customers")
    assert (label.tolist(), note) == ([0, 1], None)


def test_a_whole_table_is_judged_before_anybody_is_asked_for_ids():
    """Where it has two classes; of more some may go."""
    check_two_classes(("0", "1", "?"), None, "customers")
    check_two_classes(("good",), None, "customers")
    check_two_classes(("bad", "good"), "good", "customers")
    with pytest.raises(UnfitLabel, match="positive"):
        check_two_classes(("bad", "good"), None, "customers")


def test_the_owner_of_a_table_is_told_of_its_label_without_any_job():
    """What would be taken, or what to write."""
    assert "yes is taken" in str(about_two_classes(("no", "yes"), None, "customers"))
    assert str(about_two_classes(("bad", "good"), None, "customers")).startswith("for a logistic model the label")
    assert about_two_classes(("bad", "good"), "good", "customers") is None
    assert about_two_classes(("0.0", "1.0"), None, "customers") is None
    assert about_two_classes(("a", "b", "c"), None, "customers") is None
