"""Rows count as their weights say, and as their classes': models are scikit-learn's with `sample_weight`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import tercet
from tercet.agents.core.problems import JobProblem
from tercet.agents.evaluation import baselines
from tercet.agents.policy.check import check_policy
from tercet.agents.reports.solo_baseline import alone
from tercet.agents.roles.loss_rows import fewest_rows
from tercet.agents.simulation.exactness import label_party
from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import Evaluation, Training, TrainingJob
from tercet.schemas.files.settings import Limits, Settings
from tercet.schemas.messages.kinds import MaskedErrors, MaskedRowWeights
from tests.agents.disclosure import LEAST_P, check_keys, check_roles, uniformity
from tests.agents.policy.test_check import KEYS, announced, settings_of
from tests.agents.recording import Tables, hear
from tests.agents.roles.test_prediction import people, predict, refused
from tests.agents.scenes import BANK
from tests.agents.world import NOTHING, PERSON, Sample

BESIDE, HELD_OUT = "sampled_one_in", "later"
EVALUATION = Evaluation(holdout=0.3, loss=True, held_out_loss=True)


@dataclass(frozen=True)
class Weighed(Sample):
    """A job whose rows have weights, by a column of the label party or by class.

    `least` is the rows that the label party trains on no fewer of.
    """

    by: str = "weights"
    least: int = 1

    def description(self) -> TrainingJob:
        """The job, with weights."""
        plain = super().description()
        more: dict[str, Any] = {"weights": BESIDE} if self.by == "weights" else {"class_weights": self.by}
        return plain.model_copy(update={"training": Training(**(plain.training.model_dump() | more))})

    def settings(self, folder: Path, *, limits: Limits | None = None) -> dict[str, Settings]:
        """Everybody's; the label party's list the column."""
        found = super().settings(folder, limits=limits)
        party, listed = self.parties[self.label], {"weights": (BESIDE,)} if self.by == "weights" else {}
        if self.evaluation.holdout_column is not None:
            listed["holdouts"] = (HELD_OUT,)
        table = found[party].tables["people"].model_copy(update=listed)
        own = found[party].limits.model_copy(update={"min_rows": self.least})
        return found | {party: found[party].model_copy(update={"tables": {"people": table}, "limits": own})}

    def with_column(self, tables: Tables) -> Tables:
        """The same tables, with the column at the label party if the job names it."""
        party = self.parties[self.label]
        counts = [repr(int(person[-5:]) % 5 / 2 + 0.5) for person in tables[party][PERSON]]
        return {**tables, party: {**tables[party], BESIDE: counts}} if self.by == "weights" else tables


def weighed(model: str, by: str = "weights", **more: Any) -> Weighed:
    """Three parties, every loss told."""
    fields: dict[str, Any] = {"rate": 0.1, "epochs": 2, "rows": 160, "evaluation": EVALUATION}
    return Weighed((3, 2, 1), label=1, model=model, by=by, privacy=NOTHING, **(fields | more))


@pytest.mark.parametrize(
    "sample",
    [weighed("logistic"), weighed("poisson"), weighed("tweedie"), weighed("one-vs-rest", "balanced")],
    ids=lambda sample: sample.model,
)
def test_a_whole_run_is_the_oracles_and_every_tensor_is_under_its_mask(sample: Weighed, tmp_path: Path) -> None:
    """With metrics, both losses and the label party's columns alone."""
    heard = hear(sample, tmp_path, tables=sample.with_column(sample.tables()))
    assert bit_exact(heard.simulation)
    for check in (check_roles, check_keys):
        check(heard)
    for kind in (MaskedRowWeights, MaskedErrors) if sample.description().weighs_errors else ():
        words = np.unique(np.concatenate([one.ravel() for one in heard.received(kind).values()]))  # told to two alike
        assert uniformity(words) >= LEAST_P
    label, labels = label_party(heard.simulation)
    assert alone(label, labels).keys() == label.context.history.last_metrics.keys()
    assert len(label.context.history.losses) == len(label.context.history.held_out_losses) == sample.epochs
    if labels.rows.weights is not None:
        assert labels.trained_rows.weights is not None
        assert labels.trained_rows.weights.mean() == pytest.approx(1.0, abs=1e-3)


def frames() -> tuple[dict[str, dict[str, Any]], np.ndarray, np.ndarray, np.ndarray]:
    """Two parties' frames, all columns side by side, scores and weights."""
    rng, rows = np.random.default_rng(1), 800
    a, b, weights = rng.normal(size=(rows, 2)), rng.normal(size=(rows, 2)), rng.choice([0.3, 1.0, 4.0], rows)
    score = -1.0 + a @ [0.8, -0.5] + b @ [0.4, -0.9] + 0.5 * (weights > 2) * a[:, 0]
    found: dict[str, dict[str, Any]] = {
        "bank": {"id": range(rows), "w": weights, "a0": a[:, 0], "a1": a[:, 1]},
        "card": {"id": range(rows), "b0": b[:, 0], "b1": b[:, 1]},
    }
    return found, np.hstack([a, b]), score, weights


def fitted(parties: dict[str, dict[str, Any]], model: Any, x: np.ndarray, **fields: Any) -> np.ndarray:
    """Coefficients of a joint model, the intercept first."""
    values: Any = {"epochs": 30, "batch": 400, "schedule": "linear", "final": 0.01, "holdout": 0} | fields
    result = tercet.simulate(
        parties, label="bank.y", id="id", model=model, options={"bank": {"weights": ["w"]}}, **values
    )
    assert result.scorer is not None
    table = {name: values for frame in parties.values() for name, values in frame.items() if name not in {"id", "y"}}
    ones = np.hstack([np.ones((len(x), 1)), x])
    return np.asarray(np.linalg.lstsq(ones, result.scorer.scores(table), rcond=None)[0])[:, 0]


def coefficients(model: Any) -> np.ndarray:
    """Of scikit-learn's."""
    return np.append(np.ravel(model.intercept_), np.ravel(model.coef_))


@pytest.mark.parametrize("by", ["weights", "balanced"])
def test_logistic_regression_is_scikit_learns(by: str) -> None:
    """Coefficients within 0.02, where those without weights are off by 0.1 and more."""
    parties, x, score, weights = frames()
    y = (np.random.default_rng(2).random(len(x)) < 1 / (1 + np.exp(-score))).astype(int)
    parties["bank"]["y"] = y
    more: dict[str, Any] = {"weights": "w"} if by == "weights" else {"class_weights": "balanced"}
    found = fitted(parties, "logistic", x, rate=2.0, **more)
    due = LogisticRegression(C=np.inf, tol=1e-8, class_weight=None if by == "weights" else "balanced")
    due.fit(x, y, sample_weight=weights if by == "weights" else None)
    plain = LogisticRegression(C=np.inf, tol=1e-8).fit(x, y)
    assert np.abs(coefficients(plain) - coefficients(due)).max() > 0.1
    np.testing.assert_allclose(found, coefficients(due), atol=0.02)


def test_linear_regression_is_scikit_learns() -> None:
    """Coefficients within 0.01."""
    parties, x, score, weights = frames()
    parties["bank"]["y"] = y = score + np.random.default_rng(2).normal(size=len(x))
    due = LinearRegression().fit(x, y, sample_weight=weights)
    found = fitted(parties, "linear", x, rate=0.3, weights="w")
    np.testing.assert_allclose(found, coefficients(due), atol=0.01)


def test_class_weights_are_of_the_classes_that_the_label_has(tmp_path: Path) -> None:
    """Each of them, by name; the label party alone is told which are not."""
    sample = weighed("logistic", (("0", 1.0), ("2", 3.0)))  # type: ignore[arg-type]
    run = predict(sample, tmp_path, people(sample, sample.rows, 1), sample.description())
    refused(run, "table.label", "card", "'1', '2'")


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (["1"] * 99 + ["-1"], "table.unusable", BESIDE),
        (["1"] * 99 + ["many"], "table.unusable", BESIDE),
        (["0.01"] * 99 + ["50"], "table.label", "1 / 32"),  # a model by such weights would be one of that row
    ],
    ids=["below 0", "no number", "one row for all"],
)
def test_weights_that_do_not_fit_are_refused(wrong: list[str], code: str, words: str, tmp_path: Path) -> None:
    """The label party alone is told why."""
    sample = weighed("logistic", rows=100, evaluation=Evaluation())
    tables = sample.with_column(people(sample, sample.rows, 1))
    tables["card"][BESIDE][:] = wrong
    refused(predict(sample, tmp_path, tables, sample.description()), code, "card", words)


@pytest.mark.parametrize(("least", "ends_well"), [(100, True), (101, False)])
def test_rows_count_for_as_many_as_the_label_party_trains_on(least: int, ends_well: bool, tmp_path: Path) -> None:
    """Half of 200 rows count, so that the model is one of 100."""
    sample = weighed("logistic", rows=200, evaluation=Evaluation(), epochs=1, least=least)
    tables = sample.with_column(people(sample, sample.rows, 1))
    tables[sample.parties[1]][BESIDE][:] = ["1", "0"] * 100
    run = predict(sample, tmp_path, tables, sample.description()).label_run
    assert (run.failure is None) == ends_well
    if run.failure is not None:
        assert run.failure.code == "table.label"
        assert "min_rows is 101" in (run.detail or "")
        assert "100" not in run.failure.reason


def test_held_out_rows_that_all_weigh_nothing_are_refused(tmp_path: Path) -> None:
    """Their weights have no mean to be divided by."""
    sample = weighed("logistic", rows=200, evaluation=Evaluation(holdout_column=HELD_OUT), epochs=1)
    tables = sample.with_column(people(sample, sample.rows, 1))
    own: dict[str, list[str]] = {**tables[sample.parties[1]], BESIDE: ["1", "0"] * 100, HELD_OUT: ["0", "1"] * 100}
    tables = {**tables, sample.parties[1]: own}
    run = predict(sample, tmp_path, tables, sample.description())
    refused(run, "table.label", "card", "all 0 where rows are held out")


def test_rows_that_hardly_count_are_no_rows_of_a_loss() -> None:
    """Nor of a label value."""
    labels = np.repeat([0.0, 1.0], 40)
    assert fewest_rows(labels, "logistic") == fewest_rows(labels, "logistic", np.full(80, 3.0)) == 40
    assert fewest_rows(labels, "linear", np.ones(80)) == 80
    weights = np.ones(80)
    weights[41:] = 1e-6
    assert fewest_rows(labels, "logistic", weights) == pytest.approx(1.0, abs=1e-3)
    assert fewest_rows(labels, "linear", weights) == pytest.approx(41.0, abs=1e-3)
    weights[40] = 0.0
    assert fewest_rows(labels, "logistic", weights * (labels == 0.0)) == 0.0


def test_the_settings_list_the_column() -> None:
    """Of the label party's table."""
    asked = announced(BANK, training=Training(weights="w"), privacy=NOTHING)
    with pytest.raises(JobProblem, match="weights under"):
        check_policy(asked, settings_of(BANK), KEYS[BANK])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "linear", "training": {"class_weights": "balanced"}}, "class_weights are not for linear"),
        ({"training": {"weights": "w"}, "privacy": {"helper_sees": "scores"}}, "helper_sees"),
        ({"training": {"weights": "w"}, "model": "mlp", "network": {"hidden": (3,)}}, "hidden layers"),
    ],
)
def test_a_job_in_which_they_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    """With the words to write instead."""
    fields = Sample(privacy=NOTHING).description().model_dump()
    with pytest.raises(ValueError, match=words):
        TrainingJob.model_validate(fields | changes)


def test_the_label_partys_own_model_counts_rows_as_often() -> None:
    """It is that of a table in which they stand so often."""
    rng = np.random.default_rng(3)
    x, counts = rng.normal(size=(60, 2)), rng.integers(1, 4, 60)
    y, more = (rng.random(60) < 0.5).astype(float), np.repeat(np.arange(60), counts)
    training = Training(epochs=50, batch=1000, rate=0.5, schedule="constant")
    found = baselines.sgd(x, y, training, counts=(counts / counts.mean()).reshape(-1, 1))
    due = baselines.sgd(x[more], y[more], training)
    np.testing.assert_allclose(found.weights, due.weights)
