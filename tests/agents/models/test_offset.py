"""What a model's scores begin with is added wherever they are told: metrics, predictions, the whole model, ONNX."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tercet
from tercet.agents.core.problems import JobProblem
from tercet.agents.evaluation.metrics import metrics
from tercet.agents.models import model_part
from tercet.agents.models.export import export_model
from tercet.agents.models.scorer import load
from tercet.agents.reports.solo_baseline import alone
from tercet.agents.serving.consent import check_servable
from tercet.agents.simulation.exactness import label_party
from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import Evaluation, TrainingJob
from tercet.schemas.files.settings import Limits, Settings
from tests.agents.models.test_scorer import together
from tests.agents.recording import Tables, hear, hear_prediction
from tests.agents.roles.test_prediction import newcomers, people, predict, refused, scores_of
from tests.agents.world import NOTHING, OUTCOME, PERSON, Sample

pytestmark = pytest.mark.filterwarnings("ignore::tercet.agents.models.scorer.UnseenCategories")  # newcomers have some

BESIDE = "years_insured"
EVALUATION = Evaluation(holdout=0.3, loss=True, held_out_loss=True)


@dataclass(frozen=True)
class Shifted(Sample):
    """A job whose scores begin with a column of the label party."""

    beside: str = "exposure"

    def description(self) -> TrainingJob:
        """The job, with the name of the column."""
        more = {self.beside: BESIDE} | ({"power": 1.6} if self.model == "tweedie" else {})
        return TrainingJob.model_validate(super().description().model_dump() | more)

    def settings(self, folder: Path, *, limits: Limits | None = None) -> dict[str, Settings]:
        """Everybody's; the label party's list the column."""
        found = super().settings(folder, limits=limits)
        party = self.parties[self.label]
        table = found[party].tables["people"].model_copy(update={"offsets": (BESIDE,)})
        return found | {party: found[party].model_copy(update={"tables": {"people": table}})}

    def with_column(self, tables: Tables) -> Tables:
        """The same tables, with the column at the label party."""
        party = self.parties[self.label]
        years = [repr(0.1 + int(person[-5:]) % 7 / 4) for person in tables[party][PERSON]]
        return {**tables, party: {**tables[party], BESIDE: years}}


def shifted(model: str, beside: str = "exposure", **more: float) -> Shifted:
    """A job with a released model, in which every loss is told."""
    rate = more.get("rate", 0.1)
    return Shifted((3, 2), rows=160, label=1, model=model, beside=beside, rate=rate, epochs=1, release="label",
                   privacy=NOTHING, evaluation=EVALUATION)  # fmt: skip


@pytest.mark.parametrize(
    "sample",
    [*map(shifted, ("poisson", "gamma", "tweedie")), shifted("logistic", "offset"), shifted("linear", "offset")],
    ids=lambda sample: sample.model,
)
def test_each_score_begins_with_it(sample: Shifted, tmp_path: Path) -> None:
    """Training is the oracle's bit for bit; all that scores rows adds the same."""
    tables = sample.with_column(people(sample, sample.rows, 1))
    heard = hear(sample, tmp_path, tables=tables)
    assert bit_exact(heard.simulation)
    part = heard.simulation.label_run.model_part
    assert part is not None
    scorer, logs = load(part), sample.beside == "exposure"

    # new rows
    new = sample.with_column(newcomers(sample))
    known = scores_of(hear_prediction(sample, tmp_path, new).simulation)
    rows = together(new, known["id"].to_pylist())
    scores, unit = known["score"].to_numpy(), max(1.0, float(np.std(known["score"].to_numpy())))
    assert np.allclose(scorer.scores(rows)[:, 0], scores, rtol=0, atol=1e-4 * unit)
    offset = np.array(rows[BESIDE], float)
    rest = scorer.scores(rows | {BESIDE: ["1" if logs else "0"] * len(scores)})[:, 0]
    assert np.allclose(scores - rest, np.log(offset) if logs else offset, atol=1e-4 * unit)
    assert scorer.columns_in_[-1] == f"card/{BESIDE}"
    with pytest.raises(ValueError, match="begin with an offset"):
        scorer.scores(np.zeros((2, scorer.n_features_in_)))

    # ONNX
    path = tmp_path / "model.onnx"
    export_model(part, path)
    session = onnxruntime.InferenceSession(path.read_bytes())
    plain = np.zeros((4, session.get_inputs()[0].shape[1]))
    inputs = {"columns": plain, "offset": np.array([[0.0], [0.5], [1.0], [2.0]])}
    found = session.run(["scores"], inputs)[0][:, 0]
    assert np.allclose(found - found[0], [0.0, 0.5, 1.0, 2.0])

    # held-out rows, and the label party's columns alone
    label, labels = label_party(heard.simulation)
    history, held = label.context.history, labels.held_out
    ids = np.array(label.own.table.ids.to_pylist())[label.own.rows[held]].tolist()
    own_scores = scorer.scores(together(tables, ids))[:, 0]
    assert history.scores is not None
    assert np.allclose(history.scores, own_scores, atol=1e-3 * unit)
    power = sample.description().link_power
    again = metrics(sample.model, labels.evaluated.compared, own_scores, labels.evaluated.offset, power)
    assert history.last_metrics == pytest.approx(again, abs=1e-2)
    if "deviance" in again:  # in the label's unit, as half of it is; words of a loss are rounded
        assert 2 * history.held_out_losses[-1] == pytest.approx(again["deviance"], rel=0.005)
    assert alone(label, labels).keys() == again.keys()


def test_a_training_goes_on_by_the_same_offset_alone(tmp_path: Path) -> None:
    """The label is scaled as it was; a small step leaves predictions nearly the same."""
    sample = dataclasses.replace(shifted("poisson"), evaluation=Evaluation())
    tables = sample.with_column(people(sample, sample.rows, 1))
    first = hear(sample, tmp_path, tables=tables)
    more = dataclasses.replace(sample, start=first.job.id, rate=0.002)
    second = hear(more, tmp_path, tables=more.with_column(people(sample, 120, 2)), order=3, seed=2)
    assert bit_exact(second.simulation)
    parts = [run.simulation.label_run.model_part for run in (first, second)]
    before, after = (load(part).scores(together(tables, tables["card"][PERSON])) for part in parts if part is not None)
    assert 0.0 < np.abs(after - before).max() < 0.02
    without = Sample.description(more)
    run = predict(more, tmp_path, more.with_column(people(sample, 120, 3)), without).label_run
    assert run.failure is not None
    assert run.failure.code == "model.start"
    assert f'exposure = "{BESIDE}"' in run.failure.reason


def newton(x: np.ndarray, y: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """Poisson regression by iteratively reweighted least squares, intercept first."""
    x = np.hstack([np.ones((len(x), 1)), x])
    w = np.zeros(x.shape[1])
    for _ in range(30):
        mean = exposure * np.exp(x @ w)
        w = w + np.linalg.solve(x.T * mean @ x, x.T @ (y - mean))
    return w


def test_poisson_with_exposure_is_the_glm() -> None:
    """Coefficients within 1e-3 of iteratively reweighted least squares."""
    rng, rows = np.random.default_rng(1), 1000
    a, b, years = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2)), rng.uniform(0.1, 1.0, rows)
    claims = rng.poisson(years * np.exp(-0.5 + a @ [0.3, -0.2, 0.1] + b @ [0.25, -0.4]))
    frames: dict[str, dict[str, Any]] = {
        "insurer": {"id": range(rows), "claims": claims, "years": years} | {f"a{k}": a[:, k] for k in range(3)},
        "bank": {"id": range(rows)} | {f"b{k}": b[:, k] for k in range(2)},
    }
    result = tercet.simulate(
        frames, label="insurer.claims", id="id", model="poisson", exposure="years",
        options={"insurer": {"offsets": ["years"]}}, holdout=0, epochs=30, batch=rows, rate=0.8, schedule="linear",
    )  # fmt: skip
    table = {name: values for frame in frames.values() for name, values in frame.items() if name != "id"}
    assert result.scorer is not None
    scores = np.log(result.scorer.predict(table)) - np.log(years)
    x = np.hstack([a, b])
    found = np.linalg.lstsq(np.hstack([np.ones((rows, 1)), x]), scores, rcond=None)[0]
    assert np.allclose(found, newton(x, claims, years), atol=1e-3)


def test_a_model_with_an_offset_is_not_served(tmp_path: Path) -> None:
    """Nobody asks for single rows what is a column of the label party's."""
    sample = dataclasses.replace(shifted("poisson"), release="owners", rows=120, evaluation=Evaluation())
    tables = sample.with_column(people(sample, sample.rows, 1))
    run = hear(sample, tmp_path, tables=tables).simulation
    folder = run.label_run.model_part
    assert folder is not None
    with pytest.raises(JobProblem, match="tercet predict"):
        check_servable("card", model_part.manifest(folder))


@pytest.mark.parametrize("wrong", ["0", "many"])
def test_an_exposure_is_above_0(wrong: str, tmp_path: Path) -> None:
    """The label party is told how many are not, and nobody else."""
    sample = shifted("poisson")
    tables = sample.with_column(people(sample, sample.rows, 1))
    own = tables["card"]
    own[BESIDE][own[OUTCOME].index(max(own[OUTCOME]))] = wrong
    refused(predict(sample, tmp_path, tables, sample.description()), "table.unusable", "card", BESIDE)


def test_an_offset_far_out_is_refused(tmp_path: Path) -> None:
    """The series would not hold for its row."""
    sample = shifted("poisson")
    tables = sample.with_column(people(sample, sample.rows, 1))
    tables["card"][BESIDE][5] = "100000"
    refused(predict(sample, tmp_path, tables, sample.description()), "table.label", "card", "offset")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offset": "a", "exposure": "b"}, "one of them"),
        ({"exposure": "b", "model": "logistic"}, "not for logistic"),
        ({"offset": "b", "model": "softmax", "privacy": {}}, "not for softmax"),
        ({"offset": "b", "privacy": {"helper_sees": "scores"}}, "helper_sees"),
    ],
)
def test_a_job_in_which_it_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    """With the words to write instead."""
    fields = Sample(model="poisson", privacy=NOTHING).description().model_dump()
    with pytest.raises(ValueError, match=words):
        TrainingJob.model_validate(fields | changes)
