"""From a finished job to its page: gathers what this party knows, and writes it into the state folder.

It adds nothing that the party was not told: the page of a partner has no metric, that of a helper no column.
"""

import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agents import model_part
from agents.alone import alone
from agents.context import JobContext
from agents.data_party import DataPartyRole
from agents.evaluate import curves, histogram
from agents.helper import HelperRole
from agents.prediction import PredictionRole
from agents.report import ReportData, render
from agents.states import State
from schemas.job import TrainingJob

AnyRole = DataPartyRole | PredictionRole | HelperRole


def write_report(context: JobContext, role: AnyRole, folder: Path | None) -> Path:
    """Write the page of a job that is done, readable for this user only; `folder` is where its model part is.

    Raises:
        OSError: the disk does not take it.
    """
    page = render(report_data(context, role, folder))
    place = context.settings.state / "reports"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{context.job.id}.html"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    return path


def report_data(context: JobContext, role: AnyRole, folder: Path | None) -> ReportData:
    """What this party knows of its job."""
    return ReportData(**_common(context), **_of_role(context, role, folder))


def _common(context: JobContext) -> dict[str, Any]:
    job, statistics, terms, sent = context.description, context.statistics, context.terms, context.mailbox.sent
    assert terms is not None
    plan = context.plan
    return {
        "job": context.job.id,
        "kind": job.kind,
        "party": context.me,
        "label_party": job.label,
        "helper": job.helper,
        "data_parties": job.data_parties,
        "state": State.DONE,
        "when": datetime.now(UTC),
        "version": version("tercet"),
        "alignment": job.alignment,
        "common_rows": terms.rows + terms.held_out,
        "rows": terms.rows,
        "held_out": terms.held_out,
        "columns": dict(zip(job.data_parties, terms.columns, strict=True)),
        "planning": () if plan is None else plan.warnings,
        "notes": () if plan is None else plan.notes,
        "fx": None if plan is None else plan.fx,
        "f": None if plan is None else plan.f,
        "stage_seconds": statistics.stage_seconds,
        "round_seconds": context.mailbox.waited,
        "sent_messages": {kind: tally.messages for kind, tally in sent.items()},
        "sent_bytes": {kind: tally.bytes for kind, tally in sent.items()},
        "steps": statistics.step,
        "seconds_per_step": statistics.seconds_per_step,
        "processor_seconds": statistics.processor_seconds,
        **(_training(context, job) if isinstance(job, TrainingJob) else _prediction(context, job.of)),
    }


def _training(context: JobContext, job: TrainingJob) -> dict[str, Any]:
    scored = job.evaluation.metrics if job.scorings else ""
    return {
        "model": job.model,
        "release": job.release,
        "epochs": job.training.epochs,
        "losses": tuple(context.history.losses),
        "best_epoch": context.history.best_epoch,
        "scored": scored,
        "loss_to": job.evaluation.loss_to if job.evaluation.loss else "",
    }


def _prediction(context: JobContext, of: str) -> dict[str, Any]:
    assert context.terms is not None
    assert context.terms.scoring is not None
    return {"model": context.terms.scoring.model, "release": context.terms.scoring.release, "of": of}


def _of_role(context: JobContext, role: AnyRole, folder: Path | None) -> dict[str, Any]:
    match role:
        case DataPartyRole():
            return _of_data_party(context, role, folder)
        case PredictionRole():
            own = {"table_rows": context.statistics.table_rows, "raw_columns": len(role.part.encoding.kinds)}
            return own | ({} if role.scores is None else {"predictions": histogram(_shown(role))})
        case HelperRole():
            return {}


def _shown(role: PredictionRole) -> Any:
    assert role.scores is not None
    logistic = role.part.model == "logistic"
    return 1 / (1 + np.exp(-np.clip(role.scores, -700, 700))) if logistic else role.scores


def _of_data_party(context: JobContext, role: DataPartyRole, folder: Path | None) -> dict[str, Any]:
    assert role.encoding is not None
    history = context.history
    known: dict[str, Any] = {
        "table_rows": context.statistics.table_rows,
        "raw_columns": len(role.encoding.kinds),
        "preprocessing": tuple(role.encoding.warnings),
    }
    if folder is not None and context.training.release == "owners":
        known |= _weights(folder)
    if context.leads:
        known["metrics"] = history.metrics
        if history.scores is not None and history.labels is not None:
            known["curves"] = curves(context.training.model, history.labels, history.scores)
            known["alone"] = alone(context, role)
    return known


def _weights(folder: Path) -> dict[str, Any]:
    """This party's own, by encoded column; where they were whitened, by the columns before that."""
    part, arrays = model_part.load(folder)
    weights, shift = part.encoding.unwhitened(arrays["weights"][:, 0])
    known: dict[str, Any] = {"weights": dict(zip(part.encoding.column_names, weights.tolist(), strict=True))}
    if "intercept" in arrays:
        known["intercept"] = float(arrays["intercept"][0, 0]) + shift
    return known
