"""Every party's page and status say who holds what where the label party gets the whole model.

Other releases are looked at in test_report and test_networks_reporting.
"""

from pathlib import Path

import numpy as np
import pytest

from tercet.agents.cli import rendering
from tercet.agents.models.scorer import load
from tercet.agents.reports.report import render
from tests.agents.networks import mlp
from tests.agents.pages import data_of, text_of
from tests.agents.recording import Heard, Tables, hear, hear_prediction
from tests.agents.reports.test_report import Page, header, of_label_party
from tests.agents.roles.test_prediction import newcomers, people
from tests.agents.world import CLASSES, HELPER, Sample

LABEL, OTHERS = "card", ("bank", "telco")
COLUMNS = (4, 3, 3)
SAMPLES = {
    "logistic": Sample(COLUMNS, rows=200, label=1, release="label"),
    "softmax": Sample(COLUMNS, rows=200, label=1, release="label", model="softmax"),
    "network": mlp(COLUMNS, 6, rows=200, label=1, release="label"),
}
Runs = tuple[Heard, Heard]
pytestmark = pytest.mark.draws_nothing


@pytest.fixture(scope="module", params=SAMPLES)
def runs(request, tmp_path_factory) -> Runs:
    """A training and a prediction."""
    sample, folder = SAMPLES[request.param], tmp_path_factory.mktemp("pages")
    trained = hear(sample, folder, tables=people(sample, 200, 1), reading={"whiten": request.param == "softmax"})
    tables: Tables = newcomers(sample)
    return trained, hear_prediction(sample, folder, tables)


def part_of(run: Heard) -> Path:
    """Where the whole model is."""
    folder = run.simulation.runs[LABEL].model_part
    assert folder is not None
    return folder


def test_everybody_reads_who_has_the_model_and_what_that_tells(runs):
    """The helper too, and in a prediction."""
    trained, predicted = runs
    for party in (*trained.names, HELPER):
        text = text_of(trained, party)
        assert f"Release label {LABEL} has the whole model; the others have shares of it" in text
        assert "the whole model: the weights of all parties' columns" in text
        assert "is then an equation with known weights for the others' columns of that row" in text
        assert all(f"{other}: no weight" in text for other in OTHERS)
        text = text_of(predicted, party)
        assert "what the others' columns say of that row in sum, with weights that it knows" in text
        assert ("the helper: no score" in text) == trained.plan.is_blind


def test_the_label_party_reads_the_weights_of_all_columns(runs):
    """Under their party's name; where columns were whitened, in terms of the columns before that."""
    trained, _ = runs
    data, text = data_of(trained, LABEL), text_of(trained, LABEL)
    whole = load(part_of(trained)).model
    columns = [f"{one.party}/{name}" for one in whole.description.columns for name in one.encoding.column_names]
    if trained.sample.model == "softmax":
        named = [f"{name} → {one}" for one in sorted(CLASSES) for name in (*columns, "intercept")]
        assert set(data.weights) == set(named)
    else:
        assert list(data.weights) == columns
    if trained.sample.model == "logistic":
        shown = [one.encoding.centre(part) for one, part in zip(whole.description.columns, whole.blocks, strict=True)]
        assert list(data.weights.values()) == pytest.approx(np.vstack([part for part, _ in shown])[:, 0].tolist())
        assert data.intercept == pytest.approx(float(whole.biases[0][0, 0] + sum(obtained[0] for _, obtained in shown)))
    assert "The weights of all parties' columns" in text
    assert "bank/bank_quantity_0" in text


def test_categories_are_compared_with_the_mean_of_their_columns(runs):
    """In one-hot columns without a reference anything that all categories have in common is the intercept's."""
    trained, _ = runs
    data, text = data_of(trained, LABEL), text_of(trained, LABEL)
    assert "A category is compared with the mean of its column's categories" in text
    if trained.sample.network is None:
        sums: dict[str, float] = {}
        for name, weight in data.weights.items():
            column, _, rest = name.partition("_housing=")
            if rest:
                of = column + rest.partition(" → ")[2]
                sums[of] = sums.get(of, 0.0) + weight
        assert len(sums) == 3 * trained.plan.outputs
        assert np.allclose(list(sums.values()), 0, rtol=0, atol=1e-9)


def test_the_others_read_that_they_have_none_and_what_of_their_columns_went_where(runs):
    """No weight, no other party's column."""
    trained, _ = runs
    for party in OTHERS:
        data, text = data_of(trained, party), text_of(trained, party)
        assert not data.weights
        assert data.intercept is None
        assert f"gives the whole model to {LABEL} alone, with the names, categories, bins, means and deviations" in text
        assert not any(f"{other}_quantity" in text for other in trained.names if other != party)
    assert not data_of(trained, HELPER).weights


def test_status_says_it_in_one_line_and_the_command_shows_that(runs):
    """Of a training, at every party."""
    trained, predicted = runs
    for party in trained.simulation.runs:
        status = trained.simulation.runs[party].status()
        assert status.release.startswith(f"{LABEL} has the whole model and everybody's encoding")
        with rendering.out.capture() as captured:
            rendering.out.print(rendering.job_details(status))
        assert f"{LABEL} has the whole model" in " ".join(captured.get().split())
        assert predicted.simulation.runs[party].status().release == ""


@pytest.mark.parametrize(("party", "wrong"), [("card", {"weights": {"x": 0.1}}), ("notary", {"weights": {"x": 0.1}})])
def test_a_page_of_anybody_else_with_weights_is_refused(party, wrong):
    """As with shared weights."""
    with pytest.raises(ValueError, match="cannot know"):
        header(party, release="label", **wrong)
    assert "all parties" in Page(render(of_label_party(release="label"))).text
