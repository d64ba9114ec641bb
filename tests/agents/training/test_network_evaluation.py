"""Losses, scores, metrics, early stopping and predictions of whole jobs of networks are the plaintext run's.

What they show to whom is looked at in test_networks_disclosure.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, mean_tweedie_deviance, roc_auc_score

from tercet.agents.models import model_part
from tercet.agents.simulation.simulate import bit_exact
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.schemas.files.job import METRICS, EarlyStopping, Evaluation
from tests.agents.networks import forward, mlp, name, parts_of, plain_scores
from tests.agents.oracle import heard
from tests.agents.recording import hear, hear_prediction
from tests.agents.roles.test_prediction import check_reported, newcomers, people
from tests.agents.simulation.test_network_exactness import samples
from tests.agents.training.test_epoch_evaluation import (
    AT_THE_END,
    BOTH,
    EACH_EPOCH,
    FOR_ALL,
    NO_SCORES,
    check_held_out_losses,
    check_losses,
    check_scores,
    check_stopped,
    labels_of,
    reported,
)
from tests.agents.world import Sample

# --- losses, scores, metrics


@st.composite
def evaluated(draw) -> Sample:
    """Small jobs that evaluate, of every kind."""
    evaluation = draw(st.sampled_from([EACH_EPOCH, FOR_ALL, AT_THE_END, NO_SCORES, BOTH]))
    sample = draw(samples())
    return mlp(
        sample.columns, *sample.network.hidden, activation=sample.network.activation, output=sample.link,
        rows=sample.rows, label=sample.label, epochs=sample.epochs, rate=min(sample.rate, 0.02), l2=sample.l2,
        release=sample.release, evaluation=evaluation, seed=sample.seed,
    )  # fmt: skip


@settings(max_examples=1, deadline=None, derandomize=True)
@given(evaluated())
@example(mlp((3, 2, 4), 5, 4, rows=70, label=1, output="linear", evaluation=FOR_ALL, l2=0.05, rate=0.03))
@example(mlp((3, 4), 5, 4, rows=70, label=1, output="softmax", activation="tanh", evaluation=FOR_ALL, l2=0.05))
@example(
    mlp((3, 4), 5, rows=70, output="poisson", activation="gelu", evaluation=AT_THE_END, release="shared", rate=0.02)
)
@example(mlp((3, 4), 5, rows=70, activation="silu", evaluation=BOTH, l2=0.05))
def test_losses_and_scores_are_the_oracles(sample):
    """The loss's words add up to the oracle's, at whoever may know it; scores and metrics are equal to the last bit."""
    found = heard(sample)
    check_losses(found)
    check_held_out_losses(found)
    check_scores(found)


@pytest.mark.usefixtures("quiet_noise")
@pytest.mark.parametrize("output", ["softmax", "poisson"])
def test_the_metrics_are_scikit_learns_on_plaintext_scores(output, tmp_path):
    """Scores by the opened network on the parties' encoded rows, in float64."""
    sample = mlp((5, 4), 8, rows=300, batch=64, epochs=6, label=1, rate=0.1,
                 output=output, evaluation=AT_THE_END)  # fmt: skip
    found = hear(sample, tmp_path)
    xs = {p: decode(x, found.plan.fx) for p, x in zip(sample.parties, found.held_out_xs, strict=True)}
    scores, truth = reported(found, forward(parts_of(tmp_path, sample), xs)), labels_of(found)
    seen = found.label.context.history.last_metrics
    assert set(seen) == set(METRICS[output])
    assert max(seen.get(one, 0) for one in ("auc", "r2", "d2")) > 0.05, "the model says nothing"
    for one, value in plaintext_metrics(output, truth, scores).items():
        assert seen[one] == pytest.approx(value, rel=1e-3), one


def plaintext_metrics(output: str, truth: Floats, scores: Floats) -> dict[str, float]:
    """Some of them, by scikit-learn."""
    if output == "poisson":
        return {"deviance": mean_tweedie_deviance(truth, np.exp(scores), power=1)}
    if output == "linear":
        return {"rmse": mean_squared_error(truth, scores) ** 0.5}
    if output == "softmax":
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        likely = chances.argmax(axis=1)
        return {"accuracy": accuracy_score(truth, likely), "log_loss": log_loss(truth, chances)}
    chances = 1 / (1 + np.exp(-scores))
    return {"auc": roc_auc_score(truth > 0, scores), "log_loss": log_loss(truth > 0, chances)}


def test_a_hidden_layer_learns_what_no_line_can(tmp_path):
    """Rows are positive where two parties' columns have the same sign: nothing of either alone says so."""
    sample = mlp((2, 2), 8, rows=600, batch=64, epochs=11, rate=2.0, evaluation=Evaluation(holdout=0.3))
    tables = sample.tables()
    signs = [float(a) * float(b) for a, b in
             zip(tables["bank"]["bank_quantity_0"], tables["card"]["card_quantity_0"], strict=True)]  # fmt: skip
    tables["bank"]["defaulted_later"] = [str(int(one > 0)) for one in signs]
    found = hear(sample, tmp_path, tables=tables)
    assert found.label.context.history.last_metrics["auc"] > 0.9


# --- early stopping


STOPPING = [
    mlp((6, 5), 6, rows=120, batch=40, epochs=14, rate=1.5, evaluation=NO_SCORES, seed=1, label=1,
        early_stopping=EarlyStopping(on="held_out_loss", patience=2, least_gain=0.02)),
    mlp((6, 5), 6, 4, rows=120, batch=40, epochs=16, rate=0.6, evaluation=EACH_EPOCH, l2=0.05, seed=3, label=1,
        activation="tanh", early_stopping=EarlyStopping(on="auc", patience=2), release="shared"),
]  # fmt: skip


@pytest.mark.parametrize("sample", STOPPING, ids=name)
def test_early_stopping_keeps_the_best_epochs_network_and_ends_everywhere_at_once(sample, tmp_path):
    """As the plaintext's losses and scores would decide; the last epochs have taught nothing to the model."""
    found = hear(sample, tmp_path)
    steps = check_stopped(found)
    parts = parts_of(tmp_path, sample)
    assert {part.steps for part, _ in parts.values()} == {steps}


# --- prediction


PREDICTED = [
    mlp((4, 3), 6, 4, rows=100, epochs=1, rate=0.1, output="linear", release="shared", alignment="ecdh",
        activation="tanh"),
    mlp((3, 2, 3), 5, rows=100, epochs=1, rate=0.2, label=2, output="softmax", l2=0.1, activation="gelu"),
]  # fmt: skip


@pytest.mark.usefixtures("quiet_noise")
@pytest.mark.parametrize("sample", PREDICTED, ids=name)
def test_scores_of_new_rows_are_those_of_the_opened_network(sample, tmp_path):
    """To 1e-4, for both releases, with categories, gaps, other orders and rows that one party lacks."""
    assert bit_exact(hear(sample, tmp_path, tables=people(sample, sample.rows, 1)).simulation)
    tables = newcomers(sample, 80)
    found = hear_prediction(sample, tmp_path, tables)
    check_reported(found, tables, plain_scores(tmp_path, sample, tables))
    label = sample.parties[sample.label]
    assert list(tmp_path.rglob("scores.*")) == [found.simulation.runs[label].scores]
    assert found.simulation.label_run.context.statistics.step > 1, "more than one batch"


@pytest.mark.usefixtures("quiet_noise")
def test_a_prediction_uses_the_network_that_early_stopping_kept(tmp_path):
    """Not the one of the last step; with a penalty, whose alpha is that of the kept step."""
    rule = EarlyStopping(on="loss", patience=1, least_gain=0.05)
    sample = mlp((4, 3), 5, rows=160, epochs=12, rate=1.0, l2=0.1, activation="tanh", evaluation=EACH_EPOCH,
                 early_stopping=rule)  # fmt: skip
    trained = hear(sample, tmp_path, tables=people(sample, sample.rows, 1))
    part, _ = model_part.load(tmp_path / "card" / "models" / sample.description().id)
    steps = trained.label.context.statistics.step
    assert part.steps == steps - trained.plan.steps_per_epoch < trained.plan.steps_total
    assert part.alpha == trained.plan.alpha_after(part.steps) != trained.plan.last_alpha
    tables = newcomers(sample)
    check_reported(hear_prediction(sample, tmp_path, tables), tables, plain_scores(tmp_path, sample, tables))
