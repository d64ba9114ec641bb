"""Compares trainings: settings that differ, metrics, and AUC on the same held-out rows.

It reads no file and asks nobody.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from tercet.agents.evaluation.intervals import compare_auc
from tercet.schemas.messages.kinds import JobStatus

UNTOLD: Final = frozenset({"name", "again", "kind"})  # fields of a description that say which job it is
RESOLVED: Final = ("batch", "rate")  # of training: numbers in the place of "auto"
COUNTS: Final = {"rows": "rows", "held_out": "held out", "columns": "own columns"}  # and how they are called
LOSSES: Final = ("loss", "held_out_loss")
NO_SCORES: Final = "no held-out scores are here for both: write held_out_scores = true under [evaluation]"
OTHER_ROWS: Final = "other rows are held out: name a split under [evaluation] in both"
CANNOT_TELL: Final = "the rows cannot tell: too few, or in the same order under both"

HeldOut = Mapping[str, tuple[float, float]]  # label and score of each held-out row, by id


def compare_jobs(jobs: Sequence[JobStatus], held_out: Sequence[HeldOut | None]) -> dict[str, Any]:
    """Compare trainings; lists have one entry for each job, in order, as `held_out` has.

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
        "differences": [None, *(_difference(held_out[0], other) for other in held_out[1:])],
    }


def held_out_of(scores: Any) -> HeldOut | None:
    """Read label and score of each held-out row by id, from a table of pyarrow.

    None of one without scores of two classes.
    """
    if not {"id", "label", "score", "probability"} <= {*scores.column_names}:
        return None
    columns = (scores[name].to_pylist() for name in ("id", "label", "score"))
    return {id_: (float(label), float(score)) for id_, label, score in zip(*columns, strict=True)}


def rows_of(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Write a comparison as a table: a name, and a cell of one line or several for each job."""
    rows: list[tuple[str, list[str]]] = [("state", found["states"])]
    rows += [(name, list(map(_setting, values))) for name, values in found["settings"].items()]
    rows += [(COUNTS[name], [f"{count:,}" for count in counts]) for name, counts in found["counts"].items()]
    for name, values in found["metrics"].items():
        rows.append(
            (name, ["" if one["value"] is None else _in_lines(one["value"], one["interval"]) for one in values])
        )
    for name, losses in found["losses"].items():
        if any(loss is not None for loss in losses):
            rows.append((name.replace("_", " "), ["" if loss is None else f"{loss:.4f}" for loss in losses]))
    rows.append(("auc less the first's", ["", *map(_difference_text, found["differences"][1:])]))
    return rows


def _in_lines(value: float, interval: Sequence[float] | None) -> str:
    """Write a metric with its interval below it, so that several fit beside one another."""
    return f"{value:.4f}" + ("" if interval is None else f"\n{interval[0]:.3f} to {interval[1]:.3f}")


def _setting(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return value if isinstance(value, str) else json.dumps(value)


def _difference_text(found: Mapping[str, Any]) -> str:
    if "why" in found:
        return f"{found['why']}"
    return f"{_in_lines(found['difference'], found['interval'])}\np = {found['p']:.3g}"


def _settings(job: JobStatus) -> dict[str, Any]:
    """List a job's settings by dotted name."""
    if job.description is None:
        return {}
    described = job.description.model_dump(mode="json")
    described["columns"] = dict(described.get("columns") or ())  # by party
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


def _difference(one: HeldOut | None, two: HeldOut | None) -> dict[str, Any]:
    """Compare AUC on the same held-out rows by DeLong, or say why that cannot be."""
    if one is None or two is None:
        return {"why": NO_SCORES}
    if {id_: label for id_, (label, _) in one.items()} != {id_: label for id_, (label, _) in two.items()}:
        return {"why": OTHER_ROWS}
    labels, first = np.array(list(one.values())).T
    found = compare_auc(labels - 0.5, first, np.array([two[id_][1] for id_ in one]))
    if found is None:
        return {"why": CANNOT_TELL}
    return {"difference": found.difference, "interval": list(found.interval), "p": found.p}
