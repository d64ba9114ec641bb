"""What a scorecard's points add up to is the model's score in points, whatever the encoding."""

import csv
import json
import math
import stat
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.models.full_model import of_part, write
from tercet.agents.models.manifest import ModelPartProblem
from tercet.agents.models.model_part import partial_scores, save
from tercet.agents.models.points import points_of, whole_points
from tercet.agents.scorecards.card import Card, cards_of_part
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Network, Scorecard
from tercet.tables.encoding.offset import Offset
from tests.agents.scorecards.made_up import PARTIES, Parts, parts_of, read_card, table_of

CHANGES = {"pdo": 40.0, "positives": "bad"}
USUAL, OTHER = Scorecard(), Scorecard(pdo=15.0, base_points=200.0, base_odds=2.5, positives="good")


def cards(parts: Parts, scorecard: Scorecard = USUAL) -> dict[str, Card]:
    """Each party's own."""
    return {party: cards_of_part(*parts[party], scorecard).cards[0] for party in parts}


def scores(parts: Parts, rows: int = 200) -> tuple[Floats, dict[str, Floats]]:
    """What the model gives new rows, some of them unseen; and what each card does, by hand."""
    tables = {party: table_of(party, rows, 7 + place, news=True) for place, party in enumerate(PARTIES)}
    score = np.sum([partial_scores(*parts[party], tables[party])[:, 0] for party in PARTIES], axis=0)
    made = {party: read_card(one, parts[party][0].encoding, tables[party]) for party, one in cards(parts).items()}
    return score, made


def test_points_are_those_of_the_definition() -> None:
    """So many points at so many odds, and `pdo` more where the odds of good to bad double."""
    bad = -math.log(50)  # log-odds of bad, at odds of 50 good ones to a bad one
    assert points_of(USUAL, np.array([bad, bad - math.log(2)])) == pytest.approx([600, 620])
    good = math.log(2.5)
    assert points_of(OTHER, np.array([good, good + math.log(2)])) == pytest.approx([200, 215])
    assert whole_points(np.array([0.5, 1.5, -0.4, 1e300])).tolist() == [0, 2, 0, 2**53]


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("woe", [False, True])
def test_points_of_all_cards_add_up_to_the_score(whiten: bool, woe: bool) -> None:
    """Of numbers, categories and bins, gaps and unseen ones, as they are or whitened: to the last digits."""
    score, points = scores(parts_of(whiten=whiten, woe=woe))
    assert np.abs(sum(points.values()) - points_of(USUAL, score)).max() < 1e-7  # whitening rounds to 42 bits
    assert np.ptp(points["card"]) > 20


def test_an_offset_has_points_for_each_unit() -> None:
    """At the label party, whose column it is; a card without it is the same but for that."""
    part, arrays = parts_of(whiten=False)["bank"]
    of_offset = part.model_copy(update={"offset": Offset(column="prior", exposure=False)})
    (card,), (plain,) = (cards_of_part(one, arrays, OTHER).cards for one in (of_offset, part))
    assert (card.base_points, card.terms[:-1]) == (plain.base_points, plain.terms)
    assert (card.terms[-1].column, card.terms[-1].kind) == ("prior", "per unit")
    assert card.terms[-1].points == pytest.approx(15 / math.log(2))


def test_rounded_points_stay_within_what_the_cards_say() -> None:
    """Half a point for each column and for the base, and usually much less."""
    parts = parts_of(whiten=False)
    for card in cards(parts).values():
        assert card.most_rounding == 3.0
        assert abs(card.rounded_base - card.base_points) <= 0.5
        for term in card.terms:
            assert (term.rounded is None) == (term.kind in {"at zero", "per unit"})
            assert term.rounded is None or abs(term.rounded - term.points) <= 0.5


def test_a_whole_model_has_all_parties_cards() -> None:
    """The same as its owners would have, and the base points at the label party."""
    parts = parts_of(whiten=False, whole=True)
    found = cards_of_part(*parts["bank"], USUAL)
    assert (found.whole, found.job) == (True, "credit-0123abcd")
    assert {card.party: card for card in found.cards} == cards(parts_of(whiten=False))
    assert found.cards[0].base_points > 300 > abs(found.cards[1].base_points)


def test_who_knows_no_weights_has_no_card() -> None:
    """Nor has a model whose score is no sum over columns, or no log-odds."""
    part, arrays = parts_of(whiten=False)["bank"]
    for changes, words in (
        ({"release": "shared"}, 'train with release = "owners" or "label"'),
        ({"release": "label", "party": "card"}, "bank has it"),
        ({"model": "poisson"}, 'needs model = "logistic"'),
        ({"model": "mlp", "network": Network(hidden=(2,))}, 'needs model = "logistic"'),
    ):
        with pytest.raises(ModelPartProblem, match=words):
            cards_of_part(part.model_copy(update=changes), arrays, USUAL)


def test_the_command_writes_csv_and_json(tmp_path: Path) -> None:
    """From a part's folder, as its job says or as the command does; for this user only."""
    parts = parts_of(whiten=True, scorecard=OTHER)
    save(tmp_path / "part", *parts["card"])
    for name, options, scorecard in (
        ("card.csv", (), OTHER),
        (
            "card.json",
            ("--pdo", "40", "--positives", "bad"),
            OTHER.model_copy(update={"pdo": 40.0, "positives": "bad"}),
        ),
    ):
        out = tmp_path / name
        done = CliRunner().invoke(app, ["scorecard", str(tmp_path / "part"), *options, "--out", str(out)])
        assert (done.exit_code, stat.S_IMODE(out.stat().st_mode)) == (0, 0o600)
        assert f"{scorecard.pdo:g} points double the odds" in done.stdout
        expected = cards(parts, scorecard)["card"]
        if out.suffix == ".csv":
            with out.open(newline="", encoding="utf-8") as file:
                base, *rows = csv.DictReader(file)
            assert float(base["points"]) == expected.base_points
            assert [(row["column"], float(row["points"])) for row in rows] == [
                (term.column, term.points) for term in expected.terms
            ]
        else:
            written = json.loads(out.read_text())
            assert written["scorecard"] == scorecard.model_dump()
            assert [Card.model_validate_json(json.dumps(one)) for one in written["cards"]] == [expected]


def test_the_command_reads_an_exported_model_and_says_what_is_wrong(tmp_path: Path) -> None:
    """A file has the scorecard of its job."""
    part, arrays = parts_of(whiten=False, whole=True, scorecard=OTHER)["bank"]
    path = tmp_path / "model.safetensors"
    write(of_part(part, arrays), path)
    done = CliRunner().invoke(app, ["scorecard", str(path), "--format", "json"])
    assert json.loads(done.stdout)["scorecard"]["pdo"] == 15
    assert [card["party"] for card in json.loads(done.stdout)["cards"]] == [*PARTIES]
    for options, words in (
        ((str(path), "--pdo", "-1"), "scorecard: pdo should be greater than 0"),
        ((str(path), "--out", str(tmp_path / "card.xls")), ".csv or .json"),
        ((str(tmp_path / "none"),), "give a model part's folder or an exported file"),
    ):
        done = CliRunner().invoke(app, ["scorecard", *options])
        assert done.exit_code == 3
        assert words in " ".join(done.stderr.split())
