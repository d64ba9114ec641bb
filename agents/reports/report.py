"""Renders one party's report of one job as a page that needs no other file.

The page is for its own party alone. `report_data` refuses what that party may not know.
"""

from collections.abc import Mapping
from datetime import UTC
from functools import cache, partial
from typing import Any

import numpy as np
from jinja2 import Template

from tercet.agents.core.templates import template_environment
from tercet.agents.evaluation.metrics import OF_CLASSES, Curves
from tercet.agents.reports import charts
from tercet.agents.reports.charts import Chart
from tercet.agents.reports.report_data import ReportData
from tercet.agents.reports.wording import (
    NAMES,
    NORMS,
    SCORE,
    listed,
    meaning,
    number,
    percent,
    seconds,
    seen,
    signed,
    size,
    sort_of,
    weight,
)
from tercet.schemas.core.visible import escape_invisible
from tercet.schemas.files.job import METRICS

__all__ = ["ReportData", "render"]

TOP_WEIGHTS = 20  # that the page draws as bars; the table has the others
# metrics that share a chart, since all of them end at 1
BY_EPOCH = ("auc", "ks", "average_precision", "accuracy", "balanced_accuracy", "r2", "d2")
MOST_CONFUSED = 12  # classes; a larger matrix cannot be read


@cache
def template(name: str) -> Template:
    """Compile a page's template once, in a tenth of a second."""
    environment = template_environment("reports", "", escape=True)
    environment.filters |= {
        "count": "{:,}".format,
        "number": number,
        "weight": weight,
        "signed": signed,
        "percent": percent,
        "seconds": seconds,
        "size": size,
        "listed": listed,
        "metric": lambda name: NAMES[name],
    }
    return environment.get_template(f"{name}.html.j2")


def render(data: ReportData) -> str:
    """Render the page in about a second, so use a thread; the same data give the same text."""
    page = template("report").render(
        d=data,
        others=data.others,
        private=_private(data),
        when=f"{data.when.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        sort=sort_of(data.model, data.network),
        tiles=[
            (NAMES[name], value, data.intervals.get(name), meaning(name, data.link, data.curves))
            for name, value in data.result.items()
        ],
        by_epoch=_by_epoch(data),
        quality=charts.quality(data.curves, data.result) if data.curves else [],
        deciles=_deciles(data.curves) if data.curves else [],
        confused=_confusion_rows(data),
        most_confused=MOST_CONFUSED,
        predictions=_predictions(data),
        score=SCORE.get(data.link, "the score") if data.network is None else NORMS,
        seen=seen(data.link, data.network, training=data.kind == "training"),
        seen_held_out=seen(data.link, data.network, training="held-out" in data.opened_losses),
        comparison=_comparison(data),
        with_columns=data.columns.get(data.label_party) != 0,
        over=_over(data),
        categories=any("=" in name for name in data.weights),
        weights=sorted(data.weights.items(), key=lambda item: (-abs(item[1]), item[0])),
        top=TOP_WEIGHTS,
        stability=sorted(data.stability, key=lambda one: (-one.psi, one.name)),
    )
    # At the end, so that no name can hide or reorder the text beside it.
    return escape_invisible(page, keep="\n") + "\n"


def _over(data: ReportData) -> str:
    """Name the parties whose columns a model uses, and the label party if it has no columns."""
    owners = [party for party in data.data_parties if data.columns.get(party) != 0]
    columns = f"the columns of {listed(owners)}"
    return columns if data.label_party in owners else f"{columns} and the label of {data.label_party}"


def _private(data: ReportData) -> list[str]:
    """List the parts of the page that its party should keep to itself."""
    found = {
        "how good the model is": data.metrics or data.folds or data.curves or data.shortfall,
        "the training loss": data.losses and data.loss_to == "label",
        "the loss of the held-out rows": data.held_out_losses and data.loss_to == "label",
        "how the scores are spread": data.predictions or data.moved,
        "the names of the label's classes": data.classes,
        f"the weights of the columns of {'all parties' if data.release == 'label' else data.party}": data.weights,
        f"what the table of {data.party} is like": data.table_rows
        or data.raw_columns
        or data.preprocessing
        or data.stability,
        "the detail of the failure": data.detail,
    }
    return [text for text, there in found.items() if there]


def _confusion_rows(data: ReportData) -> list[dict[str, Any]]:
    """Tabulate each class: rows, share found, precision, and confusions."""
    counts = None if data.curves is None else data.curves.confusion
    if counts is None:
        return []
    actual, predicted = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    matrix = counts if len(counts) <= MOST_CONFUSED else counts[:, :0]
    names = data.classes or tuple(f"class {place + 1}" for place in range(len(counts)))
    return [
        {
            "name": name,
            "rows": int(actual[place]),
            "recall": counts[place, place] / actual[place] if actual[place] else None,
            "precision": counts[place, place] / predicted[place] if predicted[place] else None,
            "taken": [(int(count), count / max(actual[place], 1)) for count in matrix[place].tolist()],
        }
        for place, name in enumerate(names)
    ]


def _predictions(data: ReportData) -> Chart | None:
    if data.predictions is None:
        return None
    return charts.predictions(data.predictions, shares=data.link in {"logistic", *OF_CLASSES})


def _by_epoch(data: ReportData) -> list[Chart]:
    history = partial(_history, data.metrics)
    made = []
    if max(len(data.losses), len(data.held_out_losses)) > 1:
        deviances = history("deviance").items()  # the loss is half the deviance
        held_out = {epoch: value / 2 for epoch, value in deviances}
        held_out = held_out or (history("log_loss") if data.link != "one-vs-rest" else {})  # whose loss is a sum
        held_out = dict(enumerate(data.held_out_losses)) or held_out
        made.append(charts.losses_by_epoch(data.losses, held_out, data.best_epoch, worthless=bool(data.shortfall)))
    series = {NAMES[name]: line for name in BY_EPOCH if len(line := history(name)) > 1}
    if series:
        made.append(charts.metrics_by_epoch(series, data.best_epoch))
    return made


def _history(metrics: Mapping[int, Mapping[str, float]], name: str) -> dict[int, float]:
    return {epoch: found[name] for epoch, found in metrics.items() if name in found}


def _deciles(curves: Curves) -> list[dict[str, Any]]:
    """Tabulate the gains table, the highest scores first."""
    if curves.calibration is None or curves.gain is None or curves.lift is None:
        return []
    return [
        {"predicted": predicted, "observed": observed, "rows": int(rows), "lift": lift, "found": found}
        for (predicted, observed, rows), lift, found in zip(
            np.asarray(curves.calibration)[::-1].tolist(),
            curves.lift.tolist(),
            curves.gain[1:, 1].tolist(),
            strict=True,
        )
    ]


def _comparison(data: ReportData) -> list[dict[str, Any]]:
    """Compare each metric of the joint model with a model of the label party's columns alone."""
    better = METRICS.get(data.link, {})
    return [
        {
            "name": NAMES[name],
            "joint": joint,
            "alone": data.alone[name],
            "difference": joint - data.alone[name],
            "verdict": _verdict(joint - data.alone[name], more_is_better=better[name]),
        }
        for name, joint in data.result.items()
        if name in data.alone
    ]


def _verdict(difference: float, *, more_is_better: bool) -> str:
    if difference == 0:
        return "the same"
    return "better" if (difference > 0) == more_is_better else "worse"
