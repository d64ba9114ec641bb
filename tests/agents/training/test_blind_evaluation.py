"""Losses, scores and metrics of a training in which the helper sees nothing are those of float64 on the same rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.evaluation.metrics import metrics
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tests.agents.recording import Heard, hear
from tests.agents.training.test_epoch_evaluation import labels_of, plain_scores, reported, unit_of
from tests.agents.world import NOTHING, Sample

NEAR = 0.01  # of so few rows, each of whose losses is off by a few hundredths at random
HELD_OUT = 2e-3  # words that are dealt for a loss alone are finer: the series' error is left
ALL = Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True)
# An epoch is one step over all rows, from zeros, so that its loss is that of a plain step.
WHOLE = Sample((5, 4), rows=120, batch=200, epochs=2, rate=0.3, evaluation=ALL, privacy=NOTHING)
SAMPLES = [
    WHOLE,
    replace(WHOLE, columns=(3, 4, 2), label=2, model="linear"),
    replace(WHOLE, label=1, model="poisson", rate=0.05, evaluation=ALL.model_copy(update={"loss_to": "all"})),
    replace(WHOLE, columns=(3, 2, 4), label=1, model="gamma", rate=0.05),
    replace(WHOLE, columns=(3, 2, 4), label=1, model="one-vs-rest"),
]


def loss(run: Heard, z: Floats, y: Floats) -> float:
    """The mean, of scores without offsets and centred labels."""
    link = run.plan.link
    z = link.shifted(z, y)
    return float(np.mean(link.cumulant(z) - (link.target(y) * z).sum(axis=1, keepdims=True) + link.label_part(y)))


def training_losses(run: Heard) -> list[float]:
    """Of two epochs of one step each, in float64."""
    x, y = np.hstack([decode(words, run.plan.fx) for words in run.xs]), run.y
    first, link = np.zeros_like(y), run.plan.link
    error = link.phi(link.shifted(first, y)) - link.target(y)
    step = -run.sample.rate / len(y)
    second = x @ (step * x.T @ error) + step * error.sum(axis=0)
    return [loss(run, first, y), loss(run, second, y)]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_losses_and_scores_are_those_of_plaintext(sample: Sample, tmp_path: Path) -> None:
    """At whoever may know them, and nobody else."""
    run = hear(sample, tmp_path)
    plain = plain_scores(run)[run.label.held_out]
    near = NEAR * run.plan.outputs
    history, everybody = run.label.context.history, sample.evaluation.loss_to == "all"
    for role in run.roles:
        mine, unit = role.context.history, unit_of(run, role)
        if role is not run.label and not everybody:
            assert not mine.losses
            assert not mine.held_out_losses
            continue
        assert mine.losses == pytest.approx([unit * one for one in training_losses(run)], abs=NEAR * run.plan.outputs)
        assert mine.held_out_losses[-1] == pytest.approx(
            unit * loss(run, plain, run.held_out_y), abs=unit * HELD_OUT * run.plan.outputs
        )
        assert len(mine.held_out_losses) == sample.epochs
    assert history.scores is not None
    scaling = run.labels.scaling
    near = 2.0**-10 * (1.0 if scaling is None or scaling.log else scaling.scale)
    assert np.abs(history.scores - reported(run, plain)).max() <= near
    assert history.metrics[sample.epochs - 1] == metrics(sample.model, labels_of(run), history.scores)
    others = [role.context.history for role in run.roles if role is not run.label]
    assert all(other.scores is None and not other.metrics for other in others)


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    """By the held-out loss, which nobody but the label party knows; all keep the shares of that epoch."""
    sample = replace(
        WHOLE, batch=32, epochs=12, rate=8.0, evaluation=ALL.model_copy(update={"metrics": "end"}),
        early_stopping=EarlyStopping(on="held_out_loss", patience=2),
    )  # fmt: skip
    run = hear(sample, tmp_path)
    losses = run.label.context.history.held_out_losses
    assert len(losses) < sample.epochs
    best, plain = int(np.argmin(losses)), plain_scores(run)[run.label.held_out]
    assert best == len(losses) - 3
    assert losses[best] == pytest.approx(loss(run, plain, run.held_out_y), abs=HELD_OUT)
