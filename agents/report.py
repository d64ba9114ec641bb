"""One party's report of one job, as a page that needs nothing but itself: no script, no font, no other address.

It shows what its own party may know, and is for that party alone. It takes plain numbers and names, has no access to
tables, keys or other parties, and refuses what this party's role could not have learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from agents import charts
from agents.charts import Chart
from agents.evaluate import Curves, Histogram
from agents.report_words import (
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
from schemas.job import METRICS, Network, Release, link_of

TOP_WEIGHTS = 20  # drawn as bars; the others are in the table
# drawn together: all of them end at 1
BY_EPOCH = ("auc", "ks", "average_precision", "accuracy", "balanced_accuracy", "r2", "d2")
MOST_CONFUSED = 12  # classes, of which a matrix can be read
LABEL_PARTY_ONLY = {"metrics", "curves", "alone", "intercept", "predictions", "classes", "predicted"}
DATA_PARTY_ONLY = {"losses", "weights", "table_rows", "raw_columns", "preprocessing"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData:
    """What one party knows of one job. Whatever is empty or None is left out of the page.

    Attributes:
        kind: "training" or "prediction".
        model: as the job has it; `network`: its layers, if it has such.
        release: of the model, "owners", "shared" or "label".
        when: the end of the job, with its zone.
        version: of tercet.
        of: the training job whose model a prediction applies.
        failure: why the job is off; `detail`: more than other parties may read.
        alignment: as the job has it: "helper", "ecdh" or "aligned".
        table_rows: of this party's table; `raw_columns`: columns of it that were used.
        common_rows: in all tables; `rows`: trained on or scored; `held_out`: neither, but for metrics.
        columns: encoded columns of each data party.
        preprocessing, planning: warnings.
        losses: mean training loss of each epoch that this party was told.
        metrics: of held-out rows, by epoch (from 0) and name.
        best_epoch: whose model was kept, from 0, where the job could stop early; `epochs`: as many as the job allows.
        curves: of held-out rows under the model that was kept.
        alone: metrics of the same held-out rows under a model of this party's own columns alone.
        weights: of this party's own encoded columns, or of all where it holds the whole model, by name; one for each
            class where there are several.
        classes: what the outputs of a softmax stand for.
        predictions: how the predictions are spread; of classes, how probable the most probable one is.
        predicted: rows by predicted class.
        stage_seconds: of each stage; `round_seconds`: spent waiting for messages of each round.
        sent_messages, sent_bytes: by kind of message.
        steps: taken; `seconds_per_step`: the median; `processor_seconds`: of the whole process, while it worked.
        scored: when held-out rows were scored, "end" or "epoch"; empty if never.
        loss_to: who was told the training loss, "label" or "all"; empty if nobody was.
        fx, f: fractional bits of features, and of activation and label.
        notes: the planner's.

    Raises:
        ValueError: there is something that this party's role cannot know.
    """

    job: str
    kind: Literal["training", "prediction"]
    model: str
    party: str
    label_party: str
    helper: str
    data_parties: tuple[str, ...]
    release: Release
    state: str
    when: datetime
    version: str
    network: Network | None = None
    of: str = ""
    failure: str = ""
    detail: str = ""
    alignment: str = ""
    table_rows: int | None = None
    raw_columns: int | None = None
    common_rows: int | None = None
    rows: int | None = None
    held_out: int | None = None
    columns: Mapping[str, int] = field(default_factory=dict)
    preprocessing: tuple[str, ...] = ()
    planning: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()
    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs: int | None = None
    curves: Curves | None = None
    alone: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    intercept: float | None = None
    classes: tuple[str, ...] = ()
    predictions: Histogram | None = None
    predicted: Mapping[str, int] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    round_seconds: Mapping[str, float] = field(default_factory=dict)
    sent_messages: Mapping[str, int] = field(default_factory=dict)
    sent_bytes: Mapping[str, int] = field(default_factory=dict)
    steps: int | None = None
    seconds_per_step: float | None = None
    processor_seconds: float | None = None
    scored: Literal["", "end", "epoch"] = ""
    loss_to: Literal["", "label", "all"] = ""
    fx: int | None = None
    f: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self._unknowable():
            if getattr(self, name) not in (None, (), {}):
                raise ValueError(f"the report of {self.party} has {name}, which a {self.role} of this job cannot know")

    def _unknowable(self) -> set[str]:
        fields: set[str] = set()
        if self.role != "label party":
            fields |= LABEL_PARTY_ONLY if self.loss_to == "all" else LABEL_PARTY_ONLY | {"losses"}
        if self.role == "helper":
            fields |= DATA_PARTY_ONLY
        unheld = self.release == "shared" or (self.release == "label" and self.role != "label party")
        return fields | {"weights", "intercept"} if unheld else fields

    @property
    def role(self) -> Literal["label party", "data party", "helper"]:
        """Of this party."""
        if self.party == self.helper:
            return "helper"
        return "label party" if self.party == self.label_party else "data party"

    @property
    def link(self) -> str:
        """What lies between score and label."""
        return link_of(self.model, self.network)

    @property
    def result(self) -> dict[str, float]:
        """The metrics of the model that was kept, in their usual order."""
        found = self.metrics.get(-1 if self.best_epoch is None else self.best_epoch)
        if found is None:
            found = self.metrics[max(self.metrics)] if self.metrics else {}
        return {name: found[name] for name in METRICS.get(self.link, {}) if name in found}


def render(data: ReportData) -> str:
    """The page, in UTF-8 when written. The same data give the same text. Takes a second: not for an event loop."""
    environment = Environment(
        loader=PackageLoader("agents", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "number": number,
        "weight": weight,
        "signed": signed,
        "percent": percent,
        "seconds": seconds,
        "size": size,
        "listed": listed,
    }
    page = environment.get_template("report.html.j2").render(
        d=data,
        others=[party for party in data.data_parties if party != data.party],
        private=_private(data),
        when=f"{data.when.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        sort=sort_of(data.model, data.network),
        tiles=[(NAMES[name], value, meaning(name, data.link, data.curves)) for name, value in data.result.items()],
        by_epoch=_by_epoch(data),
        quality=charts.quality(data.curves, data.result) if data.curves else [],
        deciles=_deciles(data.curves) if data.curves else [],
        confused=_confused(data),
        most_confused=MOST_CONFUSED,
        predictions=_predictions(data),
        score=SCORE.get(data.link, "the score") if data.network is None else NORMS,
        seen=seen(data.link, data.network, training=data.kind == "training"),
        seen_held_out=seen(data.link, data.network, training=False),
        comparison=_comparison(data),
        weights=sorted(data.weights.items(), key=lambda item: (-abs(item[1]), item[0])),
        top=TOP_WEIGHTS,
    )
    return page + "\n"


def _private(data: ReportData) -> list[str]:
    """What of this page its party should keep to itself."""
    found = {
        "how good the model is": data.metrics or data.curves,
        "the training loss": data.losses and data.loss_to == "label",
        "how the scores are spread": data.predictions,
        "the names of the label's classes": data.classes,
        f"the weights of the columns of {'all parties' if data.release == 'label' else data.party}": data.weights,
        f"what the table of {data.party} is like": data.table_rows or data.raw_columns or data.preprocessing,
        "the detail of the failure": data.detail,
    }
    return [text for text, there in found.items() if there]


def _confused(data: ReportData) -> list[dict[str, Any]]:
    """Class by class: rows, how many of them are found, how often it is rightly predicted, and what it is taken for."""
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
    return charts.predictions(data.predictions, shares=data.link in {"logistic", "softmax"})


def _by_epoch(data: ReportData) -> list[Chart]:
    history = partial(_history, data.metrics)
    drawn = []
    if len(data.losses) > 1:
        deviances = history("deviance").items()  # the loss is half of it
        held_out = history("log_loss") or {epoch: value / 2 for epoch, value in deviances}
        drawn.append(charts.training_loss(data.losses, held_out, data.best_epoch))
    series = {NAMES[name]: line for name in BY_EPOCH if len(line := history(name)) > 1}
    if series:
        drawn.append(charts.metrics_by_epoch(series, data.best_epoch))
    return drawn


def _history(metrics: Mapping[int, Mapping[str, float]], name: str) -> dict[int, float]:
    return {epoch: found[name] for epoch, found in metrics.items() if name in found}


def _deciles(curves: Curves) -> list[dict[str, Any]]:
    """The rows of the gains table, the highest scores first."""
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
    """Metric by metric, the joint model beside the label party's own columns alone."""
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
