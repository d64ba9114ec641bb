"""Compares trainings: settings that differ, metrics, and AUC on the same rows.

It asks the party's own agent, and reads the files of held-out scores that are on this machine. It sends nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.job import SettingsOption
from tercet.agents.cli.own_agent import ask_or_recall
from tercet.agents.cli.runner import Format, FormatOption, checked
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.schemas.messages.kinds import JobStatus, Status

UNTOLD: Final = frozenset({"name", "again", "kind"})  # fields of a description that say which job it is
RESOLVED: Final = ("batch", "rate")  # of training: numbers in the place of "auto"
COUNTS: Final = ("rows", "held_out", "columns")
LOSSES: Final = ("loss", "held_out_loss")
NO_FILE: Final = "no file of held-out scores is here for both: write held_out_scores = true under [evaluation]"
OTHER_ROWS: Final = "other rows are held out: name a split under [evaluation] in both"
CANNOT_TELL: Final = "the rows cannot tell: too few, or in the same order under both"


def compare(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID ID ...", help="trainings' ids; each is compared to the first")
    ],
    settings: SettingsOption,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Compare trainings: settings that differ, metrics with intervals, AUC on the same rows."""
    jobs = [checked(_training, ask_or_recall(settings, job)[0]) for job in ids]
    found = compare_jobs(jobs)
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


def compare_jobs(jobs: Sequence[JobStatus]) -> dict[str, Any]:
    """Compare trainings; lists have one entry for each job, in order.

    Returns `jobs`, their `states`, `settings` that differ by name, `counts`, `metrics` by name, each with `value` and
    `interval`, `losses`, and `differences` of AUC to the first job: `difference`, `interval`, `p`, or `why` not.
    """
    metrics = dict.fromkeys(name for job in jobs for name in job.metrics)
    return {
        "jobs": [job.job for job in jobs],
        "states": [job.state for job in jobs],
        "settings": dict(_differing([_settings(job) for job in jobs])),
        "counts": {name: [getattr(job, name) for job in jobs] for name in COUNTS},
        "metrics": {name: [_metric(job, name) for job in jobs] for name in metrics},
        "losses": {name: [getattr(job, name) for job in jobs] for name in LOSSES},
        "differences": [None, *(_difference(jobs[0], job) for job in jobs[1:])],
    }


def _settings(job: JobStatus) -> dict[str, Any]:
    """List a job's settings by dotted name."""
    if job.description is None:
        return {}
    described = job.description.model_dump(mode="json")
    found = dict(_flat({name: value for name, value in described.items() if name not in UNTOLD}))
    return found | {f"training.{name}": value for name in RESOLVED if (value := getattr(job, name)) is not None}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differing(settings: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    for name in dict.fromkeys(name for one in settings for name in one):
        values = [one.get(name) for one in settings]
        if len({json.dumps(value) for value in values}) > 1:
            yield name, values


def _metric(job: JobStatus, name: str) -> dict[str, Any]:
    interval = job.intervals.get(name)
    return {"value": job.metrics.get(name), "interval": None if interval is None else list(interval)}


def _difference(first: JobStatus, other: JobStatus) -> dict[str, Any]:
    """Compare AUC on the same held-out rows by DeLong, or say why that cannot be."""
    from tercet.agents.evaluation.intervals import compare_auc  # noqa: PLC0415 - numpy

    one, two = _held_out(first), _held_out(other)
    if one is None or two is None:
        return {"why": NO_FILE}
    if {id_: label for id_, (label, _) in one.items()} != {id_: label for id_, (label, _) in two.items()}:
        return {"why": OTHER_ROWS}
    found = compare_auc(*_columns(one, two))
    if found is None:
        return {"why": CANNOT_TELL}
    return {"difference": found.difference, "interval": list(found.interval), "p": found.p}


def _held_out(job: JobStatus) -> dict[str, tuple[float, float]] | None:
    """Read label and score of each held-out row by id; None where no such file is here."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    try:
        texts = csv.ConvertOptions(column_types={"id": pa.large_string()})
        table = csv.read_csv(Path(job.scores or ""), convert_options=texts)
    except (OSError, pa.ArrowException):
        return None
    if "probability" not in table.column_names:
        return None
    columns = (table[name].to_pylist() for name in ("id", "label", "score"))
    return {id_: (float(label), float(score)) for id_, label, score in zip(*columns, strict=True)}


def _columns(one: Mapping[str, tuple[float, float]], two: Mapping[str, tuple[float, float]]) -> tuple[Any, Any, Any]:
    """Give labels, centred, and both jobs' scores, of rows in one order."""
    import numpy as np  # noqa: PLC0415

    labels, first = np.array([one[id_] for id_ in one]).T
    return labels - 0.5, first, np.array([two[id_][1] for id_ in one])
