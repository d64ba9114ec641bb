"""A label is standardised for training and a score led back to the label's unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tables.label import LabelScaling
from tables.problem import TableProblem


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


def test_a_label_that_is_always_the_same_is_refused():
    """There is nothing to learn; the public sentence does not tell which label."""
    with pytest.raises(TableProblem, match="the label of table 'customers' has one value") as caught:
        LabelScaling.fit(np.array([3.0, 3.0]), "customers")
    assert caught.value.public == "the label of the table 'customers' is the same in every row"
