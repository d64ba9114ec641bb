"""Gives a linear model's coefficients in the units of its raw columns, as in scikit-learn.

It needs the whole model, which a simulation has.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tercet.agents.models.full_model import FullModel
from tercet.agents.models.plain_weights import blocks_of_model
from tercet.mpc.arithmetic.fixed import Floats
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.numeric import NumericColumn
from tercet.tables.encoding.woe import WoeColumn


class Coefficients(NamedTuple):
    """Holds coefficients and intercept: scores are `X @ coef.T + intercept`.

    They are so where no number of X is clipped.

    Attributes:
        names: of the encoded columns, (columns,): a number's own, `column=category` of a category.
        coef: (outputs, columns).
        intercept: (outputs,).
    """

    names: tuple[str, ...]
    coef: Floats
    intercept: Floats


class _Term(NamedTuple):
    place: int  # of its raw column among those of X
    name: str
    weights: Floats  # (outputs,)


def plain_coefficients(model: FullModel, order: Sequence[tuple[str, str]]) -> Coefficients:
    """Compute the coefficients of a model without hidden layers.

    `order` has party and name of each raw column.
    """
    terms: list[_Term] = []
    intercept = model.biases[0][0]
    for party, encoding, weights in blocks_of_model(model):
        undone = [encoding.unwhiten(column) for column in weights.T]
        plain = np.column_stack([column for column, _ in undone])
        intercept = intercept + [more for _, more in undone]
        places = {column: place for place, (one, column) in enumerate(order) if one == party}
        for name, column_name, row, shift in _unscale(encoding, plain):
            terms.append(_Term(places[column_name], name, row))
            intercept = intercept - shift
    terms.sort(key=lambda term: term.place)
    coef = np.array([term.weights for term in terms]).reshape(len(terms), len(intercept)).T
    scaling = model.description.label_scaling
    if scaling is not None:
        coef, intercept = (coef if scaling.log else scaling.scale * coef), scaling.restore(intercept)
    return Coefficients(tuple(term.name for term in terms), coef, intercept)


def _unscale(encoding: Encoding, plain: Floats) -> Iterator[tuple[str, str, Floats, Floats]]:
    """Yield encoded columns: name, raw column, weights in its unit, their part of the intercept."""
    start = 0
    for column in encoding.columns:
        for place, name in enumerate(column.names):
            row = plain[start + place]
            if isinstance(column, NumericColumn | WoeColumn) and place == 0:
                row = row / column.scale if column.scale else 0 * row
                yield name, column.name, row, row * column.mean
            else:
                yield name, column.name, row, 0 * row
        start += len(column.names)
