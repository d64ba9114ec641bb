"""A training with a scorecard, and a prediction by its model: points in files, and in what is served."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.api.result import result_of_status
from tercet.agents.evaluation.stability import stability_index
from tercet.agents.models import model_part
from tercet.agents.models.points import points_of, whole_points
from tercet.agents.models.population import BinCounts
from tercet.agents.reports.wording import number, weight
from tercet.agents.roles import data_party, fitted_table, prediction
from tercet.agents.serving.server import _scorecard_of
from tercet.agents.serving.sources import rows_of
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import Evaluation, Privacy, Scorecard
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.codec import encode
from tests.agents.pages import data_of, text_of
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.roles.test_prediction import newcomers, people
from tests.agents.world import HELPER, PERSON, Sample

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


def test_each_part_counts_its_own_columns_and_the_label_partys_its_held_out_scores(runs: Runs) -> None:
    """Of the rows that were trained on; a partner knows no score, so its part has none."""
    held_out = rows_in(runs.place("bank", runs.trained) / "held_out.csv")
    for party in SAMPLE.parties:
        part = model_part.manifest(runs.place(party, runs.trained))
        population = part.population
        assert population is not None
        assert [one.bins.name for one in population.columns] == [column.name for column in part.encoding.columns]
        assert {sum(one.rows) for one in population.columns} == {SAMPLE.rows - len(held_out)}
        assert all(one.bins.name.startswith(f"{party}_") for one in population.columns)
        scores = 0 if population.scores is None else sum(population.scores.rows)
        assert scores == (len(held_out) if party == "bank" else 0)


def test_a_page_tells_each_party_how_its_own_columns_have_moved(runs: Runs) -> None:
    """By the rows that were scored; the label party reads it of the scores too, and nobody else does."""
    tables = {party: dict(table) for party, table in newcomers(SAMPLE).items()}
    common = set.intersection(*(set(table[PERSON]) for table in tables.values()))
    for party, table in tables.items():
        data, text = data_of(runs.scored, party), text_of(runs.scored, party)
        part = model_part.manifest(runs.place(party, runs.trained))
        assert part.population is not None
        common_rows = [row for row, one in enumerate(table[PERSON]) if one in common]
        assert [one.name for one in data.stability] == [name for name in table if name != PERSON]
        for one, known in zip(data.stability, part.population.columns, strict=True):
            cells = [table[one.name][row] for row in common_rows]
            assert one.before == (*known.rows, 0)
            assert one.now == tuple(count_by_hand(known, cells))
            assert one.psi == stability_index(one.before, one.now)
            assert f"{one.name} {number(one.psi)} {number(one.chance)} {one.verdict}" in text
        assert ("compared with the held-out rows" in text) == (party == "bank") == (data.moved is not None)
    assert "What has changed" not in text_of(runs.scored, HELPER)
    moved, scores = data_of(runs.scored, "bank").moved, rows_in(runs.place("bank", runs.scored) / "scores.csv")
    assert moved is not None
    assert sum(moved.now) == len(scores) == len(common)


def count_by_hand(known: BinCounts, cells: list[str]) -> list[int]:
    """Rows in each bin, unseen ones last."""
    bins, found = known.bins, [0] * (known.bins.count + 1)
    for cell in cells:
        if not cell:
            place = bins.count if bins.missing is None else bins.missing
        elif bins.kind == "numeric":
            place = sum(float(cell) >= cut for cut in bins.cuts)
        else:
            place = next((n for n, levels in enumerate(bins.levels) if cell in levels), bins.count)
            place = bins.rare if place == bins.count and bins.rare is not None else place
        found[place] += 1
    return found


def test_a_model_of_before_the_counts_scores_as_ever(runs: Runs, tmp_path: Path) -> None:
    """Its page says nothing of what has changed."""
    for party in SAMPLE.parties:
        shutil.copytree(runs.place(party, runs.trained), tmp_path / party / "models" / runs.trained.job.id)
        manifest = tmp_path / party / "models" / runs.trained.job.id / model_part.MANIFEST
        content = json.loads(manifest.read_text())
        assert content.pop("population")
        manifest.write_text(json.dumps(content))
    found = hear_prediction(SAMPLE, tmp_path, newcomers(SAMPLE))
    rows = [
        rows_in(place / "scores.csv")
        for place in (runs.place("bank", runs.scored), tmp_path / "bank" / "predictions" / found.job.id)
    ]
    assert [row["id"] for row in rows[0]] == [row["id"] for row in rows[1]]
    assert all("What has changed" not in text_of(found, party) for party in SAMPLE.parties)


def test_a_large_change_is_a_warning_where_its_party_looks(runs: Runs) -> None:
    """In its own status, and in nobody else's."""
    tables = {party: dict(table) for party, table in newcomers(SAMPLE, seed=9).items()}
    tables["card"]["card_quantity_0"] = [cell and repr(float(cell) + 30) for cell in tables["card"]["card_quantity_0"]]
    found = hear_prediction(SAMPLE, runs.folder, tables)
    warnings = {party: " ".join(data_of(found, party).preprocessing) for party in SAMPLE.parties}
    assert "column 'card_quantity_0' has changed since the training (PSI" in warnings["card"]
    assert "card_quantity_0" not in warnings["bank"] + text_of(found, "bank") + text_of(found, HELPER)


def test_a_result_lists_the_card(runs: Runs) -> None:
    """In Python, from the part in the state folder; by other rules where somebody asks."""
    status = runs.trained.simulation.runs["card"].status()
    result = result_of_status(status, runs.folder / "card")
    base, *rows = result.scorecard()
    cards = data_of(runs.trained, "card").cards
    assert cards is not None
    assert base["points"] == cards.cards[0].base_points
    assert [row["points"] for row in rows] == [term.points for term in cards.cards[0].terms]
    halved = result.scorecard(pdo=CARD.pdo / 2)
    assert [row["points"] for row in halved[1:]] == pytest.approx([row["points"] / 2 for row in rows])
    with pytest.raises(Invalid, match="pdo"):
        result.scorecard(pdo=-1)


def test_the_trainings_page_has_the_card(runs: Runs) -> None:
    """Each party's own; the helper's has none."""
    for party in SAMPLE.parties:
        data, text = data_of(runs.trained, party), text_of(runs.trained, party)
        assert data.cards is not None
        assert [card.party for card in data.cards.cards] == [party]
        assert "40 points double the odds of good to bad" in text
        assert all(f"{term.value} {weight(term.points)}" in text for term in data.cards.cards[0].terms)
    assert "scorecard" not in text_of(runs.trained, HELPER)


@pytest.mark.parametrize("release", ["owners", "label"])
def test_counting_changes_no_word_that_anybody_is_sent(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training and a prediction say the same to the last bit where nothing is counted."""
    without_checks = Privacy(helper_sees="scores", checks=0)  # which are drawn anew in each run
    sample = replace(SAMPLE, rows=80, epochs=1, release=release, privacy=without_checks)

    def said(folder: Path) -> list[tuple[Address, bytes]]:
        folder.mkdir()
        trained = hear(sample, folder, tables=people(sample, sample.rows, 1))
        scored = hear_prediction(sample, folder, newcomers(sample))
        heard = [*trained.ear.said, *scored.ear.said]
        return sorted((address, encode(message)) for address, message in heard if address.round != "control")

    counted = said(tmp_path / "counted")
    monkeypatch.setattr(fitted_table, "count_columns", lambda *_: ())
    monkeypatch.setattr(data_party, "count_scores", lambda *_: None)
    monkeypatch.setattr(prediction, "compare_columns", lambda *_: ())
    assert said(tmp_path / "not counted") == counted
