"""Shows trainings side by side: settings that differ, metrics, and AUC on the same rows.

It asks the party's own agent, and reads the files of held-out scores that are on this machine. It sends nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.job import SettingsOption
from tercet.agents.cli.own_agent import ask_or_recall
from tercet.agents.cli.runner import Format, FormatOption, checked
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.evaluation.comparison import HeldOut
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
    if format is Format.JSON:
        rendering.print_json(found)
    else:
        rendering.out.print(rendering.comparison_table(found))


def _training(status: Status) -> JobStatus:
    if status.problem is not None:
        raise Invalid(status.problem)
    if status.jobs[0].kind != "training":
        raise Invalid(f"{status.jobs[0].job} is a prediction; compare trainings")
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
