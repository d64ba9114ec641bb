"""One party's report of one job, as a page that needs nothing but itself: no script, no font, no other address.

It shows what its own party may know, and is for that party alone. It takes plain numbers and names, has no access to
tables, keys or other parties, and refuses what this party's role could not have learned.
"""

import math
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
from schemas.job import METRICS, Network

TOP_WEIGHTS = 20  # drawn as bars; the others are in the table
SPACE, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"

NAMES = {
    "auc": "AUC",
    "ks": "KS",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "log_loss": "Log-loss",
    "calibration_error": "Calibration error",
    "r2": f"R{chr(0xB2)}",
    "d2": f"D{chr(0xB2)}",
    "deviance": "Mean deviance",
    "rmse": "RMSE",
    "mae": "MAE",
}
# drawn together: all of them end at 1
BY_EPOCH = ("auc", "ks", "average_precision", "accuracy", "balanced_accuracy", "r2", "d2")
MOST_CONFUSED = 12  # classes, of which a matrix can be read
SCORE = {  # by link: what a score is
    "logistic": "the score (log-odds)",
    "linear": "the score",
    "softmax": "the score of a class; only how these differ among the classes counts",
    "poisson": "the score, which is the logarithm of the expected count",
    "gamma": "the score, which is the logarithm of the expected label",
}
SEEN = {  # by link: what of scores the helper sees, in secret order
    "logistic": "the sizes of the scores without sign",
    "linear": "the sizes of the scores without sign",
    "softmax": "whole rows of scores, whose classes stand in a secret order too, hence which rows share a likely class",
    "poisson": "the scores with their signs",
    "gamma": "the scores with their signs",
}
SEEN_IN_TRAINING = SEEN | {"gamma": "the scores less the logarithms of their labels"}

LABEL_PARTY_ONLY = {"metrics", "curves", "alone", "intercept", "predictions", "classes", "predicted"}
DATA_PARTY_ONLY = {"losses", "weights", "table_rows", "raw_columns", "preprocessing"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData:
    """What one party knows of one job. Whatever is empty or None is left out of the page.

    Attributes:
        kind: "training" or "prediction".
        model: as the job has it; `network`: its layers, if it has such.
        release: of the model, "owners" or "shared".
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
        weights: of this party's own encoded columns, by name; one for each class where there are several.
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
    release: Literal["owners", "shared"]
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
        return fields | {"weights", "intercept"} if self.release == "shared" else fields

    @property
    def role(self) -> Literal["label party", "data party", "helper"]:
        """Of this party."""
        if self.party == self.helper:
            return "helper"
        return "label party" if self.party == self.label_party else "data party"

    @property
    def link(self) -> str:
        """What lies between score and label."""
        return self.model if self.network is None else self.network.output

    @property
    def sort(self) -> str:
        """The model in words."""
        if self.network is None:
            return f"{self.model} regression"
        layers = listed([str(width) for width in self.network.hidden])
        return f"neural network with {layers} hidden {self.network.activation} units and a {self.link} output"

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
        tiles=[(NAMES[name], value, _meaning(name, data)) for name, value in data.result.items()],
        by_epoch=_by_epoch(data),
        quality=charts.quality(data.curves, data.result) if data.curves else [],
        deciles=_deciles(data.curves) if data.curves else [],
        confused=_confused(data),
        most_confused=MOST_CONFUSED,
        predictions=_predictions(data),
        score=SCORE.get(data.link, "the score"),
        seen=(SEEN_IN_TRAINING if data.kind == "training" else SEEN).get(data.link, "scores"),
        seen_held_out=SEEN.get(data.link, "scores"),
        comparison=_comparison(data),
        weights=sorted(data.weights.items(), key=lambda item: (-abs(item[1]), item[0])),
        top=TOP_WEIGHTS,
    )
    return page + "\n"


def number(value: float) -> str:
    """As people write it: 0.759, 12.3, 1,234."""
    if abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    elif abs(value) >= 0.01 or value == 0:
        text = f"{value:.3f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", MINUS)


def weight(value: float) -> str:
    """With its sign: +0.1234."""
    return (f"{value:+.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:+.1e}").replace("-", MINUS)


def signed(value: float) -> str:
    """A difference: +0.057."""
    return ("+" if value > 0 else "") + number(value)


def percent(share: float) -> str:
    """22.1 %."""
    return f"{100 * share:.1f}{SPACE}%"


def seconds(value: float) -> str:
    """420 ms, 3.2 s, 2 min 5 s, 1 h 2 min."""
    if value < 0.9995:
        return f"{1000 * value:.{1 if value < 0.00995 else 0}f}{SPACE}ms"
    if value < 59.95:
        return f"{value:.1f}{SPACE}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    return f"{minutes // 60:,}{SPACE}h {minutes % 60}{SPACE}min"


def size(count: int) -> str:
    """512 B, 1.2 kB, 148 MB: powers of 1000."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.{1 if value < 9.95 and units[0] != 'B' else 0}f}{SPACE}{units[0]}"


def listed(names: list[str]) -> str:
    """One, one and two, or one, two and three."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _private(data: ReportData) -> list[str]:
    """What of this page its party should keep to itself."""
    found = {
        "how good the model is": data.metrics or data.curves,
        "the training loss": data.losses and data.loss_to == "label",
        "how the scores are spread": data.predictions,
        "the names of the label's classes": data.classes,
        f"the weights of the columns of {data.party}": data.weights,
        f"what the table of {data.party} is like": data.table_rows or data.raw_columns or data.preprocessing,
        "the detail of the failure": data.detail,
    }
    return [text for text, there in found.items() if there]


def _meaning(name: str, data: ReportData) -> str:
    """What to compare a metric with."""
    compared: dict[str, str] = {}
    shares = _shares(data.curves)
    if len(shares) > 1:
        entropy = -sum(share * math.log(share) for share in shares)
        compared = {
            "average_precision": f"by chance {number(shares[-1])}",
            "accuracy": f"the most frequent class alone: {number(max(shares))}",
            "balanced_accuracy": f"mean share of a class that is found; by chance {number(1 / len(shares))}",
            "log_loss": f"the shares of the classes alone: {number(entropy)}",
        }
    if name in compared:
        return compared[name]
    return {
        "auc": f"{'mean of each class against the rest; ' * (data.link == 'softmax')}by chance 0.5, at best 1",
        "ks": "positives found less false alarms, at their widest",
        "calibration_error": "predicted and observed share of a decile, mean distance",
        "r2": "share of the variance that is explained",
        "d2": "share of the deviance that is explained",
        "deviance": f"mean unit deviance of a {data.link} distribution",
        "rmse": "root mean squared error, in the label's units",
        "mae": "mean absolute error, in the label's units",
    }.get(name, "")


def _shares(curves: Curves | None) -> list[float]:
    """Of the rows, by class that occurs; of two classes the positive one comes last."""
    if curves is None:
        return []
    if curves.confusion is not None:
        rows = curves.confusion.sum(axis=1)
        return [float(share) for share in rows[rows > 0] / rows.sum()]
    share = curves.prevalence
    return [1 - share, share] if share is not None and 0 < share < 1 else []


def _confused(data: ReportData) -> list[dict[str, Any]]:
    """Class by class: rows, how many of them are found, how often it is rightly predicted, and what it is taken for."""
    counts = None if data.curves is None else data.curves.confusion
    if counts is None:
        return []
    actual, predicted = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    names = data.classes or tuple(f"class {place + 1}" for place in range(len(counts)))
    return [
        {
            "name": name,
            "rows": int(actual[place]),
            "recall": counts[place, place] / actual[place] if actual[place] else None,
            "precision": counts[place, place] / predicted[place] if predicted[place] else None,
            "taken": [(int(count), count / max(actual[place], 1)) for count in counts[place].tolist()],
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
