"""A label becomes what a model is trained on, and a score is led back to the label's own terms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tercet.tables.core.problem import TableProblem
from tercet.tables.encoding.label import Classes, LabelScaling, UnfitLabel


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8).filter(lambda y: np.ptp(y) > 1e-3))
def test_a_label_is_standardised_and_restored(label):
    """Through JSON as well."""
    scaling = LabelScaling.fit(np.array(label), "customers")
    assert LabelScaling.model_validate_json(scaling.model_dump_json()) == scaling
    scaled = scaling.apply(np.array(label))
    assert abs(scaled.mean()) < 1e-6
    assert abs(scaled.std() - 1) < 1e-6
    np.testing.assert_allclose(scaling.restore(scaled), label, rtol=1e-9, atol=1e-6)


def test_a_label_far_out_is_clipped():
    """At the bound that the planner counts on, which a stored one can't widen."""
    scaling = LabelScaling(mean=1.0, scale=2.0)
    assert scaling.apply(np.array([1e300, -1e300, 3.0])).tolist() == [16, -16, 1]
    with pytest.raises(ValidationError):
        LabelScaling(mean=1.0, scale=2.0, clip=17.0)


@given(st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=8).filter(lambda y: np.ptp(y) > 1e-3))
def test_a_label_above_zero_is_divided_by_its_mean_where_scores_are_logarithms(label):
    """And never clipped, since the logarithm sees to what is large."""
    scaling = LabelScaling.fit_log(np.array(label), "claims")
    assert LabelScaling.model_validate_json(scaling.model_dump_json()) == scaling
    assert scaling.scale == pytest.approx(np.mean(label))
    scaled = scaling.apply(np.array(label))
    np.testing.assert_allclose(scaled * np.mean(label), label)
    np.testing.assert_allclose(np.exp(scaling.restore(np.log(scaled))), label, rtol=1e-9)
    assert scaling.apply(np.array([1e9 * scaling.scale])).tolist() == [pytest.approx(1e9)]


def test_a_label_without_a_logarithm_is_refused_and_counted():
    """To its owner with the table and the remedy; to the others with nothing of the data."""
    with pytest.raises(UnfitLabel, match=r"'claims' is 0 or below in 2 of 4 training rows; leave") as caught:
        LabelScaling.fit_log(np.array([1.0, 0.0, -1.0, 2.0]), "claims")
    assert caught.value.public == "the label of table 'claims' does not fit the model"
    with pytest.raises(TableProblem, match="one value"):
        LabelScaling.fit_log(np.array([3.0, 3.0]), "claims")
    with pytest.raises(ValidationError):
        LabelScaling(mean=1.0, scale=2.0, clip=None, log=True)


def test_amounts_below_zero_are_refused_and_counted():
    """0 is none of them, unless all are; else they are divided by their mean."""
    assert LabelScaling.fit_amounts(np.array([0.0, 1.0, 2.0]), "claims").scale == 1.0
    with pytest.raises(UnfitLabel, match=r"'claims' is below 0 in 1 of 3 training rows; leave"):
        LabelScaling.fit_amounts(np.array([0.0, -1.0, 2.0]), "claims")
    with pytest.raises(UnfitLabel, match="are 0; give rows with amounts above 0, too"):
        LabelScaling.fit_amounts(np.zeros(3), "claims")


def test_classes_are_those_of_the_rows_in_common_in_the_tables_order():
    """Others of the table have no output; each label is told by its place among those that are left."""
    classes, codes = Classes.fit(np.array([4.0, 0.0, 2.0, 2.0]), ("a", "b", "c", "d", "e"), "flowers")
    assert (classes.names, codes.tolist()) == (("a", "c", "e"), [2, 0, 1, 1])
    assert Classes.model_validate_json(classes.model_dump_json()) == classes
    assert classes.warnings(codes) == []
    assert classes.warnings(codes[:2]) == ["1 of the label's 3 classes occurs in held-out rows only"]


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "has 1 class in the rows"), (2, 'has 2 classes .*; use model = "logistic"'), (1001, "at most 1000")],
)
def test_too_few_classes_or_too_many_are_refused_with_what_to_do(count, words):
    """And to the others with nothing of the data."""
    with pytest.raises(UnfitLabel, match=words) as caught:
        Classes.fit(np.arange(count, dtype=float), tuple(f"class {n:04d}" for n in range(count)), "flowers")
    assert caught.value.public == "the label of table 'flowers' does not fit the model"


def test_a_label_that_is_always_the_same_is_refused():
    """There is nothing to learn; the public sentence does not tell which label."""
    with pytest.raises(TableProblem, match="the label of table 'customers' has one value") as caught:
        LabelScaling.fit(np.array([3.0, 3.0]), "customers")
    assert caught.value.public == "the label of the table 'customers' is the same in every row"
