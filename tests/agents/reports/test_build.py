"""Every party's page of a whole job, for each link: what it may know is there, and what is another's is not."""

import re
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.evaluation.metrics import OF_CLASSES
from tercet.agents.reports.build import Result, write_report
from tercet.agents.reports.wording import NAMES, number
from tercet.schemas.files.job import METRICS, Evaluation, Scorecard
from tests.agents.pages import data_of, text_of
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.reports.test_report import Page
from tests.agents.world import CLASSES, HELPER, OUTCOME, Sample

EACH_EPOCH = Evaluation(holdout=0.3, metrics="epoch", loss=True)
Runs = tuple[Heard, Heard]
BOTH = ("card", "bank")  # the label party, and a partner


@pytest.fixture(scope="module", params=METRICS)
def runs(request, tmp_path_factory) -> Runs:
    """A training and a prediction by one model of each link."""
    sample = Sample(
        (4, 3, 3), rows=300, batch=100, epochs=3, rate=0.05, label=1, model=request.param, evaluation=EACH_EPOCH
    )
    folder: Path = tmp_path_factory.mktemp("reported")
    trained = hear(sample, folder)
    tables = {party: {k: v for k, v in table.items() if k != OUTCOME} for party, table in trained.tables.items()}
    return trained, hear_prediction(sample, folder, tables, scorecard=Scorecard())


def test_the_label_party_reads_every_metric_of_the_link_beside_its_own_columns_alone(runs):
    """And how both moved from epoch to epoch."""
    trained, _ = runs
    data, text = data_of(trained, "card"), text_of(trained, "card")
    assert data.link == trained.sample.model
    assert f"A {data.link} regression over the columns" in text
    assert set(data.result) == set(data.alone) == set(METRICS[data.link])
    for name, value in data.result.items():
        assert f"{NAMES[name]} {number(value)}" in text
    if data.link in {"poisson", "gamma", "tweedie"}:
        assert data.intercept is not None
        mean = np.mean([float(label) for label in trained.tables["card"][OUTCOME]])
        assert abs(data.intercept - np.log(mean)) < 0.7, "the logarithm of the label as its party has it"
    assert "What the partners' columns were worth" in text
    assert "Loss by epoch" in text
    assert ("Metrics by epoch" in text) == any(METRICS[data.link].values())
    held_out = {"logistic", "softmax", "poisson", "gamma"}  # whose held-out loss is among the metrics
    assert ("held out 0." in text or "held out 1." in text) == (data.link in held_out)


def test_what_is_drawn_of_held_out_rows_fits_the_link(runs):
    """A regression is compared with what came, two classes have curves, and more a table of who is taken for whom."""
    trained, _ = runs
    text, link = text_of(trained, "card"), trained.sample.model
    for title, links in {
        "ROC": {"logistic"},
        "Predicted and actual": {"linear", "poisson", "gamma", "tweedie"},
        "Residuals": {"linear", "poisson", "gamma", "tweedie"},
        "Calibration": {"logistic", *OF_CLASSES},
        "Class by class": OF_CLASSES,
    }.items():
        assert (title in text) == (link in links), title


def test_a_confusion_of_few_classes_is_a_table_with_their_names(runs):
    """Each row of it adds up to the rows of its class."""
    trained, _ = runs
    data, text = data_of(trained, "card"), text_of(trained, "card")
    if trained.sample.model not in OF_CLASSES:
        assert data.classes == ()
        return
    assert data.classes == tuple(sorted(CLASSES))
    assert data.curves is not None
    assert data.curves.confusion is not None
    for name, row in zip(data.classes, data.curves.confusion, strict=True):
        cells = " ".join(str(int(count)) for count in row)
        assert f"{name} {cells}" in text
        assert f"{name} {int(row.sum())} " in text
    assert "found (recall)" in text


def test_nobody_but_the_label_party_reads_what_its_classes_are_called(runs):
    """Nor any metric; partners see their own columns' weights, of classes by number."""
    trained, predicted = runs
    for run in runs:
        for party in ("bank", "telco", HELPER):
            text = text_of(run, party)
            assert not any(name in text for name in CLASSES)
            assert not any(f"{name} 0." in text for name in NAMES.values())
            assert "intercept" not in text.replace("and the intercept", "")
    weights = data_of(trained, "bank").weights
    outputs = trained.plan.outputs
    assert len(weights) == 4 * outputs
    assert (f"bank_quantity_0 \N{RIGHTWARDS ARROW} class {outputs}" in weights) == (outputs > 1)
    assert data_of(predicted, "bank").predictions is None


def test_the_helpers_page_says_what_it_saw_of_scores(runs):
    """Nothing; or without their sign, with it, less labels, or in rows by class."""
    trained, predicted = runs
    said = (
        "by number, and how many steps are done; no score, not even under noise"
        if trained.plan.is_blind
        else {
            "linear": "in every batch the sizes of the scores without sign, under noise",
            "logistic": "in every batch the sizes of the scores without sign, under noise",
            "softmax": "in every batch whole rows of scores, whose classes stand in a secret order too",
            "poisson": "in every batch the scores with their signs, under noise",
            "gamma": "in every batch the scores less the logarithms of their labels, under noise",
        }[trained.sample.model]
    )
    assert said in text_of(trained, HELPER)
    assert "notary, the helper: no score" in text_of(predicted, HELPER)


def test_a_page_of_a_prediction_tells_how_what_is_predicted_is_spread(runs):
    """Probabilities, means in the label's own unit, or how many rows fall to which class."""
    _, predicted = runs
    data, text = data_of(predicted, "card"), text_of(predicted, "card")
    assert data.predictions is not None
    assert data.predictions.counts.sum() == 300
    assert f"New rows scored by the {data.link} regression" in text
    if data.link in OF_CLASSES:
        assert sum(data.predicted.values()) == 300
        assert all(f"{name} {count}" in text for name, count in data.predicted.items())
    low, high = data.predictions.edges[[0, -1]]
    assert {"logistic": 0 <= low < high <= 1, **dict.fromkeys(OF_CLASSES, 0.25 <= low < high <= 1)}.get(
        data.link, low < high
    )
    if data.link in {"linear", "gamma", "tweedie"}:
        assert 50 < np.average(data.predictions.edges[:-1], weights=data.predictions.counts) < 600


def test_a_page_is_written_where_its_party_finds_it(runs):
    """Nothing of it needs anything else, whatever the link."""
    for run in runs:
        one = run.simulation.runs["card"]
        assert isinstance(one.reached, Result)
        path = write_report(one.reached, one.model_part)
        page = path.read_text(encoding="utf-8")
        assert re.findall(r"http|<script|url\(|<img", page) == []
        Page(page)


def test_points_are_of_log_odds_alone(runs):
    """The label party is warned where a prediction asks for others."""
    _, predicted = runs
    path = predicted.simulation.runs["card"].scores
    assert path is not None
    assert ("points" in path.read_text().splitlines()[0]) == (predicted.sample.model == "logistic")
    warned = {party: "there are no points" in " ".join(data_of(predicted, party).preprocessing) for party in BOTH}
    assert warned == {"card": predicted.sample.model != "logistic", "bank": False}


def test_scores_of_the_rows_of_the_training_have_not_moved(runs):
    """Those of held-out rows and those of a prediction are in the same terms, whatever the link."""
    _, predicted = runs
    moved = data_of(predicted, "card").moved
    assert moved is not None
    assert sum(moved.now) == 300
    assert moved.psi < moved.chance
    assert f"compared with the held-out rows {number(moved.psi)}" in text_of(predicted, "card")
    assert all(one.psi < one.chance for one in data_of(predicted, "bank").stability)
    assert len(data_of(predicted, "bank").stability) == 4
