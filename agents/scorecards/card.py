"""Makes scorecards from weights: what each value of a party's columns adds in points.

It sees weights and encodings that its party holds, no row, and tells nobody.

A category has its points, as on paper, and so has a bin of a column that is encoded by WOE. A number has points for
each unit of it, since the model is a line in it: a table by bins would be another model, whose points add up to no
score of this one. Who wants bins encodes by WOE.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tercet.agents.models.full_model import FullModel
from tercet.agents.models.manifest import INTERCEPT, Arrays, ModelPart, ModelPartProblem
from tercet.agents.models.plain_weights import Block, blocks_of, blocks_of_model
from tercet.agents.models.points import factor, offset
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.core.strict import Name, Strict
from tercet.schemas.files.job import Scorecard
from tercet.tables.binning.bins import UNSEEN
from tercet.tables.encoding.categorical import CategoricalColumn
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.numeric import NumericColumn
from tercet.tables.encoding.offset import Offset
from tercet.tables.encoding.woe import WoeColumn

PER_UNIT, AT_ZERO, MISSING, RARE, OTHER = "per unit", "at 0", "missing", "rare or any other", "any other"


class Term(Strict):
    """Gives the points of one value of a column.

    Attributes:
        kind: "category", "bin" and "missing" have their points; "other" are values that the training did not see.
            A number x has the points "at zero", and x times those "per unit".
        value: the category, the bin's label, or what the kind is called on paper.
        points: exact.
        rounded: to whole points; None for those of a number, which are rounded when they are added up.
    """

    column: str
    kind: Literal["category", "bin", "missing", "other", "at zero", "per unit"]
    value: str
    points: float
    rounded: int | None


class Card(Strict):
    """One party's scorecard.

    Attributes:
        party: whose columns they are.
        base_points: that every row has; at the label party with those of the intercept.
        rounded_base: to whole points.
        terms: column by column, in the table's order.
    """

    party: Name
    base_points: float
    rounded_base: int
    terms: tuple[Term, ...]

    @property
    def most_rounding(self) -> float:
        """The most that rounding each addend to a whole point moves this card's sum, in points."""
        return (1 + len({term.column for term in self.terms})) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Holds the cards that a party may see, and how their points were made.

    Attributes:
        job: whose model it is.
        whole: whether all parties' cards are here, so that their points add up to the score's.
    """

    job: str
    scorecard: Scorecard
    whole: bool
    cards: tuple[Card, ...]

    @property
    def rule(self) -> str:
        """Say in a sentence how points were made."""
        made = self.scorecard
        return (
            f"{made.pdo:g} points double the odds of good to bad, {made.base_points:g} points stand for odds of "
            f"{made.base_odds:g} to 1, and a label of 1 is {made.positives}"
        )


def cards_of_part(part: ModelPart, arrays: Arrays, scorecard: Scorecard) -> Cards:
    """Make the card of this party's columns, or all parties' cards of a whole model.

    Raises:
        ModelPartProblem: this party knows no weights, or they are not of log-odds alone.
    """
    _check_additive(part.job, part.model)
    if not (part.whole or part.release == "owners"):
        where = f"{part.label_party} has it" if part.release == "label" else 'train with release = "owners" or "label"'
        raise ModelPartProblem(f"{part.party}'s part of {part.job} has no weights to make a scorecard of; {where}")
    intercept = float(arrays[INTERCEPT][0, 0]) if INTERCEPT in arrays else None
    cards = _make_cards(blocks_of(part, arrays), _LabelTerms(part.label_party, intercept, part.offset), scorecard)
    return Cards(job=part.job, scorecard=scorecard, whole=part.whole, cards=cards)


def cards_of_model(model: FullModel, scorecard: Scorecard) -> Cards:
    """Make all parties' cards of a whole model.

    Raises:
        ModelPartProblem: it has no log-odds that are a sum of columns.
    """
    about = model.description
    _check_additive(about.job, about.model)
    own = _LabelTerms(about.label_party, float(model.biases[0][0, 0]), about.offset)
    cards = _make_cards(blocks_of_model(model), own, scorecard)
    return Cards(job=about.job, scorecard=scorecard, whole=True, cards=cards)


def _check_additive(job: str, model: str) -> None:
    if model != "logistic":
        raise ModelPartProblem(
            f"{job} is a {model} model, whose scores are no log-odds that columns add up to; a scorecard needs model = "
            f'"logistic"'
        )


class _LabelTerms(NamedTuple):
    """Holds what the label party's card has beside columns; the intercept is unknown to others."""

    party: str
    intercept: float | None
    offset: Offset | None


def _make_cards(blocks: Iterable[Block], label: _LabelTerms, scorecard: Scorecard) -> tuple[Card, ...]:
    unit, made = factor(scorecard), []
    for party, encoding, weights in blocks:
        plain, constant = encoding.unwhiten(weights[:, 0])
        card = _Party(encoding, plain * unit, constant * unit)
        if party == label.party and label.intercept is not None:
            card.base += offset(scorecard) + label.intercept * unit
        terms = [*card.terms()]
        if party == label.party and label.offset is not None:
            terms.append(_of_unit("per unit", label.offset.column, unit))
        made.append(Card(party=party, base_points=card.base, rounded_base=round(card.base), terms=tuple(terms)))
    return tuple(made)


class _Party:
    """Collects one party's terms and base.

    Args:
        encoding: of its columns.
        points: of one unit of each encoded column, before whitening.
        base: what whitening takes off every row.
    """

    def __init__(self, encoding: Encoding, points: Floats, base: float) -> None:
        self.base, self._encoding, self._points = base, encoding, points

    def terms(self) -> Iterator[Term]:
        """Make all terms; `base` is complete after the last."""
        start = 0
        for column in self._encoding.columns:
            block = [float(one) for one in self._points[start : start + len(column.names)]]
            start += len(block)
            match column:
                case NumericColumn():
                    yield from _of_number(column, block)
                case WoeColumn():
                    yield from _of_bins(column, column.encoded_bins(self._encoding.clip) * block[0])
                case CategoricalColumn():
                    yield from self._of_category(column, block)

    def _of_category(self, column: CategoricalColumn, points: list[float]) -> Iterator[Term]:
        """Make a column's points, relative to the mean of its values, as weights in reports are."""
        mean = sum(points) / len(points)
        self.base += mean
        known, rest = len(column.categories), iter(points[len(column.categories) :])
        for category, one in zip(column.categories, points[:known], strict=True):
            yield _term(column.name, "category", category, one - mean)
        yield _term(column.name, "missing", MISSING, (next(rest) if column.missing else 0.0) - mean)
        yield _term(column.name, "other", RARE if column.rare else OTHER, (next(rest) if column.rare else 0.0) - mean)


def _of_number(column: NumericColumn, points: list[float]) -> Iterator[Term]:
    per_unit = points[0] / column.scale if column.scale else 0.0
    yield _of_unit("at zero", column.name, -per_unit * column.mean)
    yield _of_unit("per unit", column.name, per_unit)
    yield _term(column.name, "missing", MISSING, points[1] if column.tells_missing else 0.0)


def _of_unit(kind: Literal["at zero", "per unit"], column: str, points: float) -> Term:
    return Term(column=column, kind=kind, value=AT_ZERO if kind == "at zero" else PER_UNIT, points=points, rounded=None)


def _of_bins(column: WoeColumn, points: Floats) -> Iterator[Term]:
    for label, one in zip((*column.bins.labels, UNSEEN), points.tolist(), strict=True):
        yield _term(column.name, "other" if label == UNSEEN else "bin", label, one)


def _term(column: str, kind: Literal["category", "bin", "missing", "other"], value: str, points: float) -> Term:
    return Term(column=column, kind=kind, value=value, points=points, rounded=round(points))
