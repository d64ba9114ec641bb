"""Gathers a finished job's data, and writes its page into the state folder.

It adds nothing that the party does not know: a partner's page has no metric, a helper's page no column.
"""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tercet.agents.core.private_file import replace
from tercet.agents.core.report_files import report_file
from tercet.agents.core.states import State
from tercet.agents.evaluation.metrics import class_probabilities, curves, expected, histogram, probabilities
from tercet.agents.models import model_part
from tercet.agents.models.model_part import INTERCEPT, Arrays
from tercet.agents.models.plain_weights import ARROW, blocks_of, class_names, plain_intercept, weights_by_party
from tercet.agents.policy.disclosures import revelations
from tercet.agents.reports.report import ReportData, render
from tercet.agents.reports.statistics import StatisticsReport, render_statistics
from tercet.agents.roles.data_party import Trained
from tercet.agents.roles.helper import Helped
from tercet.agents.roles.prediction import Scored
from tercet.agents.scorecards.card import cards_of_part
from tercet.agents.session.agreed import AgreedContext, ScoringContext, TrainingContext
from tercet.agents.session.context import JobContext
from tercet.agents.statistics.data_party import Counting
from tercet.agents.statistics.helper import Dealing
from tercet.agents.statistics.result import read_statistics, statistics_file
from tercet.mpc.arithmetic.fixed import Floats

Result = Trained | Scored | Helped
Counted = Counting | Dealing


async def try_write_report(context: JobContext, result: object, folder: Path | None) -> Path | None:
    """Write a finished job's page if the settings ask for it; a failure does not harm the job."""
    if not isinstance(result, Result | Counted) or not context.settings.report:
        return None
    try:
        return await context.compute(write_report, result, folder)
    except OSError as error:
        context.log.warning("no report could be written", why=error.strerror)
    except Exception:
        context.log.exception("an error of our own in the report")
    return None


def write_report(result: Result | Counted, folder: Path | None) -> Path:
    """Write a finished job's page for this user only; `folder` holds its model part.

    Raises:
        OSError: the disk cannot be written.
        Invalid: the file of a statistics job cannot be read.
    """
    context = result.context
    if isinstance(result, Counted):
        page = render_statistics(statistics_report(result))
    else:
        page = render(report_data(result, folder))
    path = report_file(context.settings.state, context.job.id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(path, page.encode())
    return path


def report_data(result: Result, folder: Path | None) -> ReportData:
    """Collect the data of this party's report."""
    context = result.context
    of_kind = _training(context) if isinstance(context, TrainingContext) else _prediction(context)
    return ReportData(**(_common(context) | of_kind | _of_result(result, folder)))


def statistics_report(counted: Counted) -> StatisticsReport:
    """Collect the data of this party's report of a statistics job.

    Raises:
        Invalid: its file cannot be read.
    """
    context = counted.context
    path = statistics_file(context.settings.state, context.job.id)
    return StatisticsReport(
        **_common(context),
        result=read_statistics(path) if isinstance(counted, Counting) else None,
        learnt=revelations(context.description, context.findings.facts),
    )


def _common(context: AgreedContext) -> dict[str, Any]:
    job, statistics, terms, sent = context.description, context.statistics, context.terms, context.mailbox.sent
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
        "preprocessing": tuple(context.findings.notes),
        "planning": context.findings.warnings,
        "stage_seconds": statistics.stage_seconds,
        "round_seconds": context.mailbox.waited_seconds,
        "sent_messages": {kind: count.messages for kind, count in sent.items()},
        "sent_bytes": {kind: count.bytes for kind, count in sent.items()},
        "steps": statistics.step,
        "seconds_per_step": statistics.seconds_per_step,
        "processor_seconds": statistics.processor_seconds,
    }


def _training(context: TrainingContext) -> dict[str, Any]:
    job, plan = context.description, context.plan
    scored = job.evaluation.metrics if job.scorings else ""
    opened = {"training": job.evaluation.loss, "held-out": job.evaluation.held_out_loss}
    return {
        "notes": plan.notes,
        "fx": plan.fx,
        "f": plan.f,
        "model": job.model,
        "network": job.network,
        "release": job.release,
        "helper_sees": "nothing" if job.is_blind else "scores",
        "epochs": job.training.epochs,
        "losses": tuple(context.history.losses),
        "held_out_losses": tuple(context.history.held_out_losses),
        "best_epoch": context.history.best_epoch,
        "scored": scored,
        "opened_losses": tuple(name for name, asked in opened.items() if asked),
        "loss_to": job.evaluation.loss_to if any(opened.values()) else "",
    }


def _prediction(context: ScoringContext) -> dict[str, Any]:
    scoring = context.scoring
    helped = scoring.release != "owners" or scoring.network is not None  # else each party scores its own columns
    sees = "scores" if helped and not scoring.blind else "nothing"
    return {
        "model": scoring.model,
        "network": scoring.network,
        "release": scoring.release,
        "helper_sees": sees,
        "of": context.description.of,
    }


def _of_result(result: Result, folder: Path | None) -> dict[str, Any]:
    match result:
        case Trained():
            return _of_training(result, folder)
        case Scored(part=part, scores=scores):
            own = {
                "table_rows": result.context.statistics.table_rows,
                "raw_columns": len(part.encoding.kinds),
                "stability": result.columns,
                "moved": result.moved,
            }
            spread = {} if scores is None else _describe_predictions(part, scores)
            return {"model": part.model, "network": part.network, **own, **spread}
        case Helped():
            return {}


def _describe_predictions(part: model_part.ModelPart, scores: Floats) -> dict[str, Any]:
    """Describe the spread of predictions."""
    if part.classes is not None:
        names, rows = part.classes.names, np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]).tolist()
        spread = class_probabilities(part.link, scores).max(axis=1)
        named = {"classes": names, "predicted": dict(zip(names, rows, strict=True))}
        return named | {"predictions": histogram(spread)}
    match part.link:
        case "logistic":
            return {"predictions": histogram(probabilities(scores[:, 0]))}
        case "linear":
            return {"predictions": histogram(scores[:, 0])}
    return {"predictions": histogram(expected(scores[:, 0]))}


def _of_training(trained: Trained, folder: Path | None) -> dict[str, Any]:
    context, labels, history = trained.context, trained.labels, trained.context.history
    known: dict[str, Any] = {
        "table_rows": context.statistics.table_rows,
        "raw_columns": len(trained.encoding.kinds),
    }
    release = context.description.release
    if folder is not None and (release == "owners" or (release == "label" and context.is_label_party)):
        part, arrays = model_part.load(folder)
        known |= _weights(part, arrays) | _cards(part, arrays)
    if labels is None:
        return known
    if labels.classes is not None:
        known["classes"] = labels.classes.names
    known |= {"metrics": history.metrics, "intervals": history.intervals, "shortfall": history.shortfall}
    if history.folds:
        known |= {"folds": tuple(history.folds), "means": history.final_metrics, "deviations": history.deviations}
    if history.scores is not None and history.labels is not None:
        known["curves"] = curves(labels.link, history.labels, history.scores)
        from tercet.agents.reports.solo_baseline import alone  # noqa: PLC0415 - scikit-learn and scipy

        known["alone"] = alone(trained, labels)
    return known


def _cards(part: model_part.ModelPart, arrays: Arrays) -> dict[str, Any]:
    """Collect the points of the same columns, where the job has a scorecard.

    A network is no sum over columns, and has none.
    """
    if part.scorecard is None or part.network is not None:
        return {}
    return {"cards": cards_of_part(part, arrays, part.scorecard)}


def _weights(part: model_part.ModelPart, arrays: Arrays) -> dict[str, Any]:
    """Collect this party's weights by encoded column, or all parties' of a whole model.

    Names of the latter have their party before them.
    """
    blocks = blocks_of(part, arrays)
    # Only the label party knows the names of the outputs.
    outputs = class_names(part.classes, part.outputs)
    named = weights_by_party(blocks, outputs, network=part.network is not None)
    weights = {f"{party}/{name}" if part.whole else name: one for party in named for name, one in named[party].items()}
    if part.network is not None or INTERCEPT not in arrays:
        return {"weights": weights}
    found = plain_intercept(blocks, arrays[INTERCEPT])
    scaling = part.label_scaling
    # A logarithm is of the label as it is in the table, as scores and predictions are.
    intercepts = (scaling.restore(found) if scaling is not None and scaling.log else found).tolist()
    if part.outputs == 1:
        return {"weights": weights, "intercept": intercepts[0]}
    by_output = zip(outputs, intercepts, strict=True)
    return {"weights": weights | {f"intercept {ARROW} {output}": one for output, one in by_output}}
