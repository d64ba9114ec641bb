"""Tells other parties what the arithmetic does not: names of columns, and the label's unit.

Names leave only where this party's policy lets them.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tercet.agents.core.problems import JobProblem
from tercet.agents.statistics.own_columns import OwnColumns
from tercet.agents.statistics.own_targets import OwnTargets
from tercet.agents.statistics.result import Axis, CorrelationMap
from tercet.agents.statistics.terms import StatisticsContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.statistics.data_party import decode_correlations
from tercet.mpc.statistics.measures import inflation_factors
from tercet.schemas.messages.kinds import ColumnNames, LabelUnit

MOST_CHARACTERS = 256  # of a column's name

Names = Mapping[str, tuple[str | None, ...]]
"""By party what each of its columns is called; None where that is not told."""
Products = Mapping[tuple[int, int], Words]


async def exchange_names(context: StatisticsContext, columns: OwnColumns) -> Names:
    """Tell names to those who are told of columns, and hear theirs.

    Raises:
        JobProblem: a party's names are not those of its columns.
    """
    mail, deadline = context.mailbox, context.deadline("release")
    all_hear = context.plan.correlations == "pairs"
    for party in context.partners:
        if party == context.label or all_hear:
            await mail.send(_names_for(context, columns, party), [party], deadline)
    senders = context.partners if context.is_label_party or all_hear else ()
    letters = await mail.receive(ColumnNames, senders, deadline)
    own = {context.me: tuple(one.name for one in columns.bins)}
    return own | {party: _read_names(context, party, letter) for party, letter in letters.items()}


def _names_for(context: StatisticsContext, columns: OwnColumns, party: str) -> ColumnNames:
    """Name all columns to the label party, to another those that are correlated.

    Without the policy's word none is named.
    """
    named = {one.column for one in columns.standards} if party != context.label else set(range(len(columns.bins)))
    if not context.settings.policy.column_names:
        named = set()
    names = [one.name[:MOST_CHARACTERS] if place in named else None for place, one in enumerate(columns.bins)]
    return ColumnNames(names=json.dumps(names).encode())


def _read_names(context: StatisticsContext, party: str, letter: ColumnNames) -> tuple[str | None, ...]:
    try:
        names = json.loads(letter.names)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or len(names) != len(context.counts[party].bins) or not all(map(_is_name, names)):
        reason = f"{party} told {context.me} names that are not those of its columns; do both run the same version?"
        raise JobProblem("message.malformed", party, reason)
    return tuple(names)


def _is_name(name: Any) -> bool:
    return name is None or (isinstance(name, str) and 0 < len(name) <= MOST_CHARACTERS)


async def announce_unit(context: StatisticsContext, targets: OwnTargets | None) -> int:
    """Return by which power of two the label was divided; owners of known sums hear it."""
    mail, deadline, plan = context.mailbox, context.deadline("release"), context.plan
    exponent = 0 if targets is None else targets.exponent
    if not plan.woe or plan.classes:
        return exponent
    if context.is_label_party:
        await mail.send(LabelUnit(exponent=exponent), context.partners, deadline)
        return exponent
    return (await mail.receive(LabelUnit, [context.label], deadline))[context.label].exponent


def map_correlations(context: StatisticsContext, products: Products, names: Names) -> CorrelationMap | None:
    """Make the map of the correlations that this party knows; None where the job asks for none."""
    if context.plan.correlations == "none":
        return None
    axes, matrix = _join(context, products)

    def name(party: str, place: int) -> str | None:
        return names[party][place] if party in names else None

    return CorrelationMap(
        columns=tuple(Axis(party=party, number=place + 1, name=name(party, place)) for party, place in axes),
        matrix=tuple(tuple(None if np.isnan(one) else float(one) for one in row) for row in matrix),
    )


def inflation_of(context: StatisticsContext, products: Products) -> dict[int, Floats]:
    """Compute the variance inflation of all numeric columns at the label party, by party number."""
    axes, matrix = _join(context, products)
    parties = context.description.data_parties
    factors = inflation_factors(matrix, context.plan.fx) if axes else np.zeros(0)
    owners = np.array([parties.index(party) for party, _ in axes], np.int64)
    return {number: factors[owners == number] for number in range(len(parties))}


def _join(context: StatisticsContext, products: Products) -> tuple[list[tuple[str, int]], Floats]:
    """Join products to one matrix, NaN where nothing is known.

    Its axes are parties and places of columns.
    """
    parties, counts = context.description.data_parties, context.plan.correlated
    seen = sorted({number for pair in products for number in pair})
    axes = [(parties[i], place) for i in seen for place in context.counts[parties[i]].numeric]
    starts = dict(zip(seen, np.cumsum([0, *(counts[i] for i in seen)]).tolist(), strict=False))
    matrix = np.full((len(axes), len(axes)), np.nan)
    for (i, j), words in products.items():
        rows, columns = slice(starts[i], starts[i] + counts[i]), slice(starts[j], starts[j] + counts[j])
        block = decode_correlations(context.plan, words)
        matrix[rows, columns], matrix[columns, rows] = block, block.T
    np.fill_diagonal(matrix, np.where(np.isnan(matrix.diagonal()), 1.0, matrix.diagonal()))
    return axes, matrix
