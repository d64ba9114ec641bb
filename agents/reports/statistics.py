"""Renders one party's report of one statistics job as a page that needs no other file.

The page shows the party's own result, and is for that party alone. The helper has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from math import inf
from typing import Any

from tercet.agents.policy.disclosures import Revelation
from tercet.agents.reports import charts
from tercet.agents.reports.charts import Chart
from tercet.agents.reports.report import template
from tercet.agents.reports.report_data import JobCourse
from tercet.agents.reports.wording import LABELS, MEASURES
from tercet.agents.statistics.result import CorrelationMap, OwnColumn, StatisticsResult
from tercet.agents.statistics.tables import bin_rows, column_rows, correlation_rows
from tercet.schemas.core.visible import escape_invisible
from tercet.tables.binning.bins import NumericBins

MOST_CHARTS = 6  # own columns with a chart; all have a table
MOST_CORRELATED = 16  # columns of a map that can still be read
MOST_PAIRS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StatisticsReport(JobCourse):
    """Holds one party's view of a statistics job.

    Attributes:
        result: as its file has it; None at the helper.
        learnt: who learns what by the job.

    Raises:
        ValueError: the result is another party's, or the helper has one.
    """

    kind: str = "statistics"
    result: StatisticsResult | None = None
    learnt: tuple[Revelation, ...] = ()

    def __post_init__(self) -> None:
        if self.result is not None and (self.role == "helper" or self.result.party != self.party):
            raise ValueError(f"the report of {self.party} has statistics, which a {self.role} cannot know")


def render_statistics(report: StatisticsReport) -> str:
    """Render the page in about a second, so use a thread.

    The same result gives the same text.
    """
    result = report.result
    columns = [] if result is None else column_rows(result)
    page = template("statistics").render(
        d=report,
        others=report.others,
        when=f"{report.when.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        columns=columns,
        labels=LABELS,
        measures=[(name, title) for name, title in MEASURES.items() if any(row[name] is not None for row in columns)],
        bins=[] if result is None else [(one.name, bin_rows(result, one)) for one in _by_power(result)],
        pictured=[] if result is None else list(_draw(result)),
        correlated=None if result is None or result.correlations is None else _choose(result.correlations),
        pairs=[] if result is None else _strongest(result),
        most_pairs=MOST_PAIRS,
        inf=inf,
    )
    # At the end, so that no name can hide or reorder the text beside it.
    return escape_invisible(page, keep="\n") + "\n"


def _power(column: OwnColumn) -> float:
    return 0.0 if column.power is None else column.power.iv or column.power.explained or 0.0


def _by_power(result: StatisticsResult) -> list[OwnColumn]:
    return sorted(result.own, key=lambda one: -_power(one))


def _draw(result: StatisticsResult) -> Iterator[Chart]:
    """Draw the own numeric columns that tell most.

    A category's levels are names, which the page writes itself.
    """
    known = [one for one in _by_power(result) if one.sums is not None and one.bins.kind == "numeric"]
    for place, column in enumerate(known[:MOST_CHARTS]):
        name = "woe" if column.woe is not None else "mean"
        rows = bin_rows(result, column)
        if len(rows) > 1 and name in rows[0] and isinstance(column.bins, NumericBins):
            values = [row[name] for row in rows]
            yield charts.by_bin(column.name, column.bins.cuts, values, number=place, evidence=name == "woe")


def _choose(found: CorrelationMap) -> tuple[list[str], list[list[float | None]], int]:
    """Choose the columns that go most closely with another.

    Returns their names, their map, and how many are left out.
    """
    strength = [
        max((abs(value) for j, value in enumerate(row) if value is not None and j != i), default=0.0)
        for i, row in enumerate(found.matrix)
    ]
    chosen = sorted(sorted(range(len(strength)), key=lambda place: -strength[place])[:MOST_CORRELATED])
    names = [f"{axis.party}/{axis.name or f'column {axis.number}'}" for axis in found.columns]
    matrix = [[found.matrix[i][j] for j in chosen] for i in chosen]
    return [names[place] for place in chosen], matrix, len(strength) - len(chosen)


def _strongest(result: StatisticsResult) -> list[dict[str, Any]]:
    return sorted(correlation_rows(result), key=lambda row: -abs(row["correlation"]))[:MOST_PAIRS]
