"""Compares results of trainings, and shows the comparison in a notebook.

Names and settings may be a partner's words: they are escaped.
"""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from tercet.agents.api.result import Result
from tercet.agents.evaluation.comparison import compare_jobs, held_out_of, rows_of
from tercet.schemas.core.visible import escape_invisible
from tercet.schemas.files.invalid import Invalid

STYLE: Final = 'style="text-align:left;min-width:9em"'  # notebooks align to the right


class Comparison:
    """Holds trainings side by side, as `tercet compare` does; it shows itself in a notebook.

    Attributes:
        jobs: the ids, in order. All other lists have an entry for each.
        settings: those that differ, by name.
        metrics: lists by name of `value` and `interval`.
        differences: of AUC to the first job on the same held-out rows, by DeLong: `difference`, `interval` and `p`, or
            `why` there is none; None for the first.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        """`found` comes from `compare_jobs`."""
        self.jobs: list[str] = found["jobs"]
        self.settings: dict[str, list[Any]] = found["settings"]
        self.metrics: dict[str, list[dict[str, Any]]] = found["metrics"]
        self.differences: list[dict[str, Any] | None] = found["differences"]
        self._rows = [["", *self.jobs], *([name, *cells] for name, cells in rows_of(found))]

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td {STYLE}>{_in_html(cell)}</td>" for cell in row) for row in self._rows)
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def __repr__(self) -> str:
        rows = [[", ".join(map(escape_invisible, cell.split("\n"))) for cell in row] for row in self._rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        padded = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join("  ".join(row).rstrip() for row in padded)


def _in_html(cell: str) -> str:
    return "<br>".join(escape(escape_invisible(line)) for line in cell.split("\n"))


def compare(*results: Result) -> Comparison:
    """Compare trainings, each to the first: settings that differ, metrics, AUC on the same rows.

    The last needs jobs of the same `split` that ask for `held_out_scores`.

    Raises:
        Invalid: there is no result, or one is of a prediction.
    """
    for result in results:
        if result.status.kind != "training":
            raise Invalid(f"{result.job} is a prediction; compare trainings")
    if not results:
        raise Invalid("compare: give the results of trainings")
    held_out = [None if result.scores is None else held_out_of(result.scores) for result in results]
    return Comparison(compare_jobs([result.status for result in results], held_out))
