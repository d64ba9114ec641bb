"""The plaintext baselines are honest: the same schedule for all, and as good as a library's logistic regression."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor, TweedieRegressor
from sklearn.multiclass import OneVsRestClassifier

from tercet.agents.evaluation import baselines
from tercet.agents.evaluation.baselines import ERRORS, Fitted, auc, compare, sgd
from tercet.agents.evaluation.metrics import class_probabilities
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.schedule import batch_sizes
from tercet.schemas.files.job import METRICS, Training


def training(**changes) -> Training:
    """A schedule that converges on small data."""
    usual = {"epochs": 200, "batch": 64, "rate": 0.5, "schedule": "inverse-time", "decay": 0.01}
    return Training.model_validate(usual | changes)


@pytest.fixture(scope="module")
def data():
    """Columns of two parties and labels that depend on both."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(600, 4))
    y = (generator.random(600) < 1 / (1 + np.exp(-x @ [1, -1, 1, 0.5] - 0.7))).astype(float)
    return x, y


@pytest.fixture(scope="module")
def flowers():
    """Their measures, standardised, and their classes."""
    x, classes = load_iris(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), classes


@pytest.mark.parametrize(("l2", "within"), [(0.0, 0.05), (0.2, 0.02)])
def test_sgd_comes_to_the_optimum_of_the_log_loss(data, l2, within):
    """As scikit-learn finds it; the penalty, l2 / 2 times squared weights, is not on the intercept."""
    x, y = data
    found = sgd(x, y, training(l2=l2))
    best = LogisticRegression(C=1 / (l2 * len(y)) if l2 else np.inf).fit(x, y)
    np.testing.assert_allclose(found.weights, best.coef_[0], atol=within)
    assert abs(found.intercept - best.intercept_[0]) < within


def test_softmax_comes_to_the_optimum_of_its_log_loss(flowers):
    """As scikit-learn finds it on flowers; what is the same for all classes of a row is left out of the comparison."""
    x, classes = flowers
    found = sgd(x, np.eye(3)[classes], training(l2=0.05, epochs=400), link="softmax")
    best = LogisticRegression(C=1 / (0.05 * len(x))).fit(x, classes)
    np.testing.assert_allclose(found.weights - found.weights.mean(axis=1, keepdims=True), best.coef_.T, atol=0.02)
    assert np.mean(found.scores(x).argmax(axis=1) == classes) > 0.9


def test_one_against_the_rest_comes_to_the_optimum_of_each_class(flowers):
    """As scikit-learn's classifier of that name finds it, by a logistic regression for each flower."""
    x, classes = flowers
    found = sgd(x, np.eye(3)[classes], training(l2=0.05, epochs=400), link="one-vs-rest")
    best = OneVsRestClassifier(LogisticRegression(C=1 / (0.05 * len(x)))).fit(x, classes)
    for place, each in enumerate(best.estimators_):
        np.testing.assert_allclose(found.weights[:, place], each.coef_[0], atol=0.02)
        assert abs(np.atleast_1d(found.intercept)[place] - each.intercept_[0]) < 0.02
    chances = class_probabilities("one-vs-rest", found.scores(x))
    np.testing.assert_allclose(chances, best.predict_proba(x), atol=0.01)


TWEEDIE = partial(TweedieRegressor, power=1.5, link="log")


@pytest.mark.parametrize(
    ("link", "model"), [("poisson", PoissonRegressor), ("gamma", GammaRegressor), ("tweedie", TWEEDIE)]
)
def test_models_of_a_logarithm_come_to_the_optimum_of_their_deviance(link, model):
    """As scikit-learn finds it."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(800, 4))
    means = np.exp(x @ [0.4, -0.3, 0.2, 0.1] + 0.5)
    y = generator.poisson(means) if link == "poisson" else means * generator.gamma(3.0, 1 / 3, 800)
    y = y * (generator.random(800) < 0.7) if link == "tweedie" else y
    found = sgd(x, y.astype(float), training(rate=0.1, l2=0.01), link=link, power=1.5)
    best = model(alpha=0.01, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(found.weights, best.coef_, atol=0.01)
    assert abs(found.intercept - best.intercept_) < 0.01


@pytest.mark.parametrize("link", ERRORS)
def test_a_rate_that_is_too_large_ends_without_a_warning(link):
    """In whatever figures; the caller looks whether they are finite."""
    y = np.eye(3)[[0, 1, 2]] if LINKS[link].classes else np.array([1.0, 0.5, 1.0])
    found = sgd(1e3 * np.eye(3), y, training(epochs=30, rate=1e3), link=link)
    assert found.scores(np.eye(3)).shape == y.shape


def test_every_link_has_a_baseline():
    """None is left without a comparison."""
    assert ERRORS.keys() == METRICS.keys() == LINKS.keys()


@pytest.mark.parametrize(
    ("schedule", "fall", "rates"),
    [
        ("constant", {}, [2, 2, 2]),
        ("inverse-time", {"decay": 0.5}, [2, 4 / 3, 1]),
        ("exponential", {"decay": 0.5}, [2, 1, 0.5]),
        ("linear", {"decay": 0.0, "final": 0.5}, [2, 1.5, 1]),
    ],
)
def test_the_rate_is_counted_over_the_whole_job(schedule, fall, rates):
    """One step an epoch here. Of a column of zeros only the intercept learns, which can be followed by hand."""
    expected = 0.0
    for rate in rates:
        expected -= rate * (1 / (1 + np.exp(-expected)) - 0.75)
    y = np.array([1.0, 1.0, 1.0, 0.0])
    found = sgd(np.zeros((4, 1)), y, training(epochs=3, batch=8, rate=2.0, schedule=schedule, **fall))
    assert found.intercept == pytest.approx(expected, rel=1e-12)
    assert found.weights.tolist() == [0]


@given(rows=st.integers(1, 400), batch=st.integers(1, 200))
def test_an_epoch_takes_every_row_once_in_the_batches_of_the_protocol(rows, batch):
    """Cut as the protocol cuts them, or the comparison would not be one."""
    batches = list(baselines.batches(np.arange(rows), training(batch=batch)))
    assert np.concatenate(batches).tolist() == list(range(rows))
    assert [len(one) for one in batches] == batch_sizes(rows, batch)


def test_the_seed_decides_the_order_and_nothing_else_does(data):
    """Two runs are the same, two seeds are not."""
    x, y = data
    once, again, other = (sgd(x, y, training(epochs=1), seed=seed) for seed in (1, 1, 2))
    assert once.weights.tolist() == again.weights.tolist()
    assert once.weights.tolist() != other.weights.tolist()


def test_every_baseline_sees_its_own_columns_only(data):
    """Each one's figure is that of a training on these columns; pooled is best."""
    x, y = data
    parties = {"bank": x[:, :2], "card": x[:, 2:]}
    train = {party: columns[:400] for party, columns in parties.items()}
    held_out = {party: columns[400:] for party, columns in parties.items()}
    found = compare(train, held_out, y[:400], y[400:], partial(sgd, training=training(), seed=3))
    alone = sgd(x[:400, :2], y[:400], training(), seed=3)
    assert list(found) == ["bank", "card", "pooled"]
    assert found["bank"] == auc(y[400:], alone.scores(x[400:, :2]))
    assert found["pooled"] > max(found["bank"], found["card"])


def test_auc_is_the_share_of_pairs_in_the_right_order():
    """Ties count half."""
    assert auc(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.9, 0.5, 0.5])) == 0.875


def test_scores_are_pre_activations():
    """One for each row."""
    assert Fitted(np.array([2.0, 1.0]), 0.5).scores(np.array([[1.0, 2.0], [0.0, 0.0]])).tolist() == [4.5, 0.5]


def test_scores_far_out_do_not_overflow():
    """Warnings are errors here, and a diverging schedule has to end in figures."""
    found = sgd(np.array([[1e6], [-1e6]]), np.array([1.0, 0.0]), training(epochs=3, rate=100.0))
    assert np.isfinite(found.weights).all()
