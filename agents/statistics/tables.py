"""Lays a result out in rows of plain values, for people and for data frames."""

from collections.abc import Iterator
from typing import Any

from tercet.agents.statistics.result import OwnColumn, PartnerColumn, Power, StatisticsResult

Row = dict[str, Any]


def column_rows(result: StatisticsResult) -> list[Row]:
    """List all columns that this party knows of, what tells most of the label first.

    Each row has `party`, `number` (from 1), `column` (its name, where that is known), `bins`, the measures `iv`, `ks`
    and `gini`, or `explained` of a count or an amount, and `vif`. None stands for what this party was not told.
    """
    own = (_row(result.party, number, one.name, one) for number, one in enumerate(result.own, start=1))
    rows = [*own, *(_row(one.party, one.number, one.name, one) for one in result.partners)]
    return sorted(rows, key=lambda row: -(row["iv"] or row["explained"] or 0.0))


def _row(party: str, number: int, name: str | None, column: OwnColumn | PartnerColumn) -> Row:
    known = {"party": party, "number": number, "column": name, "bins": len(column.rows)}
    return known | (column.power or Power()).model_dump() | {"vif": column.vif}


def bin_rows(result: StatisticsResult, column: OwnColumn) -> list[Row]:
    """List the bins of one of this party's own columns.

    Each row has `column`, `bin`, `rows`, and where this party knows of the label: of two classes `events`, `rate` and
    `woe`; of more the rows of each class by its name, or by its number where the names are not known; of a count or an
    amount its `mean` and `deviation`.
    """
    sums = column.sums or (None,) * len(column.rows)
    woe = column.woe or (None,) * len(column.rows)
    return [
        {"column": column.name, "bin": label, "rows": rows} | _label_of(result, rows, cell, evidence)
        for label, rows, cell, evidence in zip(column.bins.labels, column.rows, sums, woe, strict=True)
    ]


def _label_of(result: StatisticsResult, rows: int, cell: tuple[float, ...] | None, woe: float | None) -> Row:
    if cell is None:
        return {}
    if woe is not None:
        return {"events": int(cell[0]), "rate": cell[0] / rows, "woe": woe}
    if result.counts_classes:
        counts = [rows - sum(cell), *cell]
        names = result.classes or [str(number) for number in range(1, len(counts) + 1)]
        return {name: int(count) for name, count in zip(names, counts, strict=True)}
    mean = cell[0] / rows
    return {"mean": mean, "deviation": max(0.0, cell[1] / rows - mean**2) ** 0.5}


def correlation_rows(result: StatisticsResult) -> Iterator[Row]:
    """Yield each pair of numeric columns whose correlation this party knows."""
    if result.correlations is None:
        return
    names = [(axis.party, axis.name or f"column {axis.number}") for axis in result.correlations.columns]
    for i, row in enumerate(result.correlations.matrix):
        for j in range(i + 1, len(names)):
            if row[j] is not None:
                yield {"first": "/".join(names[i]), "second": "/".join(names[j]), "correlation": row[j]}
