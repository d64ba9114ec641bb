"""Mean and deviation of any numbers, however they are split, without leaving float64's range."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from tercet.tables.core.moments import Moments, standardise
from tests.tables.made_up import FINITE


def moments(*batches):
    """Mean and deviation of all of them."""
    found = Moments()
    for batch in batches:
        found.add(np.array(batch, dtype=np.float64))
    return found.result


def exactly(values):
    """Mean, and variance, of the very numbers."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    return mean, sum((value - mean) ** 2 for value in exact) / len(exact)


@given(st.lists(st.lists(FINITE, max_size=4), min_size=1, max_size=5).filter(any))
def test_mean_and_deviation_are_those_of_the_exact_sums(batches):
    """To float64's accuracy of the largest number, from subnormal to 1e308."""
    values = [value for batch in batches for value in batch]
    mean, variance = exactly(values)
    found_mean, found_scale = moments(*batches)
    largest = max(abs(Fraction(value)) for value in values)
    allowed = largest / 2**49 + Fraction(math.ulp(0.0))
    assert abs(Fraction(found_mean) - mean) <= allowed
    assert (
        abs(Fraction(found_scale) ** 2 - variance)
        <= allowed * (Fraction(found_scale) + largest / 2**40) * 4 + allowed**2
    )


@given(value=FINITE, counts=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any))
def test_equal_numbers_have_no_deviation_at_all(value, counts):
    """However rounding would have it."""
    assert moments(*([value] * count for count in counts)) == (value, 0.0)


def test_no_numbers_have_mean_and_deviation_zero():
    """A column may be missing in every row."""
    assert moments() == moments([]) == (0.0, 0.0)


def test_a_million_numbers_in_batches_are_as_scikit_learn_has_them():
    """To twelve digits, with a mean that is large against the deviation."""
    values = np.random.default_rng(1).normal(50, 3, 1_000_000)
    scaler = StandardScaler()
    for batch in np.array_split(values, 77):
        scaler.partial_fit(batch[:, None])
    found = moments(*np.array_split(values, 91))
    np.testing.assert_allclose(found, [scaler.mean_[0], scaler.scale_[0]], rtol=1e-12)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("power", [1e300, 1e-300, 5e-324])
def test_very_large_and_very_small_numbers_have_a_deviation(power, order):
    """Whose squares are no float64; whichever come first, also after zeros."""
    batches = [[0.0], [power * 64], [power * 192, power * 128, power * 256, 0.0]][::order]
    values = np.array([value for batch in batches for value in batch]) / power
    mean, scale = moments(*batches)
    np.testing.assert_allclose([mean / power, scale / power], [values.mean(), values.std()], rtol=1e-2)
    assert moments([-1.7e308, 1.7e308]) == (0.0, 1.7e308)


def test_standardising_overflows_to_the_clip_and_leaves_what_is_missing():
    """On the right side."""
    values = np.array([1.7e308, -1.7e308, np.nan, 3.0])
    assert str(standardise(values, -1e308, 1e-300, 16.0).tolist()) == "[16.0, -16.0, nan, 16.0]"
    assert standardise(values, 1.0, 4.0, 16.0)[3] == 0.5
