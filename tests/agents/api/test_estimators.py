"""The joint estimators keep scikit-learn's conventions, and its searches find with them what plaintext finds."""

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import tercet
from tercet.agents.evaluation import baselines
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Training

UNLIKE_OTHERS = {  # checks that cannot hold, and why
    "check_fit_idempotent": "secrets are the system's, so two fits differ in the last digits",
    "check_supervised_y_2d": "it compares two fits to the last digit",
    "check_regressor_data_not_an_array": "it compares two fits to the last digit",
    "check_classifier_data_not_an_array": "it compares two fits to the last digit",
    "check_regressors_int": "it compares two fits to the last digit",
    "check_sample_weight_equivalence_on_dense_data": "a job has no weights of rows",
}
PARTIES = {"bank": range(3), "card": range(3, 6)}


def numbers(rows: int = 240, seed: int = 0) -> tuple[Floats, Floats]:
    """Six columns of different units, and the log-odds of a class."""
    rng = np.random.default_rng(seed)
    standard = rng.normal(size=(rows, 6))
    return standard * [1, 2, 5, 10, 0.1, 3] + [0, 1, -3, 50, 2, 0], 2 * standard @ [1, -1, 0.5, 1, 0.5, 0]


X, SCORE = numbers()
Y = (np.random.default_rng(1).logistic(size=len(SCORE)) < SCORE).astype(int)


def test_scikit_learns_own_checks_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but those that ask for what no joint training can do.

    The two estimators share what most checks look at, so that of the regressor those alone are made that are its own.
    Of a check that comes with several kinds of arrays, the last is made, which asks for most: read-only, of float32.
    """
    generate, seen = estimator_checks.estimator_checks_generator, set[str]()

    def others(*args: Any, **more: Any) -> Iterator[Any]:
        checks = {name_of(found[1]): found for found in generate(*args, **more)}
        mine = [found for name, found in checks.items() if name not in seen | UNLIKE_OTHERS.keys()]
        seen.update(checks)
        return iter(mine)

    monkeypatch.setattr(estimator_checks, "estimator_checks_generator", others)
    for estimator, least in ((tercet.JointClassifier(epochs=2, batch=100), 40), (tercet.JointRegressor(epochs=4), 2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = check_estimator(estimator, on_skip=None)
        assert len(found) >= least
        assert {check["status"] for check in found} <= {"passed", "skipped"}


def name_of(check: Any) -> str:
    """As a check's result has it."""
    return str(getattr(check, "func", check).__name__)


def test_an_unfitted_estimator_is_cloned_and_says_its_parameters() -> None:
    joint = tercet.JointClassifier(PARTIES, rate=0.3, l2=0.1)
    assert is_classifier(joint)
    assert is_regressor(tercet.JointRegressor())
    copy = clone(joint).set_params(l2=0.2)
    assert (copy.get_params()["rate"], copy.l2, joint.l2) == (0.3, 0.2, 0.1)
    with pytest.raises(NotFittedError):
        copy.predict(X)
    assert not hasattr(copy, "coef_")


@pytest.fixture(scope="module")
def classifier() -> tercet.JointClassifier:
    """One of two classes in words, with interleaved columns."""
    return tercet.JointClassifier({"bank": [0, 3], "card": [1, 2, 4, 5]}, epochs=4, loss=True).fit(
        X, np.where(Y == 1, "pays", "does not")
    )


def test_a_fitted_classifier_has_scikit_learns_attributes(classifier: tercet.JointClassifier) -> None:
    """Its coefficients are those of X's columns, in their order and units: they give its own scores."""
    assert classifier.classes_.tolist() == ["does not", "pays"]
    assert classifier.n_features_in_ == 6
    assert classifier.coef_.shape == (1, 6)
    assert classifier.coef_names_.tolist() == [f"x{place}" for place in range(6)]
    by_hand = (X @ classifier.coef_.T + classifier.intercept_)[:, 0]
    assert np.abs(by_hand - classifier.decision_function(X)).max() < 0.001
    assert classifier.predict_proba(X).sum(axis=1) == pytest.approx(1)
    assert classifier.score(X, np.where(Y == 1, "pays", "does not")) > 0.75
    assert [entry["epoch"] for entry in classifier.history_] == [1, 2, 3, 4]
    assert classifier.history_[-1]["loss"] < classifier.history_[0]["loss"]
    assert classifier.n_iter_ > 4


def test_a_fitted_classifier_survives_a_pickle_of_its_caller(classifier: tercet.JointClassifier) -> None:
    """As a search in several processes makes them; Tercet itself reads none."""
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(X), classifier.predict_proba(X))


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table, dict])
def test_columns_are_divided_by_name_and_given_in_any_order(library: Any) -> None:
    named = {f"column {place}": X[:, place] for place in range(6)}
    columns = {"bank": ["column 1", "column 0"], "card": ["column 4"]}
    fitted = tercet.JointClassifier(columns, epochs=3).fit(library(named), Y)
    assert fitted.coef_names_.tolist() == ["column 0", "column 1", "column 4"]
    assert fitted.n_features_in_ == 6
    assert roc_auc_score(Y, fitted.decision_function(library(named))) > 0.7
    with pytest.raises(tercet.Invalid, match="no column 'column 9', which card holds"):
        clone(fitted).set_params(columns={"bank": ["column 1"], "card": ["column 9"]}).fit(library(named), Y)


def test_frames_by_party_are_taken_with_and_without_columns() -> None:
    frames = {"bank": pd.DataFrame(X[:, :3], columns=list("abc")), "card": {"a": X[:, 3], "d": X[:, 4]}}
    for columns, names in ((None, ["a", "b", "c", "a", "d"]), ({"bank": ["b"], "card": ["d"]}, ["b", "d"])):
        fitted = tercet.JointClassifier(columns, epochs=2).fit(frames, Y)
        assert fitted.coef_names_.tolist() == names
        assert fitted.predict(frames).shape == Y.shape
    with pytest.raises(tercet.Invalid, match="239 to 240 rows"):
        tercet.JointClassifier().fit({"bank": {"a": X[1:, 0]}, "card": {"b": X[:, 1]}}, Y)


@pytest.mark.parametrize("more", [{}, {"helper_sees": "scores"}, {"hidden": (4,)}])
def test_several_classes_are_told_apart(more: dict[str, Any]) -> None:
    """One-vs-rest, or softmax where the helper sees scores."""
    classes = np.array(["c", "a", "b"])[np.digitize(SCORE, [-1.5, 1.5])]
    fitted = tercet.JointClassifier(PARTIES, epochs=6, **more).fit(X, classes)
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    assert fitted.predict_proba(X).shape == (len(X), 3)
    assert fitted.score(X, classes) > 0.55
    assert hasattr(fitted, "coef_") == (not more.get("hidden"))
    if hasattr(fitted, "coef_"):
        assert fitted.coef_.shape == (3, 6)
        assert np.abs(X @ fitted.coef_.T + fitted.intercept_ - fitted.decision_function(X)).max() < 0.001


@pytest.mark.parametrize("model", ["linear", "poisson", "gamma", "tweedie"])
def test_numbers_are_predicted_in_their_own_unit(model: Any) -> None:
    level = 0.3 * SCORE
    rng = np.random.default_rng(2)
    y = {"linear": 40 * level + 250, "poisson": rng.poisson(np.exp(level))}.get(model, 9 * np.exp(level))
    power = 1.7 if model == "tweedie" else None
    fitted = tercet.JointRegressor(PARTIES, model=model, epochs=12, power=power).fit(X, y)
    by_hand = X @ fitted.coef_ + fitted.intercept_
    assert fitted.coef_.shape == (6,)
    near = 0.003 if model == "tweedie" else 0.001  # whose columns have fewer bits
    assert fitted.predict(X) == pytest.approx(by_hand if model == "linear" else np.exp(by_hand), abs=0.01, rel=near)
    assert fitted.score(X, y) > (0.3 if model == "poisson" else 0.9)


def test_categories_and_missing_values_have_coefficients_of_their_own() -> None:
    frame = {"kind": np.where(X[:, 0] > 0, "new", "old"), "limit": np.where(X[:, 1] > 3, np.nan, X[:, 1]), "x": X[:, 2]}
    fitted = tercet.JointClassifier({"bank": ["kind"], "card": ["x", "limit"]}, epochs=2).fit(frame, Y)
    assert {"kind=new", "kind=old", "limit", "limit=missing", "x"} <= {*fitted.coef_names_}
    assert fitted.predict(frame).shape == Y.shape


class Plaintext(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The same steps in float64 over standardised columns, in one place: what a search is compared with."""

    def __init__(self, rate: float = 0.1, l2: float = 0.0, epochs: int = 4, batch: int = 32) -> None:
        self.rate, self.l2, self.epochs, self.batch = rate, l2, epochs, batch

    def fit(self, x: Floats, y: Any) -> "Plaintext":
        """Train, as `tercet.JointClassifier` does."""
        self.classes_ = np.unique(y)
        self.mean_, self.scale_ = x.mean(axis=0), x.std(axis=0)
        training = Training(rate=self.rate, l2=self.l2, epochs=self.epochs, batch=self.batch)
        self.fitted_ = baselines.sgd((x - self.mean_) / self.scale_, y.astype(float), training)
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Log-odds."""
        return self.fitted_.scores((x - self.mean_) / self.scale_)


GRID = {"rate": [0.1, 0.5], "l2": [0.0, 0.3]}


def test_a_search_finds_the_same_best_as_plaintext() -> None:
    """Over rate and penalty, by log-loss, in which the settings differ much more than two fits of one."""
    half = PredefinedSplit(np.arange(len(Y)) % 2 - 1)  # every other row is held out
    plain = {"bank": {"whiten": False}, "card": {"whiten": False}}
    joint = tercet.JointClassifier(PARTIES, epochs=4, batch=32, options=plain)
    searches = [
        GridSearchCV(one, GRID, scoring=_log_loss, cv=half).fit(X, Y) for one in (joint, Plaintext(epochs=4, batch=32))
    ]
    ours, theirs = (search.cv_results_["mean_test_score"] for search in searches)
    assert searches[0].best_params_ == searches[1].best_params_ == {"rate": 0.5, "l2": 0.0}
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist()
    assert ours == pytest.approx(theirs, abs=0.005)
    assert np.diff(np.sort(theirs)).min() > 0.015, "settings that hardly differ show nothing"
    assert searches[0].best_estimator_.coef_.shape == (1, 6)


def test_a_search_on_the_rows_of_a_named_split_finds_the_same_best_as_plaintext() -> None:
    """They are those whose ids a job of that split hands to the label party."""
    frames: dict[str, Any] = {party: {f"x{k}": X[:, k] for k in held} for party, held in PARTIES.items()}
    frames["bank"]["y"] = Y
    job: Any = {"split": "searched", "holdout": 0.4, "epochs": 1, "held_out_scores": True, "accept_narrow": True}
    scores = tercet.simulate(frames, label="bank.y", **job).scores
    assert scores is not None
    rows = np.sort(scores["id"].to_numpy().astype(int))
    split = PredefinedSplit(np.isin(np.arange(len(Y)), rows) - 1)
    assert [test.tolist() for _, test in split.split()] == [rows.tolist()]
    grid = {"rate": [0.02, 0.5], "l2": [0.0, 0.9]}  # far apart, whichever rows are drawn
    joint = tercet.JointClassifier(PARTIES, epochs=4, batch=32)
    ours, theirs = (
        GridSearchCV(one, grid, scoring=_log_loss, cv=split, refit=False).fit(X, Y)
        for one in (joint, Plaintext(epochs=4, batch=32))
    )
    assert ours.best_params_ == theirs.best_params_ == {"rate": 0.5, "l2": 0.0}


def _log_loss(estimator: Any, x: Floats, y: Any) -> float:
    """Minus the log-loss of log-odds; more is better."""
    return -float(np.logaddexp(0, np.where(y == 1, -1, 1) * estimator.decision_function(x)).mean())
