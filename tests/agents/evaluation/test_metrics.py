"""Metrics are what their definitions say, and curves are what a report can draw, whatever the rows."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_expit
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    d2_tweedie_score,
    mean_tweedie_deviance,
    recall_score,
    roc_auc_score,
)

from tercet.agents.evaluation.metrics import (
    BINS,
    MOST_POINTS,
    OF_CLASSES,
    Curves,
    class_probabilities,
    curves,
    histogram,
    metrics,
    probabilities,
)
from tercet.schemas.files.job import METRICS

SCORES = st.floats(-50, 50, allow_subnormal=False)
COARSE = st.integers(-3, 3).map(float)  # with many ties
OF_ONE_CLASS = {"accuracy", "log_loss", "calibration_error"}


@st.composite
def classified(draw, scores=SCORES | COARSE, least=2):
    """Centred labels of both classes, and log-odds."""
    rows = draw(st.lists(st.tuples(st.booleans(), scores), min_size=least, max_size=60))
    positive, values = zip(*rows, strict=True)
    labels = np.array(positive) - 0.5
    labels[:2] = [0.5, -0.5]
    return labels, np.array(values)


@st.composite
def regressed(draw, least=1):
    """Labels that may be all the same, and predictions."""
    value = st.floats(-1e6, 1e6, allow_subnormal=False)
    rows = draw(st.lists(st.tuples(value, value), min_size=least, max_size=60))
    labels, scores = np.array(rows).T
    return labels, scores


@st.composite
def chosen(draw):
    """Numbers of classes, and a score for each class and row."""
    classes, rows = draw(st.integers(3, 5)), draw(st.integers(1, 30))
    labels = draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    return labels.astype(float), draw(arrays(float, (rows, classes), elements=st.floats(-20, 20) | COARSE))


@st.composite
def expecting(draw, link):
    """Counts, or labels above zero, and logarithms of what was expected."""
    label = st.integers(0, 50).map(float) if link == "poisson" else st.floats(0.01, 1e4)
    label = st.just(0.0) | label if link == "tweedie" else label
    rows = draw(st.lists(st.tuples(label, st.floats(-5, 5)), min_size=1, max_size=30))
    labels, logs = np.array(rows).T
    return labels, logs


def random_rows(count, seed=7):
    """Log-odds without ties, and labels drawn from them."""
    random = np.random.default_rng(seed)
    scores = random.normal(-1, 1.5, count)
    return (random.random(count) < probabilities(scores)) - 0.5, scores


@given(rows=classified())
def test_a_classifier_has_exactly_the_metrics_that_jobs_may_name(rows):
    """In the order in which they are listed there, and finite."""
    found = metrics("logistic", *rows)
    assert list(found) == list(METRICS["logistic"])
    assert all(math.isfinite(value) for value in found.values())


@given(rows=regressed())
def test_a_regression_has_exactly_the_metrics_that_jobs_may_name(rows):
    """But no r2 where all labels are the same, and perhaps none where they differ by nothing to speak of."""
    found = metrics("linear", *rows)
    expected, spread = list(METRICS["linear"]), np.ptp(rows[0])
    assert list(found) in ([expected] if spread > 1e-3 else [expected[1:]] if spread == 0 else [expected, expected[1:]])
    assert all(math.isfinite(value) for value in found.values())


@given(rows=chosen(), link=st.sampled_from(["softmax", "one-vs-rest"]))
def test_a_choice_has_exactly_the_metrics_that_jobs_may_name_and_they_are_scikit_learns(rows, link):
    """Of any classes that have rows; no auc where there is only one."""
    labels, scores = rows
    found, present = metrics(link, labels, scores), np.unique(labels)
    assert list(found) == [name for name in METRICS[link] if name != "auc" or len(present) > 1]
    chances, best = class_probabilities(link, scores), scores.argmax(axis=1)
    assert np.allclose(chances.sum(axis=1), 1)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, best))
    recalls = recall_score(labels, best, labels=present, average="macro", zero_division=0)
    assert found["balanced_accuracy"] == pytest.approx(recalls)
    if link == "one-vs-rest":
        np.testing.assert_allclose(chances, expit(scores) / expit(scores).sum(axis=1, keepdims=True), rtol=1e-9)
        scores = log_expit(scores)
    right = scores[np.arange(len(labels)), labels.astype(int)]
    assert found["log_loss"] == pytest.approx(np.mean(np.logaddexp.reduce(scores, axis=1) - right), abs=1e-9)
    if len(present) > 1:
        each = [roc_auc_score(labels == one, np.log(chances[:, int(one)])) for one in present]
        assert found["auc"] == pytest.approx(np.mean(each))


@given(rows=chosen())
def test_a_confusion_counts_every_row_by_class_and_by_prediction(rows):
    """And the predicted class is as probable as it is calibrated to be."""
    labels, scores = rows
    found: Any = curves("softmax", labels, scores)
    classes = range(scores.shape[1])
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, scores.argmax(axis=1), labels=classes))
    _, observed, count = found.calibration.T
    assert observed @ count == pytest.approx(np.trace(found.confusion))


def test_a_choice_does_not_depend_on_what_is_added_to_all_scores_of_a_row():
    """They are logarithms of probabilities but for that; and nothing overflows."""
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 4, 50).astype(float), random.normal(size=(50, 4))
    shifted = scores + random.normal(size=(50, 1)) * 1e3
    assert metrics("softmax", labels, shifted) == pytest.approx(metrics("softmax", labels, scores))
    assert metrics("softmax", np.array([0.0, 2.0]), np.array([[0.0, 900, 0], [0, 900, 0]]))["log_loss"] == 900


def test_chances_of_one_against_the_rest_are_defined_where_no_class_is_likely():
    """Though each sigmoid is 0 in float64: what is left is how they compare."""
    chances = class_probabilities("one-vs-rest", np.array([[-900.0, -901, -900], [900, 0, -900]]))
    np.testing.assert_allclose(chances[0], np.exp([0, -1, 0]) / np.exp([0, -1, 0]).sum())
    np.testing.assert_allclose(chances[1], [2 / 3, 1 / 3, 0], atol=1e-12)


@pytest.mark.parametrize(("link", "power"), [("poisson", 1), ("gamma", 2), ("tweedie", 1.3)])
@given(data=st.data())
def test_deviances_and_errors_of_expected_labels_are_scikit_learns(link, power, data):
    """The metrics that jobs may name, but no d2 where all labels are the same."""
    labels, logs = data.draw(expecting(link))
    found = metrics(link, labels, logs, power=power)
    names = list(METRICS[link]) if np.ptp(labels) > 0 else list(METRICS[link])[1:]
    assert list(found) == names
    means = np.exp(logs)
    assert found["deviance"] == pytest.approx(mean_tweedie_deviance(labels, means, power=power), rel=1e-6, abs=1e-9)
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean((labels - means) ** 2)))
    assert found["mae"] == pytest.approx(np.mean(np.abs(labels - means)))
    if "d2" in found:
        assert found["d2"] == pytest.approx(d2_tweedie_score(labels, means, power=power), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("link", ["poisson", "gamma"])
@pytest.mark.parametrize("logs", [[1e5, -1e5], [-1e99, 1e99], [0.0, 0.0]])
@pytest.mark.parametrize("labels", [[1.0, 1e99], [3.0, 3.0], [1e-99, 1.0]])
def test_expected_labels_however_far_out_have_finite_metrics_and_curves(link, logs, labels):
    """And nothing warns."""
    found = metrics(link, np.array(labels), np.array(logs))
    assert set(found) - {"d2"} == {"deviance", "rmse", "mae"}
    assert all(math.isfinite(value) for value in found.values())
    draws: Any = curves(link, np.array(labels), np.array(logs))
    assert np.isfinite(draws.actual).all()
    assert draws.residuals.counts.sum() == 2


@given(rows=classified())
def test_auc_ks_and_average_precision_are_their_definitions(rows):
    """Pairs in the right order, the widest gap of the classes, and each precision by the recall it adds, all tried."""
    labels, scores = rows
    found, positive, negative = metrics("logistic", *rows), scores[labels > 0], scores[labels < 0]
    gaps = positive[:, None] - negative
    assert found["auc"] == pytest.approx(np.mean((gaps > 0) + (gaps == 0) / 2))  # ties count half
    widest = max(abs(np.mean(positive >= at) - np.mean(negative >= at)) for at in scores)
    assert found["ks"] == pytest.approx(widest)
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        right = np.count_nonzero(positive >= threshold)
        recall = right / len(positive)
        total += (recall - before) * right / np.count_nonzero(scores >= threshold)
        before = recall
    assert found["average_precision"] == pytest.approx(total)


@given(rows=classified(st.floats(-20, 20)))
def test_log_loss_and_accuracy_are_those_of_the_probabilities(rows):
    """Scores above 0 predict the positive class."""
    labels, scores = rows
    right = [1 / (1 + math.exp(-score * (1 if label > 0 else -1))) for label, score in zip(labels, scores, strict=True)]
    found = metrics("logistic", *rows)
    assert found["log_loss"] == pytest.approx(-np.mean(np.log(right)))
    assert found["accuracy"] == pytest.approx(np.mean((scores > 0) == (labels > 0)))


def test_a_certain_mistake_costs_what_it_should():
    """A probability that rounds to 1 does not hide how wrong it was."""
    assert metrics("logistic", np.array([-0.5, 0.5]), np.array([700.0, 700.0]))["log_loss"] == pytest.approx(350)


def test_the_calibration_error_is_the_one_by_hand():
    """Over bins of equally many rows, without ties, weighted by rows."""
    labels, scores = random_rows(1003)
    order = np.argsort(scores)
    by_hand = 0.0
    for rows in np.array_split(order, 10):
        predicted = np.mean(1 / (1 + np.exp(-scores[rows])))
        by_hand += len(rows) / 1003 * abs(predicted - np.mean(labels[rows] > 0))
    assert metrics("logistic", labels, scores)["calibration_error"] == pytest.approx(by_hand)


def test_a_model_that_says_the_prevalence_of_every_row_is_calibrated():
    """However the positive rows lie among the equal scores."""
    labels = np.r_[np.full(30, 0.5), np.full(70, -0.5)]
    found = metrics("logistic", labels, np.full(100, math.log(3 / 7)))
    assert found["calibration_error"] == pytest.approx(0, abs=1e-12)


@given(rows=classified(), data=st.data())
def test_no_metric_and_no_curve_depends_on_the_order_of_the_rows(rows, data):
    """Even where scores are tied."""
    labels, scores = rows
    order = np.array(data.draw(st.permutations(range(len(labels)))))
    assert metrics("logistic", labels[order], scores[order]) == pytest.approx(metrics("logistic", labels, scores))
    here, there = curves("logistic", labels, scores), curves("logistic", labels[order], scores[order])
    for name in ("roc", "precision_recall", "calibration", "gain", "lift"):
        np.testing.assert_allclose(getattr(here, name), getattr(there, name), atol=1e-12)


@given(rows=regressed(least=2))
def test_the_metrics_of_a_regression_are_their_definitions(rows):
    """In the units of the label."""
    labels, scores = rows
    found, error = metrics("linear", *rows), labels - scores
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean(error**2)))
    assert found["mae"] == pytest.approx(np.mean(np.abs(error)))
    if np.ptp(labels) > 1e-3:
        assert found["r2"] == pytest.approx(1 - np.sum(error**2) / np.sum((labels - labels.mean()) ** 2))


@pytest.mark.parametrize("label", [-0.5, 0.5])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_rows_of_one_class_leave_out_what_they_do_not_define(label, rows):
    """And nothing warns."""
    labels, scores = np.full(rows, label), np.linspace(-2, 2, rows)
    assert set(metrics("logistic", labels, scores)) == OF_ONE_CLASS
    found: Any = curves("logistic", labels, scores)
    assert (found.roc, found.precision_recall, found.gain, found.lift) == (None,) * 4
    assert found.calibration is not None


@pytest.mark.parametrize("model", METRICS)
def test_no_row_defines_nothing(model):
    """No held-out row, no metric."""
    none = np.zeros((0, 3)) if model in OF_CLASSES else np.zeros(0)
    assert metrics(model, np.zeros(0), none) == {}
    found: Any = curves(model, np.zeros(0), none)
    assert all(getattr(found, name) is None for name in Curves.__dataclass_fields__)


@pytest.mark.parametrize("scores", [[0.0, 650.0], [0.0, 0.0], [5.0, 5.0]])
@pytest.mark.parametrize("labels", [[0.0, 6e-152], [0.0, 1e-170], [0.0, 1e-262], [5.0, 5.0]])
def test_labels_that_hardly_differ_have_errors_and_an_r2_at_most_if_it_is_finite(labels, scores):
    """And nothing warns."""
    found = metrics("linear", np.array(labels), np.array(scores))
    assert set(found) - {"r2"} == {"rmse", "mae"}
    assert all(math.isfinite(value) for value in found.values())


def test_one_row_of_a_regression_has_errors_and_no_r2():
    """Which is undefined for it."""
    assert metrics("linear", np.array([3.0]), np.array([1.0])) == {"rmse": 2.0, "mae": 2.0}


@given(rows=classified())
def test_roc_and_gain_rise_from_corner_to_corner_and_recall_from_0_to_1(rows):
    """Within the unit square; whoever selects all rows is right as often as there are positive ones."""
    found: Any = curves("logistic", *rows)
    for curve in (found.roc, found.gain):
        assert (np.diff(curve, axis=0) >= -1e-12).all()
        np.testing.assert_allclose(curve[[0, -1]], [[0, 0], [1, 1]])
    recall, precision = found.precision_recall.T
    assert (np.diff(recall) >= 0).all()
    assert (recall[0], recall[-1]) == (0, 1)
    assert ((precision >= 0) & (precision <= 1)).all()
    assert precision[-1] == pytest.approx(found.prevalence)


@given(rows=classified())
def test_deciles_hold_all_rows_equally(rows):
    """The weighted mean of their shares is the prevalence, and the lift is measured against it."""
    labels, _ = rows
    found: Any = curves("logistic", *rows)
    predicted, observed, count = found.calibration.T
    assert count.sum() == len(labels)
    assert np.ptp(count) <= 1
    assert len(count) == min(BINS, len(labels))
    assert (np.diff(predicted) >= -1e-12).all()
    assert observed @ count / count.sum() == pytest.approx(np.mean(labels > 0))
    assert found.lift @ count[::-1] / count.sum() == pytest.approx(1)


def test_a_large_table_gives_small_curves_with_their_ends_and_their_shape():
    """At most so many points, none of them moved, and the area under the thinned ROC is the AUC."""
    labels, scores = random_rows(20_000)
    found: Any = curves("logistic", labels, scores)
    for curve in (found.roc, found.precision_recall):
        assert 100 < len(curve) <= MOST_POINTS
        assert (np.diff(curve[:, 0]) >= 0).all()
    np.testing.assert_array_equal(found.roc[[0, -1]], [[0, 0], [1, 1]])
    assert found.precision_recall[-1, 0] == 1
    auc = metrics("logistic", labels, scores)["auc"]
    assert np.trapezoid(found.roc[:, 1], found.roc[:, 0]) == pytest.approx(auc, abs=2e-3)
    positives = np.count_nonzero(labels > 0)
    np.testing.assert_allclose(found.roc[:, 1] * positives, np.rint(found.roc[:, 1] * positives), atol=1e-6)


@given(rows=regressed())
def test_a_regression_is_compared_by_decile_and_every_residual_is_counted(rows):
    """Residuals are actual minus predicted."""
    labels, scores = rows
    found: Any = curves("linear", *rows)
    predicted, actual, count = found.actual.T
    assert predicted @ count == pytest.approx(scores.sum(), rel=1e-6, abs=1e-3)
    assert actual @ count == pytest.approx(labels.sum(), rel=1e-6, abs=1e-3)
    assert found.residuals.counts.sum() == len(labels)
    if np.ptp(labels - scores) > 1e-3:
        extremes = [np.min(labels - scores), np.max(labels - scores)]
        np.testing.assert_allclose(found.residuals.edges[[0, -1]], extremes)


@given(scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_probabilities_never_overflow(scores):
    """And lie between 0 and 1."""
    found = probabilities(np.array(scores))
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("values", [[4.0], [4.0] * 9, [1.0, 2.0]])
def test_a_histogram_of_few_values_is_still_one(values):
    """Edges rise, and one edge more than counts."""
    found = histogram(np.array(values))
    assert (np.diff(found.edges) > 0).all()
    assert len(found.edges) == len(found.counts) + 1
    assert found.counts.sum() == len(values)
