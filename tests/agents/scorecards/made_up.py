"""Two parties' made-up tables and parts of a logistic model, and how a person reads a scorecard."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tercet.agents.models.manifest import ModelPart
from tercet.agents.scorecards.card import Card
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Scorecard
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding

PARTIES: Final = ("bank", "card")
Parts = dict[str, tuple[ModelPart, dict[str, NDArray[Any]]]]


def table_of(name: str, rows: int, seed: int, *, news: bool = False) -> Table:
    """A number with gaps, one without, a category with gaps and rare levels, one without; `news` of the unseen."""
    rng = np.random.default_rng(seed)
    gaps = rng.random((2, rows)) < 0.1
    homes = rng.choice(["owner", "tenant", "lodger", "boat"], rows, p=[0.5, 0.3, 0.18, 0.02]).astype(np.object_)
    homes[gaps[1]] = None
    sexes = rng.choice(["f", "m"], rows).astype(np.object_)
    if news:
        homes[:3], sexes[:4] = ["castle", "cave", None], ["x", None, "x", None]
    return Table(
        name=name,
        rows=rows,
        columns=("age", "income", "home", "sex", "always"),
        numeric={
            "age": np.where(gaps[0], np.nan, rng.normal(40, 9, rows)),
            "income": np.exp(rng.normal(8, 0.4, rows)),
            "always": np.full(rows, 3.0),
        },
        categorical={"home": homes, "sex": sexes},
    )


def parts_of(*, whiten: bool, whole: bool = False, scorecard: Scorecard | None = None) -> Parts:
    """Both parties' parts, with weights out of the air; with `whole` the bank's is the whole model."""
    rng = np.random.default_rng(5)
    tables = [table_of(party, 400, seed) for seed, party in enumerate(PARTIES)]
    encodings = [Encoding.fit(lambda one=one: [one], clip=16.0, rare=20, whiten=whiten) for one in tables]  # type: ignore[misc]
    weights = [rng.normal(size=(len(encoding.names), 1)) for encoding in encodings]
    intercept = np.full((1, 1), -1.3)
    parts: Parts = {}
    for party, encoding, block in zip(PARTIES, encodings, weights, strict=True):
        fields = {
            "job": "credit-0123abcd", "run": "1", "model": "logistic", "party": party, "label_party": "bank",
            "parties": PARTIES, "release": "label" if whole else "owners", "encoding": encoding,
            "columns": tuple(encoding.names), "plan": {"fx": 16, "norms": [1e3, 1e3], "request": {"outputs": 1}},
            "steps": 3, "alpha": 1.0, "score_exponent": 4, "intercept_holder": "bank", "scorecard": scorecard,
            "created": datetime(2026, 1, 2, tzinfo=UTC), "tercet": "0.1.0",
        }  # fmt: skip
        arrays: dict[str, NDArray[Any]] = {"weights": block, "weight_words": block.view(np.uint64)}  # any words will do
        if party == "bank":
            arrays |= {"intercept": intercept, "intercept_words": intercept.view(np.uint64)}
        parts[party] = ModelPart.model_validate(fields), arrays
    if whole:
        part, arrays = parts["bank"]
        arrays |= {f"weights/{party}": block for party, block in zip(PARTIES, weights, strict=True)}
        parts["bank"] = part.model_copy(update={"encodings": {"card": encodings[1]}}), arrays
    return parts


def read_card(card: Card, columns: Mapping[str, NDArray[Any]], clip: Mapping[str, tuple[float, float]]) -> Floats:
    """Add up a card's points for each row, as a person does it with a pencil: exact ones, (rows,).

    `clip` are the least and most of each number.
    """
    rows = len(next(iter(columns.values())))
    found = np.full(rows, card.base_points)
    for name, values in columns.items():
        points = {(term.kind, term.value): term.points for term in card.terms if term.column == name}
        for row, value in enumerate(values):
            if value is None or (isinstance(value, float) and math.isnan(value)):
                found[row] += points["missing", "missing"]
            elif isinstance(value, str):
                other = next(one for (kind, _), one in points.items() if kind == "other")
                found[row] += points.get(("category", value), other)
            else:
                number = min(max(value, clip[name][0]), clip[name][1])
                found[row] += points["at zero", "at 0"] + number * points["per unit", "per unit"]
    return found


def clips(encoding: Encoding) -> dict[str, tuple[float, float]]:
    """Where each number of an encoding ends."""
    return {
        column.name: (column.mean - encoding.clip * column.scale, column.mean + encoding.clip * column.scale)
        for column in encoding.columns
        if column.kind == "numeric"
    }
