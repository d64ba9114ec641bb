"""A model that is no better than a constant is told as such, and an early stop keeps none."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.cli.rendering import job_details, job_table
from tercet.agents.cli.runner import WORTHLESS
from tercet.agents.reports.build import report_data
from tercet.agents.reports.report import render
from tercet.agents.session.history import EarlyStopper, History
from tercet.agents.simulation.exactness import label_party
from tercet.agents.simulation.simulate import Simulation, summary
from tercet.agents.training.worth import Constant, shortfall
from tercet.mpc.functions.links import LINKS
from tercet.mpc.functions.row_labels import RowLabels
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tests import virtual_time
from tests.agents.world import OUTCOME, Sample, run

REPORTED = Evaluation(holdout=0.3, loss=True, held_out_loss=True)


@dataclass(frozen=True)
class Random(Sample):
    """Labels that the columns tell nothing of: at a rate far too large the scores are far from any."""

    def tables(self) -> dict[str, dict[str, list[str]]]:
        """As others, but for the label."""
        tables = super().tables()
        label = tables[self.parties[self.label]][OUTCOME]
        label[:] = np.random.default_rng(5).permutation(label).tolist()
        return tables


WILD = Random(rate=40.0, epochs=3, evaluation=Evaluation(loss=True))
TAME = Sample(rate=0.1, epochs=3, evaluation=Evaluation(loss=True))


def ended(sample: Sample, folder: Path) -> Simulation:
    """A job from its begin to its end."""
    return virtual_time.run(run(sample, folder))


def test_a_job_that_diverges_within_the_range_ends_with_a_word_to_its_label_party_alone(tmp_path: Path) -> None:
    """State, list and page say so, and what to change; the others are told nothing of how good the model is."""
    simulation = ended(WILD, tmp_path)
    assert simulation.done
    status, other = simulation.label_run.status(), simulation.runs["card"].status()
    assert status.worthless is not None
    assert status.loss is not None
    assert status.loss > math.log(2) - 0.01
    assert "no better than a constant: the training loss is" in status.worthless
    assert (
        'leave rate out of the job (it is "auto" then), or use a smaller one; or the columns tell nothing of the label'
        in status.worthless
    )
    assert other.worthless is None
    assert summary(simulation)["worthless"] == status.worthless
    assert "done, but no better than a constant" in "".join(map(str, job_details(status).columns[1].cells))
    (cell,) = job_table([status]).columns[1].cells
    assert str(cell).endswith(f"done, but {status.worthless}")
    page = render(report_data(label_party(simulation)[0], None))
    assert "This model is worthless" in page
    assert "The model is no better than a constant." in page
    assert WORTHLESS not in {0, 1, 2, 3, 4}


def test_nothing_is_said_of_a_model_that_is_better(tmp_path: Path) -> None:
    """As nearly every model is."""
    early = EarlyStopping(on="loss")
    simulation = ended(replace(TAME, early_stopping=early), tmp_path)
    status = simulation.label_run.status()
    assert (status.state, status.worthless) == ("done", None)
    assert simulation.label_run.context.history.best_epoch is not None
    page = render(report_data(label_party(simulation)[0], None))
    assert "worthless" not in page


def test_an_early_stop_keeps_no_model_that_is_no_better_than_a_constant(tmp_path: Path) -> None:
    """Before, the first epoch's was the best whatever it was worth; now the job fails, with what to change."""
    sample = replace(
        WILD, evaluation=REPORTED, rows=200, epochs=6, early_stopping=EarlyStopping(on="held_out_loss", patience=6)
    )
    simulation = ended(sample, tmp_path)
    for party in sample.parties:
        failure = simulation.runs[party].status().failure
        assert failure is not None
        assert (failure.code, failure.culprit) == ("training.worthless", sample.parties[0])
        assert "use a smaller one" in failure.reason
        assert not list((tmp_path / party / "models").glob("sample-*"))


def stopping(on: str, patience: int) -> EarlyStopper:
    """The label party's rule."""
    return EarlyStopper(EarlyStopping(on=on, patience=patience), "logistic")


def test_a_model_on_its_way_is_waited_for_and_kept_once_it_is_worth_something() -> None:
    """As of rare labels, whose loss begins far above that of a constant."""
    rule = stopping("loss", patience=2)
    seen = [(0.69, True), (0.3, True), (0.12, True), (0.09, False), (0.085, False), (0.1, False), (0.1, False)]
    decisions = [rule.decide(value, worthless=worthless) for value, worthless in seen]
    assert [best for best, _ in decisions] == [False, False, False, True, True, False, False]
    assert [go_on for _, go_on in decisions] == [True] * 6 + [False]


def test_the_best_ranking_of_a_worthless_epoch_bars_no_other() -> None:
    """An AUC says nothing of how far the scores are off."""
    rule = stopping("auc", patience=3)
    assert rule.decide(0.8, worthless=True) == (False, True)
    assert rule.decide(0.75, worthless=False) == (True, True)
    again = stopping("auc", patience=3)
    again.restore(rule.to_checkpoint())
    assert again.to_checkpoint() == rule.to_checkpoint()
    assert again.decide(0.74, worthless=False) == (False, True)


@pytest.mark.parametrize("link", LINKS)
def test_the_constant_is_the_best_there_is(link: str) -> None:
    """No score that is the same for all rows has a lower loss."""
    rng, function, outputs = np.random.default_rng(3), LINKS[link], 3 if LINKS[link].classes else 1
    raw = {
        "logistic": (rng.random(200) < 0.2).astype(float),
        "softmax": rng.integers(0, 3, 200).astype(float),
        "one-vs-rest": rng.integers(0, 3, 200).astype(float),
        "linear": rng.normal(size=200),
        "poisson": rng.poisson(2.0, 200) / 2.0,
        "gamma": rng.gamma(2.0, 0.5, 200),
        "tweedie": rng.poisson(1.0, 200) * rng.gamma(2.0, 0.5, 200),
    }[link]
    y = function.centre(raw, outputs)
    best = function.constant_loss(y, y)
    scores = function.constant(y.mean(axis=0))
    for shift in rng.normal(scale=0.1, size=(20, outputs)):
        assert function.loss(np.broadcast_to(scores + shift, y.shape), y) / len(y) >= best - 1e-12


def test_a_class_that_no_training_row_has_is_never_predicted_by_the_constant() -> None:
    """Its score is finite; and the log-loss of one against the rest is that of the shares of the classes."""
    function, rng = LINKS["one-vs-rest"], np.random.default_rng(4)
    training, held_out = (function.centre(rng.integers(0, 3, 300).astype(float), 4) for _ in range(2))
    constant = Constant.of(RowLabels(function, training), RowLabels(function, held_out), 1.0)
    assert np.isfinite(function.constant(training.mean(axis=0))).all()
    assert constant.log_loss == pytest.approx(np.log(3), abs=0.02)
    assert constant.held_out == pytest.approx(3 * np.log(3) - 2 * np.log(2), abs=0.02)
    assert "held-out loss is 1.2" in shortfall(constant, History(metrics={0: {"log_loss": 1.2}}), 0, last=True)
    assert shortfall(constant, History(metrics={0: {"log_loss": 1.0}}), 0, last=True) == ""
    assert shortfall(constant, History(held_out_losses=[1.8]), 0, last=True) == ""


def test_held_out_rows_count_where_they_are_known() -> None:
    """And the advice is another one where training rows are fitted well."""
    constant = Constant(training=0.69, held_out=0.68)
    fitted = History(losses=[0.5], held_out_losses=[0.7])
    assert "held-out loss is 0.7" in shortfall(constant, fitted, 0, last=True)
    assert "by heart" in shortfall(constant, fitted, 0, last=True)
    assert shortfall(constant, History(losses=[0.7], held_out_losses=[0.5]), 0, last=True) == ""
    assert "the held-out rows' r2 is -0.1" in shortfall(constant, History(metrics={0: {"r2": -0.1}}), 0, last=True)
    assert "held-out loss is 0.9" in shortfall(constant, History(metrics={4: {"log_loss": 0.9}}), 4, last=False)
    assert shortfall(constant, History(), 0, last=True) == ""
