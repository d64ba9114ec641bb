"""Every party's page of a whole job of a network: how strongly columns are listened to, and what is another's is not.

The pages of other models are looked at in test_reporting.
"""

from pathlib import Path

import numpy as np
import pytest

from tercet.agents.models import model_part
from tercet.schemas.files.job import METRICS, Evaluation
from tests.agents.networks import mlp
from tests.agents.pages import data_of, text_of
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.world import CLASSES, HELPER, OUTCOME

EACH_EPOCH = Evaluation(holdout=0.3, metrics="epoch", loss=True)
LABEL = "card"
Runs = tuple[Heard, Heard]
pytestmark = pytest.mark.draws_nothing


@pytest.fixture(scope="module", params=["softmax", "poisson"])
def runs(request, tmp_path_factory) -> Runs:
    """A training and a prediction by one network with each output."""
    sample = mlp(
        (4, 3, 3), 6, 5, rows=200, batch=100, epochs=2, rate=0.05, label=1, output=request.param, evaluation=EACH_EPOCH
    )
    folder: Path = tmp_path_factory.mktemp("reported")
    trained = hear(sample, folder)
    tables = {party: {k: v for k, v in table.items() if k != OUTCOME} for party, table in trained.tables.items()}
    return trained, hear_prediction(sample, folder, tables)


def test_everybody_reads_what_kind_of_network_it_is(runs):
    """Its layers, what they apply, and its output; in training and in prediction, the helper too."""
    for run in runs:
        for party in (*run.names, HELPER):
            output = run.sample.link
            assert f"neural network of 6 and 5 hidden ReLU units with a {output} output" in text_of(run, party)


def test_everybody_reads_that_the_helper_sees_hidden_values_mixed(runs):
    """In a prediction as well, which always runs through it."""
    for run in runs:
        for party in (*run.names, HELPER):
            text = text_of(run, party)
            assert "the sizes without sign of all units of each hidden layer, mixed" in text
            assert "the helper: no score" not in text


def test_the_label_party_reads_every_metric_of_the_output(runs):
    """Of the job's link, epoch by epoch."""
    trained, _ = runs
    data, text = data_of(trained, LABEL), text_of(trained, LABEL)
    assert set(data.result) == set(METRICS[trained.sample.link])
    assert len(data.metrics) == len(data.losses) == 2
    assert "Loss by epoch" in text
    assert "of its own columns and of all layers above the first" in text


def test_each_data_party_reads_how_strongly_the_first_layer_listens_to_its_columns(runs):
    """The length of a column's weights, which says nothing of a direction: there is no intercept beside it."""
    trained, _ = runs
    for party in trained.names:
        data, text = data_of(trained, party), text_of(trained, party)
        folder = trained.simulation.runs[party].model_part
        assert folder is not None
        _, arrays = model_part.load(folder)
        assert list(data.weights.values()) == pytest.approx(np.linalg.norm(arrays["weights"], axis=1).tolist())
        assert set(data.weights) == {f"{party}_quantity_{k}" for k in range(len(data.weights))}
        assert "How strongly one unit of an encoded column tells in the first hidden layer" in text
        assert data.intercept is None
        assert "The intercept is" not in text
        others = [other for other in trained.names if other != party]
        assert not any(f"{other}_quantity" in text for other in others)


def test_partners_and_the_helper_read_no_metric_and_no_name_of_a_class(runs):
    """Those are the label party's."""
    for run in runs:
        for party in (*run.names, HELPER):
            if party != LABEL:
                data = data_of(run, party)
                assert not data.metrics
                assert not data.curves
                assert not data.classes
                assert not any(name in text_of(run, party) for name in CLASSES)


def test_the_label_party_reads_how_predictions_are_spread(runs):
    """By class where there are such."""
    trained, predicted = runs
    data = data_of(predicted, LABEL)
    assert data.predictions is not None
    assert data.rows == trained.sample.rows
    assert data.classes == (tuple(sorted(CLASSES)) if trained.sample.link == "softmax" else ())


def test_a_page_of_a_shared_network_says_that_nobody_has_a_weight(tmp_path):
    """And shows none."""
    run = hear(mlp((4, 3), 5, release="shared"), tmp_path)
    for party in run.names:
        assert not data_of(run, party).weights
        assert "leaves every weight shared" in text_of(run, party)


def test_status_tells_of_a_network_what_it_tells_of_any_model(runs):
    """Steps, sizes, metrics at the label party, and bytes by kind of message."""
    for party, one in runs[0].simulation.runs.items():
        status = one.status()
        assert (status.state, status.model, status.step) == ("done", "mlp", status.steps)
        assert bool(status.metrics) == (party == LABEL)
        expected = {"hidden answer", "dealt shares"} if party == HELPER else {"hidden share", "error opening"}
        assert expected <= status.sent_bytes.keys()
        assert sum(status.sent_bytes.values()) > 0
        assert min(status.sent_bytes.values()) > 0
