"""A training with a scorecard, and a prediction by its model: points in files, and in what is served."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.models.points import points_of, whole_points
from tercet.agents.serving.server import _scorecard_of
from tercet.agents.serving.sources import rows_of
from tercet.schemas.files.job import Evaluation, Scorecard
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.roles.test_prediction import newcomers, people
from tests.agents.world import Sample

CARD = Scorecard(pdo=40.0, base_points=500.0, base_odds=20.0)
SAMPLE = Sample(
    (3, 2), rows=240, scorecard=CARD, evaluation=Evaluation(holdout=0.4, held_out_scores=True), score_noise=0.5
)


class Runs:
    """A training and a prediction in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained = hear(SAMPLE, folder, tables=people(SAMPLE, SAMPLE.rows, 1), reading={"whiten": True})
        self.scored = hear_prediction(SAMPLE, folder, newcomers(SAMPLE))

    def place(self, party: str, heard: Heard) -> Path:
        """Where a party has what a job gave it."""
        kind = "models" if heard is self.trained else "predictions"
        return self.folder / party / kind / heard.job.id


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Once for all tests."""
    return Runs(tmp_path_factory.mktemp("scored"))


def rows_in(path: Path) -> list[dict[str, str]]:
    """Of a file with a header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_in_points(rows: list[dict[str, str]], scorecard: Scorecard) -> None:
    """Each row's are those of its score."""
    expected = whole_points(points_of(scorecard, np.array([float(row["score"]) for row in rows])))
    assert [int(row["points"]) for row in rows] == expected.tolist()
    assert np.ptp(expected) > 20


def test_scores_have_points_where_the_model_has_a_scorecard(runs: Runs) -> None:
    """Those of a prediction, and those of held-out rows."""
    for heard, name in ((runs.scored, "scores.csv"), (runs.trained, "held_out.csv")):
        assert_in_points(rows_in(runs.place("bank", heard) / name), CARD)


def test_a_prediction_may_have_a_scorecard_of_its_own(runs: Runs) -> None:
    """In place of the training's."""
    own = Scorecard(positives="good")
    found = hear_prediction(SAMPLE, runs.folder, newcomers(SAMPLE, seed=8), scorecard=own)
    assert_in_points(rows_in(runs.place("bank", found) / "scores.csv"), own)


def test_what_is_served_has_points_too(runs: Runs) -> None:
    """By the part in the state folder; a model without a scorecard has none."""
    scorecard = _scorecard_of(runs.place("bank", runs.trained))
    assert scorecard == CARD
    (row,) = rows_of("logistic", np.array([[0.5]]), (), scorecard)
    assert json.loads(json.dumps(row))["points"] == round(float(points_of(CARD, np.array(0.5))))
    assert "points" not in rows_of("logistic", np.array([[0.5]]), ())[0]
    assert _scorecard_of(runs.folder / "nothing") is None
