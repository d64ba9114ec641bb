"""Holds a report's data, and refuses data that this party's role could not have learned.

It holds numbers and names, and reads no table or key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tercet.agents.evaluation.metrics import Curves, Histogram
from tercet.agents.evaluation.stability import Stability
from tercet.agents.scorecards.card import Cards
from tercet.schemas.files.job import METRICS, Network, Release, link_of

LABEL_PARTY_ONLY = {
    "metrics", "intervals", "folds", "means", "deviations", "shortfall", "curves", "alone", "intercept",
    "predictions", "classes", "predicted", "moved",
}  # fmt: skip
LOSSES = {"losses", "held_out_losses"}
DATA_PARTY_ONLY = LOSSES | {"weights", "cards", "table_rows", "raw_columns", "preprocessing", "stability"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobCourse:
    """Holds one party's view of a job's course, whatever the job did.

    Empty or None fields are left out of the page.

    Attributes:
        when: the end of the job, with the time zone.
        version: of tercet.
        alignment: as the job has it: "helper", "ecdh" or "aligned".
        common_rows: in all tables; `rows`: trained on, counted or scored; `held_out`: the others.
        columns: encoded columns of each data party.
        preprocessing, planning: warnings.
        stage_seconds: of each stage; `round_seconds`: spent waiting for messages of each round.
        sent_messages, sent_bytes: by kind of message.
        steps: taken; `seconds_per_step`: the mean; `processor_seconds`: of the whole process, while it worked.
    """

    job: str
    party: str
    label_party: str
    helper: str
    data_parties: tuple[str, ...]
    state: str
    when: datetime
    version: str
    alignment: str = ""
    common_rows: int | None = None
    rows: int | None = None
    held_out: int | None = None
    columns: Mapping[str, int] = field(default_factory=dict)
    preprocessing: tuple[str, ...] = ()
    planning: tuple[str, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    round_seconds: Mapping[str, float] = field(default_factory=dict)
    sent_messages: Mapping[str, int] = field(default_factory=dict)
    sent_bytes: Mapping[str, int] = field(default_factory=dict)
    steps: int | None = None
    seconds_per_step: float | None = None
    processor_seconds: float | None = None

    @property
    def role(self) -> Literal["label party", "data party", "helper"]:
        """This party's role."""
        if self.party == self.helper:
            return "helper"
        return "label party" if self.party == self.label_party else "data party"

    @property
    def others(self) -> list[str]:
        """The other data parties."""
        return [party for party in self.data_parties if party != self.party]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData(JobCourse):
    """Holds one party's view of a training or a prediction.

    Attributes:
        kind: "training" or "prediction".
        model: as the job has it; `network`: its layers, if it has such.
        release: of the model, "owners", "shared" or "label".
        helper_sees: of a training's scores, or of those that a prediction tells: "nothing" or "scores".
        of: the training job whose model a prediction applies.
        failure: why the job failed; `detail`: what only this party may read about it.
        table_rows: of this party's table; `raw_columns`: columns of it that were used.
        losses: mean training loss of each epoch that this party was told; `held_out_losses`: mean loss of the held-out
            rows after each epoch, likewise.
        metrics: of held-out rows, by epoch (from 0) and name.
        intervals: of metrics of the model that was kept, by name: low and high.
        folds: metrics of each fold by the model of the others' rows; `means` and `deviations` of these.
        best_epoch: whose model was kept, from 0, where the job could stop early; `epochs`: as many as the job allows.
        shortfall: why the model that was kept is no better than a constant, if it is not.
        curves: of held-out rows under the model that was kept.
        alone: metrics of the same held-out rows under a model of this party's own columns alone.
        weights: of this party's own encoded columns, or of all where it holds the whole model, by name; one for each
            class where there are several.
        cards: those of the weights as points.
        classes: what the outputs stand for, where there is one for each class.
        predictions: how the predictions are spread; of classes, how probable the most probable one is.
        predicted: rows by predicted class.
        moved: how far scores are from those of the held-out rows of the training; `stability`: each own column from the
            rows that were trained on.
        scored: when held-out rows were scored, "end" or "epoch"; empty if never.
        loss_to: who was told losses of epochs, "label" or "all"; empty if nobody was. `opened_losses`: which.
        fx, f: fractional bits of features, and of activation and label.
        notes: the planner's.

    Raises:
        ValueError: there is something that this party's role cannot know.
    """

    kind: Literal["training", "prediction"]
    model: str
    release: Release
    helper_sees: Literal["nothing", "scores"] = "scores"
    network: Network | None = None
    of: str = ""
    failure: str = ""
    detail: str = ""
    table_rows: int | None = None
    raw_columns: int | None = None
    losses: tuple[float, ...] = ()
    held_out_losses: tuple[float, ...] = ()
    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    folds: tuple[Mapping[str, float], ...] = ()
    means: Mapping[str, float] = field(default_factory=dict)
    deviations: Mapping[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    shortfall: str = ""
    epochs: int | None = None
    curves: Curves | None = None
    alone: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    intercept: float | None = None
    cards: Cards | None = None
    classes: tuple[str, ...] = ()
    predictions: Histogram | None = None
    predicted: Mapping[str, int] = field(default_factory=dict)
    moved: Stability | None = None
    stability: tuple[Stability, ...] = ()
    scored: Literal["", "end", "epoch"] = ""
    loss_to: Literal["", "label", "all"] = ""
    opened_losses: tuple[Literal["training", "held-out"], ...] = ("training",)
    fx: int | None = None
    f: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self._unknowable():
            if getattr(self, name) not in (None, (), {}, ""):
                raise ValueError(f"the report of {self.party} has {name}, which a {self.role} of this job cannot know")

    def _unknowable(self) -> set[str]:
        fields: set[str] = set()
        if self.role != "label party":
            fields |= LABEL_PARTY_ONLY if self.loss_to == "all" else LABEL_PARTY_ONLY | LOSSES
        if self.role == "helper":
            fields |= DATA_PARTY_ONLY
        unheld = self.release == "shared" or (self.release == "label" and self.role != "label party")
        return fields | {"weights", "intercept", "cards"} if unheld else fields

    @property
    def link(self) -> str:
        """The link between score and label."""
        return link_of(self.model, self.network)

    @property
    def result(self) -> dict[str, float]:
        """The metrics of the model that was kept, in their usual order."""
        found = self.metrics.get(-1 if self.best_epoch is None else self.best_epoch)
        if found is None:
            found = self.metrics[max(self.metrics)] if self.metrics else {}
        return {name: found[name] for name in METRICS.get(self.link, {}) if name in found}
