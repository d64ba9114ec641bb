"""A job that says nothing of its training comes near the optimum, by the oracle, which a joint run equals exactly."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from benchmarks.rates import Data, measure
from tercet.agents.evaluation.baselines import sgd
from tercet.agents.session.training_defaults import resolve_defaults
from tercet.schemas.files.job import Training, TrainingJob
from tercet.tables.core.table import Table

JOB: dict[str, Any] = {
    "name": "credit", "model": "linear", "tables": (("bank", "customers"), ("card", "customers")), "label": "bank",
    "helper": "notary",
}  # fmt: skip


def shared_out(x: Any, y: Any, link: str) -> Data:
    """Every other column at each of two parties."""
    parts = [{f"column {k}": part[:, k] for k in range(part.shape[1])} for part in (x[:, ::2], x[:, 1::2])]
    return Data(tuple(Table("table", len(y), tuple(part), part, {}) for part in parts), np.asarray(y, float), link)


def real(link: str) -> Data:
    """Which tumours are benign; or how far diabetes has gone after a year, as measured or in counts that average 7."""
    if link == "logistic":
        x, y = load_breast_cancer(return_X_y=True)
        return shared_out(x, y, link)
    x, y = load_diabetes(return_X_y=True)
    return shared_out(x, np.floor(y / 20) if link == "poisson" else y, link)


@pytest.mark.parametrize("link", ["logistic", "linear", "poisson", "gamma"])
def test_a_job_without_a_word_on_its_training_comes_near_the_optimum(link: str) -> None:
    """Within 1 % of its loss, or within 0.005 of its AUC, noise included; docs/benchmarks.md has ten tables more."""
    found = measure(real(link), seed=0)
    assert found.within, found.excess
    assert found.found.loss < 0.8 * found.constant


def test_counts_of_any_size_are_learned_as_well() -> None:
    """Undivided, those that average 8 and 80 made steps 8 and 80 times as long, and most trainings diverged."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(800, 8))
    log = x @ rng.normal(scale=0.2, size=8)
    for mean in (0.5, 8.0, 80.0):
        data = shared_out(x, rng.poisson(mean * np.exp(log)), "poisson")
        found = measure(data, 3, Training(epochs=10))
        assert found.excess < 0.015, mean
        assert found.found.metrics["d2"] > found.best.metrics["d2"] - 0.02, mean


def test_rows_of_one_kind_may_count_fifty_times() -> None:
    """By the rate of a job without weights the training diverged; they are a hundredth of all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 20))
    x[:, 0] = rng.random(len(x)) < 0.01
    y, counts = x @ rng.normal(size=20) + rng.normal(size=len(x)), np.where(x[:, 0] == 1.0, 50.0, 1.0)
    counts /= counts.mean()
    x = (x - x.mean(axis=0)) @ np.linalg.cholesky(np.linalg.inv(np.cov(x.T)))
    y = (y - y.mean()) / y.std()
    job = TrainingJob.model_validate(JOB | {"training": Training(weights="sampled")})
    training = resolve_defaults(job, len(x), (1.0, 1.0), (10, 10))
    found = sgd(x, y, training, link="linear", counts=counts.reshape(-1, 1))
    root = np.sqrt(counts)[:, None]
    due = np.linalg.lstsq(np.hstack([x, np.ones_like(root)]) * root, y * root[:, 0], rcond=None)[0]
    np.testing.assert_allclose(np.append(found.weights, found.intercept), due, atol=0.05)


def test_what_is_said_counts_and_the_rest_follows_from_model_parties_and_rows() -> None:
    """Each word by itself."""
    job = TrainingJob.model_validate(JOB)

    def resolve(job: TrainingJob) -> Training:
        return resolve_defaults(job, 8000, (1.0, 1.0), (200, 300))

    assert resolve(job).model_dump() == {
        "epochs": 30, "batch": 500, "rate": 1 / 8, "schedule": "linear", "decay": 0.0, "l2": 0.0,
    }  # fmt: skip
    said = job.model_copy(update={"training": Training(batch=250)})
    assert (resolve(said).batch, resolve(said).rate) == (250, 1 / 10)
    said = job.model_copy(update={"training": Training(weights="sampled")})
    assert (resolve(said).batch, resolve(said).rate) == (500, 1 / 32)
    said = job.model_copy(update={"training": Training(rate=0.25)})
    assert (resolve(said).batch, resolve(said).rate) == (500, 0.25)
    assert said.training.schedule == "constant"


@pytest.mark.parametrize(
    ("model", "epochs"), [("logistic", 10), ("softmax", 10), ("one-vs-rest", 10), ("linear", 30), ("mlp", 30)]
)
def test_a_job_trains_for_as_many_epochs_as_its_model_needs_unless_it_says_how_many(model: str, epochs: int) -> None:
    """Where errors are bounded the rate is larger."""
    said = JOB | {"model": model} | ({"network": {"hidden": (4,)}} if model == "mlp" else {})
    assert TrainingJob.model_validate(said).training.epochs == epochs
    assert TrainingJob.model_validate(said | {"training": {"epochs": 3}}).training.epochs == 3
