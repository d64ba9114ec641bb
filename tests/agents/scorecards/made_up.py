"""Two parties' made-up tables and parts of a logistic model, and how a person reads a scorecard."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tercet.agents.models.manifest import ModelPart
from tercet.agents.scorecards.card import Card
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Scorecard
from tercet.tables.binning.fit import Binning, fit_bins
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.numeric import NumericColumn
from tercet.tables.encoding.woe import BinnedWoe, WoeColumn
from tests.agents.models.test_model_part import part as part_with

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


def woe_of(table: Table) -> dict[str, BinnedWoe]:
    """Bins of a number and of a category, with evidence out of the air; the others stay as they are."""
    rng = np.random.default_rng(3)
    bins = {one.name: one for one in fit_bins([table], Binning(count=4, rare=20))}
    return {name: BinnedWoe(bins[name], tuple(rng.normal(size=bins[name].count))) for name in ("age", "sex")}


def parts_of(*, whiten: bool, woe: bool = False, whole: bool = False, scorecard: Scorecard | None = None) -> Parts:
    """Both parties' parts, with weights out of the air; with `whole` the bank's is the whole model."""
    rng = np.random.default_rng(5)
    tables = [table_of(party, 400, seed) for seed, party in enumerate(PARTIES)]
    encodings = [
        Encoding.fit(lambda: [one], clip=16.0, rare=20, whiten=whiten, woe=woe_of(one) if woe else {})  # noqa: B023
        for one in tables
    ]
    weights = [rng.normal(size=(len(encoding.names), 1)) for encoding in encodings]
    intercept = np.full((1, 1), -1.3)
    parts: Parts = {}
    for party, encoding, block in zip(PARTIES, encodings, weights, strict=True):
        release, plan = "label" if whole else "owners", {"fx": 16, "norms": [1e3, 1e3], "request": {"outputs": 1}}
        own = {"encoding": encoding, "columns": tuple(encoding.names), "scorecard": scorecard}
        arrays: dict[str, NDArray[Any]] = {"weights": block, "weight_words": block.view(np.uint64)}  # any words will do
        if party == "bank":
            arrays |= {"intercept": intercept, "intercept_words": intercept.view(np.uint64)}
        parts[party] = part_with(job="credit-0123abcd", party=party, release=release, plan=plan, **own), arrays
    if whole:
        part, arrays = parts["bank"]
        arrays |= {f"weights/{party}": block for party, block in zip(PARTIES, weights, strict=True)}
        parts["bank"] = part.model_copy(update={"encodings": {"card": encodings[1]}}), arrays
    return parts


def read_card(card: Card, encoding: Encoding, table: Table) -> Floats:
    """Add up a card's points for each row, as a person does it with a pencil: exact ones, (rows,)."""
    found = np.full(table.rows, card.base_points)
    for column in encoding.columns:
        points = {(term.kind, term.value): term.points for term in card.terms if term.column == column.name}
        other = next((one for (kind, _), one in points.items() if kind == "other"), math.nan)
        if isinstance(column, WoeColumn):
            labels = [*column.bins.labels, ""]
            found += [points.get(("bin", labels[place]), other) for place in column.bins.find_bins(table)]
            continue
        for row, value in enumerate({**table.numeric, **table.categorical}[column.name]):
            if value is None or (isinstance(value, float) and math.isnan(value)):
                found[row] += points["missing", "missing"]
            elif isinstance(column, NumericColumn):
                far = encoding.clip * column.scale
                number = min(max(value, column.mean - far), column.mean + far)
                found[row] += points["at zero", "at 0"] + number * points["per unit", "per unit"]
            else:
                found[row] += points.get(("category", value), other)
    return found
