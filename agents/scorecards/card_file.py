"""Reads a model's scorecards, and writes them as CSV for people and as JSON for programs.

A file is for this user only, since points are weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv
from pydantic import ValidationError

from tercet.agents.core.private_file import replace
from tercet.agents.models import full_model, model_part
from tercet.agents.models.full_model import FullModel
from tercet.agents.models.manifest import ModelPartProblem
from tercet.agents.models.scores_file import without_formulas
from tercet.agents.scorecards.card import Card, Cards, cards_of_model, cards_of_part
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import Scorecard
from tercet.schemas.files.mistakes import explain

BASE: Final = "base points"
ROWS: Final = pa.schema(
    {
        "party": pa.large_string(),
        "column": pa.large_string(),
        "kind": pa.large_string(),
        "value": pa.large_string(),
        "points": pa.float64(),
        "rounded": pa.int64(),
    }
)


def read_cards(place: Path, changes: Mapping[str, Any]) -> Cards:
    """Make the cards of a model part's folder, or of a file that `tercet export` wrote.

    Args:
        place: of the model.
        changes: fields of a scorecard that are to be other than the job says, or than the defaults if it says nothing.

    Raises:
        Invalid: there is no such model, it has no weights to show, or a field is wrong.
    """
    try:
        if place.is_dir():
            part, arrays = model_part.load(place)
            return cards_of_part(part, arrays, _change(part.scorecard, changes))
        return make_cards(full_model.read(place), changes)
    except ModelPartProblem as problem:
        raise Invalid(str(problem)) from None


def make_cards(model: FullModel, changes: Mapping[str, Any]) -> Cards:
    """Make all parties' cards of a whole model; `changes` as for `read_cards`.

    Raises:
        Invalid, ModelPartProblem: as `read_cards`.
    """
    return cards_of_model(model, _change(model.description.scorecard, changes))


def _change(scorecard: Scorecard | None, changes: Mapping[str, Any]) -> Scorecard:
    content = (scorecard or Scorecard()).model_dump() | dict(changes)
    try:
        return Scorecard.model_validate(content)
    except ValidationError as error:
        raise Invalid(explain("scorecard", error, Scorecard, content=content)) from None


def write_cards(cards: Cards, path: Path) -> None:
    """Write a file whose name ends in .csv or .json, for this user only.

    Raises:
        Invalid: the name ends otherwise, or the file cannot be written.
    """
    if path.suffix not in {".csv", ".json"}:
        raise Invalid(f"{path}: name the file .csv or .json")
    content = _to_csv(cards) if path.suffix == ".csv" else json.dumps(cards_json(cards), indent=2).encode() + b"\n"
    try:
        replace(path, content)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; name a file that you may write") from None


def cards_json(cards: Cards) -> dict[str, Any]:
    """Give the cards as plain values: the job, how points are made, and the cards."""
    return {
        "job": cards.job,
        "scorecard": cards.scorecard.model_dump(),
        "whole": cards.whole,
        "cards": [card.model_dump(mode="json") for card in cards.cards],
    }


def card_rows(cards: Cards) -> list[dict[str, Any]]:
    """List all cards' rows by the names of `ROWS`: each party's base, then its columns."""
    return [dict(zip(ROWS.names, row, strict=True)) for card in cards.cards for row in _rows_of(card)]


def _rows_of(card: Card) -> list[tuple[Any, ...]]:
    base = (card.party, "", "base", BASE, card.base_points, card.rounded_base)
    return [base, *((card.party, one.column, one.kind, one.value, one.points, one.rounded) for one in card.terms)]


def _to_csv(cards: Cards) -> bytes:
    table, file = pa.Table.from_pylist(card_rows(cards), ROWS), pa.BufferOutputStream()
    csv.write_csv(without_formulas(table), file)
    content: bytes = file.getvalue().to_pybytes()
    return content
