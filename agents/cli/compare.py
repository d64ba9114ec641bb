"""Shows results: trainings side by side, and a statistics job's columns and bins.

It asks the party's own agent, and reads the files of results that are on this machine. It sends nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.job import JobId, SettingsOption
from tercet.agents.cli.own_agent import ask_or_recall
from tercet.agents.cli.runner import Format, FormatOption, checked, settings_of, show
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.evaluation.comparison import HeldOut
    from tercet.agents.statistics.result import OwnColumn, StatisticsResult
    from tercet.schemas.messages.kinds import JobStatus, Status


def compare(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID ID ...", help="trainings' ids; each is compared to the first")
    ],
    settings: SettingsOption,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Compare trainings: settings that differ, metrics with intervals, AUC on the same rows."""
    from tercet.agents.evaluation.comparison import compare_jobs  # noqa: PLC0415 - numpy

    jobs = [checked(_training, ask_or_recall(settings, job)[0]) for job in ids]
    found = compare_jobs(jobs, [_held_out(job) for job in jobs])
    show(format, found, rendering.comparison_table)


def statistics(
    job: JobId,
    settings: SettingsOption,
    column: Annotated[str | None, typer.Option(help="one of your own columns, whose bins are shown")] = None,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Show what a statistics job has told: columns by information value, or one column's bins."""
    from tercet.agents.statistics.result import read_statistics, statistics_file  # noqa: PLC0415 - numpy
    from tercet.agents.statistics.tables import bin_rows, column_rows  # noqa: PLC0415

    result = checked(read_statistics, statistics_file(settings_of(settings).state, job))
    if column is None:
        rows = column_rows(result)
    else:
        chosen = checked(_own_column, result, column)
        rows = bin_rows(result, chosen)
    show(format, result if column is None else rows, lambda _: rendering.row_table(job, rows))


def _own_column(result: StatisticsResult, name: str) -> OwnColumn:
    found = {column.name: column for column in result.own}
    if name not in found:
        raise Invalid(f"{name!r} is no column of {result.party} in {result.job}; there are {', '.join(found)}")
    return found[name]


def _training(status: Status) -> JobStatus:
    if status.problem is not None:
        raise Invalid(status.problem)
    if status.jobs[0].kind != "training":
        raise Invalid(f"{status.jobs[0].job} is no training; compare trainings")
    return status.jobs[0]


def _held_out(job: JobStatus) -> HeldOut | None:
    """Read the file of held-out scores; None where no such file is here."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    from tercet.agents.evaluation.comparison import held_out_of  # noqa: PLC0415 - numpy

    try:
        texts = csv.ConvertOptions(column_types={"id": pa.large_string()})
        return held_out_of(csv.read_csv(Path(job.scores or ""), convert_options=texts))
    except (OSError, pa.ArrowException):
        return None
