"""Makes one party's result from what was opened to it: bins, weights of evidence, measures.

It computes from whole sums alone; nothing of a row is here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tercet.agents.statistics.disclosing import Names
from tercet.agents.statistics.monotone import make_monotone
from tercet.agents.statistics.own_columns import OwnColumns
from tercet.agents.statistics.own_targets import OwnTargets
from tercet.agents.statistics.power import power_of
from tercet.agents.statistics.result import CorrelationMap, OwnColumn, PartnerColumn, StatisticsResult, Sums
from tercet.agents.statistics.terms import StatisticsContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Signed
from tercet.mpc.statistics import measures
from tercet.mpc.statistics.data_party import decode_sums
from tercet.mpc.statistics.merging import Groups, merge_bins
from tercet.mpc.statistics.opening import OwnCells, PartnerCells
from tercet.mpc.statistics.plan import StatisticsPlan
from tercet.schemas.files.statistics import CountedRows


class Learnt(NamedTuple):
    """Holds what a party was told.

    Attributes:
        own: cells of its own columns.
        partners: at the label party those of the others', by party number.
        names: of columns.
        exponent: by which power of two a count or an amount was divided.
        correlations: as far as it knows them.
        factors: variance inflation of numeric columns, by party number.
    """

    own: Sequence[OwnCells]
    partners: Mapping[int, PartnerCells]
    names: Names
    exponent: int
    correlations: CorrelationMap | None
    factors: Mapping[int, Floats]


def make_result(
    context: StatisticsContext, columns: OwnColumns, targets: OwnTargets | None, learnt: Learnt
) -> StatisticsResult:
    """Put together what this party has learnt."""
    job, parties = context.description, context.description.data_parties
    own = tuple(_own_column(context, columns, place, learnt) for place in range(len(columns.bins)))
    table = context.settings.tables[job.table_of(context.me)]
    if table.monotone:
        own = tuple(map(make_monotone, own))
    return StatisticsResult(
        job=context.job.id,
        run=context.job.run.hex(),
        party=context.me,
        label_party=job.label,
        counted=CountedRows(
            tables=job.tables,
            label_column=table.label if context.is_label_party else None,
            evaluation=job.evaluation,
        ),
        rows=context.terms.rows,
        held_out=context.terms.held_out,
        label=job.model,
        classes=() if targets is None else targets.names,
        own=own,
        partners=tuple(
            _partner_column(context, parties[number], place, cells, learnt)
            for number, opened in sorted(learnt.partners.items())
            for place, cells in enumerate(opened)
        ),
        correlations=learnt.correlations,
    )


def _own_column(context: StatisticsContext, columns: OwnColumns, place: int, learnt: Learnt) -> OwnColumn:
    cells, bins = learnt.own[place], columns.bins[place]
    if context.is_label_party:
        cells = _merged(context.plan, cells, columns.ordered[place])
    vif = _factor(context, context.me, place, learnt)
    if not cells.groups:  # no bin has enough rows, and nothing is told
        rows = np.bincount(columns.indexes[:, place], minlength=bins.count)
        return OwnColumn(bins=bins, rows=tuple(rows.tolist()), vif=vif)
    merged = bins.merged(grouped(cells.groups))
    if cells.sums is None:
        return OwnColumn(bins=merged, rows=tuple(cells.rows.tolist()), vif=vif)
    sums = _sums(context.plan, cells.sums, learnt.exponent)
    return OwnColumn(
        bins=merged,
        rows=tuple(cells.rows.tolist()),
        sums=_plain(sums),
        woe=_evidence(context.plan, cells.rows, sums),
        power=power_of(context.plan.classes, cells.rows, sums),
        vif=vif,
    )


def _merged(plan: StatisticsPlan, cells: OwnCells, ordered: int) -> OwnCells:
    """Merge the label party's own small bins as those of others are.

    So each has a weight of evidence.
    """
    rows, sums = cells.rows, np.zeros((0, plan.targets), np.int64) if cells.sums is None else cells.sums
    least = np.column_stack([rows - sums.sum(axis=1), sums]).min(axis=1) if plan.classes else rows
    groups = merge_bins(least >= plan.least, rows, ordered)
    made = np.zeros((max(groups, default=-1) + 1, 1 + sums.shape[1]), np.int64)
    if groups:
        np.add.at(made, np.array(groups), np.column_stack([rows, sums]))
    return OwnCells(groups, made[:, 0], made[:, 1:])


def _partner_column(context: StatisticsContext, party: str, place: int, cells: Signed, learnt: Learnt) -> PartnerColumn:
    name, vif = learnt.names[party][place], _factor(context, party, place, learnt)
    known = PartnerColumn(party=party, number=place + 1, name=name, vif=vif)
    if not len(cells):
        return known
    rows, sums = cells[:, 0], _sums(context.plan, cells[:, 1:], learnt.exponent)
    opened = {"rows": tuple(rows.tolist()), "sums": _plain(sums), "power": power_of(context.plan.classes, rows, sums)}
    return known.model_copy(update=opened)


def _factor(context: StatisticsContext, party: str, place: int, learnt: Learnt) -> float | None:
    numeric, factors = context.counts[party].numeric, learnt.factors.get(context.number(party))
    if factors is None or place not in numeric:
        return None
    factor = float(factors[numeric.index(place)])
    return factor if factor > 0 else None


def grouped(groups: Groups) -> list[list[int]]:
    """List for each opened cell the bins that are part of it."""
    return [[bin_ for bin_, cell in enumerate(groups) if cell == each] for each in range(max(groups) + 1)]


def _sums(plan: StatisticsPlan, sums: Signed, exponent: int) -> Floats:
    """Decode sums, (cells, targets), in the label's own unit."""
    found = decode_sums(plan, sums)
    return found if plan.classes else np.ldexp(found, np.array([exponent, 2 * exponent]))


def _plain(sums: Floats) -> Sums:
    return tuple(tuple(map(float, cell)) for cell in sums)


def _evidence(plan: StatisticsPlan, rows: Signed, sums: Floats) -> tuple[float, ...] | None:
    """Compute the WOE of each bin, where there are two classes."""
    if plan.classes != 2:
        return None
    return tuple(measures.weights_of_evidence(sums[:, 0], rows - sums[:, 0]).tolist())
