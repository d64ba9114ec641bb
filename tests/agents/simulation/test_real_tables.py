"""Jobs over real tables, split between two companies, come to what scikit-learn finds in all columns together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.linear_model import GammaRegressor, LogisticRegression
from sklearn.metrics import mean_tweedie_deviance
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import Evaluation
from tests.agents.recording import Heard, hear
from tests.agents.world import OUTCOME, PERSON, Sample

HELD_OUT = Evaluation(holdout=0.25, loss=True)


def split(x: Any, label: list[str]) -> dict[str, dict[str, list[str]]]:
    """Every other column at each of two companies; the second has the label, and its rows stand in another order."""
    x, people = x[:, np.ptp(x, axis=0) > 0], [f"person {row}" for row in range(len(x))]
    tables = {}
    for start, party in enumerate(("bank", "card")):
        part = x[:, start::2]
        tables[party] = {PERSON: people} | {
            f"{party}_column_{k}": [repr(float(value)) for value in part[:, k]] for k in range(part.shape[1])
        }
    tables["card"][OUTCOME] = label
    order = np.random.default_rng(0).permutation(len(x))
    tables["card"] = {name: [values[row] for row in order] for name, values in tables["card"].items()}
    return tables


def trained(folder: Path, x: Any, label: list[str], **job: Any) -> Heard:
    """A job over these columns, whose model is the oracle's to the last bit."""
    sample = Sample((1, 1), label=1, evaluation=HELD_OUT, schedule="inverse-time", **job)
    run = hear(sample, folder, tables=split(x, label))
    assert bit_exact(run.simulation)
    return run


def rows_of(run: Heard) -> tuple[Any, Any]:
    """Of the label party: numbers of the rows that were trained on and of those that were held out."""
    role = run.label
    numbers = np.array([int(run.tables["card"][PERSON][row].split()[1]) for row in role.own.rows])
    return numbers[~role.held_out], numbers[role.held_out]


WINE = {"rate": 0.5, "batch": 64, "epochs": 15, "decay": 0.01}
DIGITS = {"rate": 0.8, "batch": 64, "epochs": 6, "decay": 0.01}


@pytest.mark.parametrize(("model", "load", "job"), [("softmax", load_digits, DIGITS), ("one-vs-rest", load_wine, WINE)])
def test_classes_of_a_real_table_are_told_apart_as_well_as_by_scikit_learn(model, load, job, tmp_path):
    """Three wines and ten digits, by their names; held-out rows are right to within some few, the loss is near."""
    x, classes = (both[:800] for both in load(return_X_y=True))
    names = [f"kind {one}" for one in classes]
    run = trained(tmp_path, x, names, model=model, **job)
    assert run.labels.classes is not None
    assert run.labels.classes.names == tuple(sorted(set(names)))
    train, held_out = rows_of(run)
    scaler = StandardScaler().fit(x[train])
    alike = LogisticRegression(max_iter=5000)
    best = alike if model == "softmax" else OneVsRestClassifier(alike)
    best.fit(scaler.transform(x[train]), classes[train])
    expected = best.score(scaler.transform(x[held_out]), classes[held_out])
    found = run.label.context.history.last_metrics
    assert found["accuracy"] > expected - max(0.025, 2.5 / len(held_out))  # or two rows
    assert found["auc"] > 0.99
    assert found["log_loss"] < 0.25


def test_expected_labels_of_a_real_table_are_those_of_scikit_learn(tmp_path):
    """How far diabetes has gone after a year."""
    x, y = load_diabetes(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    run = trained(
        tmp_path, x, [repr(float(one)) for one in y], model="gamma", rate=0.6, batch=128, epochs=30, decay=0.02
    )
    train, held_out = rows_of(run)
    best = GammaRegressor(alpha=0, tol=1e-8).fit(x[train], y[train])
    expected = mean_tweedie_deviance(y[held_out], best.predict(x[held_out]), power=2)
    found = run.label.context.history.last_metrics
    assert found["deviance"] == pytest.approx(expected, rel=0.05)
    assert found["d2"] > 0.3
    fitted = mean_tweedie_deviance(y[train], best.predict(x[train]), power=2)
    assert run.label.context.history.losses[-1] == pytest.approx(fitted / 2, rel=0.2)  # in the label's own unit
    scores = run.label.context.history.scores
    assert scores is not None
    means = best.predict(x[held_out])
    gap = np.mean(np.abs(np.exp(scores) / means - 1))
    assert gap < 0.05  # columns go together, so that SGD is long in parting them
