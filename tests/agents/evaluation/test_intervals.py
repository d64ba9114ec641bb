"""Intervals of AUC and KS: as published, as defined, and as often right as they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tercet.agents.evaluation import intervals as module
from tercet.agents.evaluation.intervals import MOST_PLACES, compare_auc, delong, intervals
from tercet.agents.evaluation.metrics import metrics

# Ovarian cancer: albumin, total protein, a nutrition score less 10, and whether it came back. Of DeLong et al. as SAS
# documents its PROC LOGISTIC with, which prints what is below.
TEXT = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""
PATIENTS = np.array(TEXT.split(), float).reshape(-1, 4)
MARKERS, BACK = PATIENTS[:, :3] * [1, 1, -1], PATIENTS[:, 3] > 0


def test_areas_and_errors_are_the_published_ones() -> None:
    """Of SAS: areas 0.7366, 0.6478 and 0.7258 with standard errors 0.0927, 0.1000 and 0.1028."""
    areas, covariance = delong(BACK, MARKERS)
    assert areas.round(4).tolist() == [0.7366, 0.6478, 0.7258]
    assert np.sqrt(np.diag(covariance)).round(4).tolist() == [0.0927, 0.1000, 0.1028]


def test_differences_are_the_published_ones() -> None:
    """Of SAS: 0.0108 with standard error 0.0953 and p 0.9102, and -0.0780 with 0.1046 and p 0.4561."""
    for marker, difference, error, p in ((0, 0.0108, 0.0953, 0.9102), (1, -0.0780, 0.1046, 0.4561)):
        found = compare_auc(np.where(BACK, 0.5, -0.5), MARKERS[:, 2], MARKERS[:, marker])
        assert found is not None
        assert round(found.difference, 4) == difference
        assert round((found.interval[1] - found.interval[0]) / 2 / 1.959964, 4) == error
        assert round(found.p, 4) == p


def by_definition(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[list[float], list[list[float]]]:
    """The same, pair of rows by pair of rows."""
    wins = [
        np.array([[float(a > b) + 0.5 * float(a == b) for b in column[~positive]] for a in column[positive]])
        for column in scores.T
    ]
    above, below = [w.mean(axis=1) for w in wins], [w.mean(axis=0) for w in wins]

    def shared(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        return float(((one - one.mean()) * (other - other.mean())).sum() / (len(one) - 1) / len(one))

    models = range(len(wins))
    covariance = [[shared(above[i], above[j]) + shared(below[i], below[j]) for j in models] for i in models]
    return [float(w.mean()) for w in wins], covariance


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.floats(-5, 5)), min_size=4, max_size=40))
def test_ranks_say_what_pairs_of_rows_say(rows: list[tuple[bool, int, float]]) -> None:
    """Ties too."""
    positive = np.array([one[0] for one in rows])
    positive[:4] = [True, True, False, False]
    scores = np.array([one[1:] for one in rows], float)
    areas, covariance = delong(positive, scores)
    expected, shared = by_definition(positive, scores)
    assert np.allclose(areas, expected)
    assert np.allclose(covariance, shared, atol=1e-12)
    assert math.isclose(areas[1], roc_auc_score(positive, scores[:, 1]))


def sample(rng: np.random.Generator, rows: int, apart: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels, a quarter positive, and normal scores whose means are so far apart."""
    positive = rng.random(rows) < 0.25
    return np.where(positive, 0.5, -0.5), np.asarray(rng.normal(size=rows) + apart * positive, np.float64)


@pytest.mark.parametrize(("rows", "apart"), [(100, 1.0), (150, 0.4)])
def test_intervals_hold_the_truth_as_often_as_they_say(
    rows: int, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of AUC in 95 of 100 samples, of KS in as many or more; neither is so wide that it says nothing."""
    monkeypatch.setattr(module, "DRAWS", 100)
    rng, samples = np.random.default_rng(5), 200
    true = {"auc": norm.cdf(apart / np.sqrt(2)), "ks": 2 * norm.cdf(apart / 2) - 1}
    held, width = {"auc": 0, "ks": 0}, {"auc": 0.0, "ks": 0.0}
    for _ in range(samples):
        for name, (low, high) in intervals("logistic", *sample(rng, rows, apart)).items():
            held[name] += low <= true[name] <= high
            width[name] += (high - low) / samples
    assert 0.91 <= held["auc"] / samples <= 0.985
    assert held["ks"] / samples >= 0.93
    assert width["auc"] < 3 / math.sqrt(rows)
    assert width["ks"] < 3 * width["auc"]


def test_a_difference_that_is_none_is_seldom_found() -> None:
    """In five of a hundred samples at the level of five; a real one is found."""
    rng, found = np.random.default_rng(7), []
    for apart in (0.0, 1.0):
        ps = []
        for _ in range(200):
            labels, scores = sample(rng, 300, 1.0)
            shared = rng.normal(size=300)
            one, other = scores + shared, scores + 0.5 * shared + rng.normal(size=300) * math.sqrt(0.75)
            difference = compare_auc(labels, one, other + apart * (labels > 0))
            assert difference is not None
            ps.append(difference.p)
        found.append(np.mean(np.array(ps) < 0.05))
    assert found[0] < 0.1
    assert found[1] > 0.9


def test_the_same_rows_give_the_same_interval_around_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of more rows than places at which a curve is looked at."""
    monkeypatch.setattr(module, "DRAWS", 200)
    rng = np.random.default_rng(3)
    for rows in (50, 5 * MOST_PLACES):
        labels, scores = sample(rng, rows, 1.0)
        found, measured = intervals("logistic", labels, scores), metrics("logistic", labels, scores)
        assert found == intervals("logistic", labels, scores)
        for name, (low, high) in found.items():
            assert 0 <= low < measured[name] < high <= 1
        backwards = intervals("logistic", labels, -scores)
        assert np.allclose(backwards["auc"], [1 - found["auc"][1], 1 - found["auc"][0]])


def test_a_model_nearly_without_mistakes_has_an_interval_within_bounds() -> None:
    labels = np.where(np.arange(4000) < 2000, 0.5, -0.5)
    scores = np.arange(4000.0)[::-1].copy()
    scores[[1999, 2000]] = scores[[2000, 1999]]
    low, high = intervals("logistic", labels, scores)["auc"]
    assert 0 <= low < 1 - 1 / 2000**2 <= high <= 1


def test_rows_that_cannot_tell_have_no_interval() -> None:
    """One of a class, a model without a mistake, two models that order rows alike, or another kind of model."""
    labels, scores = np.array([0.5, -0.5, -0.5, -0.5]), np.array([0.3, 0.1, 0.5, 0.2])
    assert intervals("logistic", labels, scores) == {}
    assert compare_auc(labels, scores, scores) is None
    split = np.array([0.5, 0.5, -0.5, -0.5])
    assert intervals("logistic", split, np.array([3.0, 2.0, 1.0, 0.0])) == {}
    assert intervals("linear", split, scores) == {}
    assert compare_auc(split, scores, 2 * scores + 1) is None
