"""Describes a job as a person writes it, and in the canonical form that all sign.

A description names tables and parties; it never carries a seed, a path, a column's content or a key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tercet.schemas.core.strict import JobId, Strict
from tercet.schemas.files.description import (
    MAX_PARTIES,
    MAX_STANDBY,
    ColumnName,
    JobDescription,
    NamedColumns,
    OmitUnset,
    canonical_digest,
    check_columns,
)
from tercet.schemas.files.evaluation import Evaluation
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.statistics import LabelModel, StatisticsJob
from tercet.schemas.files.toml import MOST_BYTES, parse_toml

__all__ = [
    "MAX_PARTIES",
    "MAX_STANDBY",
    "METRICS",
    "AnyJob",
    "ColumnName",
    "EarlyStopping",
    "Evaluation",
    "JobDescription",
    "ModelKind",
    "Network",
    "OmitUnset",
    "PredictionJob",
    "Privacy",
    "Release",
    "StatisticsJob",
    "Training",
    "TrainingJob",
    "canonical_digest",
    "parse_job",
    "read_job",
    "read_toml",
]

N = TypeVar("N")
Either = Annotated[  # a number, or "auto"; tagged, so that an error speaks of what was meant
    Annotated[N, Tag("number")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda value: "auto" if isinstance(value, str) else "number"),
]


class Training(OmitUnset):
    """Says how long and how fast to train; what is not said fits most tables.

    Attributes:
        epochs: how often all rows are used; a job without a word on them has `usual_epochs`.
        batch: rows of a step; "auto" is a sixteenth of those that are trained on, from 32 to 512, or more of many.
        rate: of the first step; "auto" follows from the model and the number of data parties.
        schedule: how the rate falls; "linear" is the default where the rate is "auto", else "constant".
        decay: of "inverse-time" and "exponential", for each step.
        final: of "linear": what is left of the rate at the last step.
        weights: a column of the label party: how often a row counts in loss and model. Its settings list it under
            `weights`.
        class_weights: of logistic and one-vs-rest models: how often rows of each class count, by its name; "balanced":
            so that all classes count as much.
    """

    added = frozenset({"final", "weights", "class_weights"})

    epochs: int = Field(default=30, ge=1, le=100_000)
    batch: Either[Annotated[int, Field(ge=1, le=2**24)]] = "auto"
    rate: Either[Annotated[float, Field(gt=0)]] = "auto"
    schedule: Literal["constant", "inverse-time", "exponential", "linear"] = "constant"
    decay: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0, lt=1)
    final: float = Field(default=0.1, gt=0, le=1)
    weights: ColumnName | None = None
    class_weights: Literal["balanced"] | tuple[tuple[ColumnName, Annotated[float, Field(gt=0)]], ...] | None = None

    def of_steps(self) -> dict[str, Any]:
        """Return everything that says how long and how fast to train, as plain values."""
        return self.model_dump(exclude={"weights", "class_weights"})

    @property
    def weighs(self) -> bool:
        """Tell whether rows count differently."""
        return self.weights is not None or self.class_weights is not None

    @model_validator(mode="before")
    @classmethod
    def _falls_if_it_is_auto(cls, said: Any) -> Any:
        if isinstance(said, dict) and said.get("rate", "auto") == "auto":
            return {"schedule": "linear"} | said
        return said

    @model_validator(mode="after")
    def _what_falls_has_its_own_word(self) -> Self:
        if self.schedule != "linear" and "final" in self.model_fields_set:
            raise ValueError('final is for schedule = "linear"; the others fall by decay')
        if self.schedule == "linear" and self.decay:
            raise ValueError('schedule = "linear" falls to final, and has no decay; leave decay out')
        return self


class Privacy(OmitUnset):
    """Says what the helper may see.

    Keeps a party that does not follow the protocol from learning more.

    Attributes:
        helper_sees: "nothing": the data parties evaluate the activation by a series, and the helper deals randomness
            alone; "scores": the helper computes it from scores in secret order, if all data parties' policies allow
            that. Unset, nothing where the model allows it.
        q: with "nothing", scores up to which the series holds; unset, what fits most tables.
        terms: with "nothing", terms of the series; more are more exact, and more is dealt. Unset, as few as fit q.
        hidden_q, hidden_terms: likewise of hidden layers' activations.
        checks: random combinations by which data parties check what the helper deals for rows; with "scores", each
            gradient share. 0 for none.
        checked: with "nothing", the part of what the helper deals that is opened and compared; 0 for none.
    """

    added = frozenset({"helper_sees", "q", "terms", "hidden_q", "hidden_terms", "checked"})

    helper_sees: Literal["scores", "nothing"] | None = None
    q: int | None = Field(default=None, ge=1, le=1024)
    terms: int | None = Field(default=None, ge=1, le=256)
    hidden_q: int | None = Field(default=None, ge=1, le=1024)
    hidden_terms: int | None = Field(default=None, ge=1, le=256)
    checks: int = Field(default=2, ge=0, le=8)
    checked: float = Field(default=0.1, ge=0, le=0.5)


ModelKind = Literal[LabelModel, "mlp"]
BLIND_ONLY = {"one-vs-rest": "softmax", "tweedie": "gamma"}  # of which helpers compute no activation; else what to use
BLIND_MODELS = frozenset({"logistic", "linear", "poisson", "gamma", *BLIND_ONLY})  # whose activation has a series
CLASS_WEIGHT_MODELS = ("logistic", "one-vs-rest")
EXPOSURE_MODELS = ("poisson", "gamma", "tweedie")  # whose score is the logarithm of what is predicted
OFFSET_MODELS = ("logistic", "linear", *EXPOSURE_MODELS)  # with one score, to which a number can be added
USUAL_POWER = 1.5  # of a Tweedie model
LEAST_POWER, MOST_POWER = 1.001, 1.999  # nearer to 1 and 2 the two functions of a Tweedie loss cancel each other
BLIND_HIDDEN = frozenset({"tanh", "sigmoid", "gelu", "silu", "softplus"})  # likewise of hidden layers
Release = Literal["owners", "shared", "label"]
_OF_CLASSES = {"auc": True, "accuracy": True, "balanced_accuracy": True, "log_loss": False}
_COUNTED = {"d2": True, "deviance": False, "rmse": False, "mae": False}
METRICS: dict[str, dict[str, bool]] = {  # by link: the metrics of held-out rows, and whether more is better
    "logistic": {
        "auc": True,
        "ks": True,
        "average_precision": True,
        "accuracy": True,
        "log_loss": False,
        "calibration_error": False,
    },
    "linear": {"r2": True, "rmse": False, "mae": False},
    "softmax": _OF_CLASSES,
    "one-vs-rest": _OF_CLASSES,
    "poisson": _COUNTED,
    "gamma": _COUNTED,
    "tweedie": _COUNTED,
}


class Network(Strict):
    """The layers of a multilayer perceptron, beside its input, which is everybody's columns.

    Attributes:
        hidden: the width of each hidden layer, from the input on.
        activation: what each hidden layer applies.
        output: the link between the last layer's scores and the label.
    """

    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(min_length=1, max_length=8)
    activation: Literal["relu", "leaky-relu", "tanh", "sigmoid", "gelu", "silu", "softplus"] = "silu"
    output: Literal["logistic", "linear", "softmax", "one-vs-rest", "poisson"] = "logistic"


def link_of(model: str, network: Network | None) -> str:
    """Return the link between score and label of a model of this kind.

    The layers have a part in it if it has such.
    """
    return model if network is None else network.output


def usual_epochs(model: str) -> int:
    """Return how many epochs a model of this kind trains for, unless its job says that.

    Classes without hidden layers take a larger rate, see docs/protocol.md.
    """
    return 10 if model in {"logistic", "one-vs-rest", "softmax"} else 30


class EarlyStopping(Strict):
    """Stops when nothing has been gained for some epochs.

    The best epoch's model is kept.

    Attributes:
        on: "held_out_loss", the mean loss of the held-out rows, which tells no score; "loss", the training loss, or a
            metric of the held-out rows.
        patience: so many epochs without a gain, or scorings where `on` is a metric, end the training.
        least_gain: less than this is none.
    """

    on: str = Field(max_length=32)
    patience: int = Field(default=2, ge=1, le=100_000)
    least_gain: float = Field(default=0.0, ge=0)


class Scorecard(Strict):
    """Says how the log-odds of a logistic model become points.

    Attributes:
        pdo: points to double the odds.
        base_points: of a row whose odds are `base_odds`.
        base_odds: of the good to the bad: 50 stands for fifty good ones to each bad one.
        positives: what a label of 1 is, "bad" (a default, a claim) or "good"; who is likely good has more points.
    """

    pdo: float = Field(default=20.0, gt=0, le=1e6)
    base_points: float = Field(default=600.0, ge=-1e6, le=1e6)
    base_odds: float = Field(default=50.0, ge=1e-9, le=1e9)
    positives: Literal["bad", "good"] = "bad"


class EncodedColumns(Strict):
    """Says what columns become, where that is not what every table's settings say.

    Attributes:
        woe: the statistics job by whose weights of evidence every data party encodes its columns.
    """

    woe: JobId | None = None


class TrainingJob(JobDescription):
    """Asks for one model over several parties' columns.

    Attributes:
        model: a generalised linear model by its link, or a multilayer perceptron, which `network` describes.
        release: "owners": each data party learns the weights of its own columns; "shared": nobody learns any; "label":
            the label party learns the whole model, and how every party's columns are encoded.
        columns: for some data parties those of their columns that are used, at the label party perhaps none; of the
            others all that their settings list.
        start: an earlier training job of the same parties. This one begins where its model ended, with its columns as
            they were encoded then.
        scorecard: how its scores become points, if they do.
        offset: a column of the label party whose numbers are added to scores, and that no weight goes with: an earlier
            model's score, say. It is on the score's scale. The label party's settings list it under `offsets`.
        exposure: instead, of counts and amounts: the column that they grow with, whose logarithm is the offset.
        power: of a Tweedie model: a label's variance goes with its mean to this power. Unset, USUAL_POWER.
    """

    added = JobDescription.added | {
        "network", "columns", "privacy", "encoding", "start", "scorecard", "offset", "exposure", "power",
    }  # fmt: skip

    kind: Literal["training"] = "training"
    model: ModelKind
    network: Network | None = None
    encoding: EncodedColumns = EncodedColumns()
    training: Training = Field(default_factory=Training, validate_default=True)
    evaluation: Evaluation = Evaluation()
    early_stopping: EarlyStopping | None = None
    privacy: Privacy = Privacy()
    release: Release = "owners"
    accept_narrow: bool = False
    columns: NamedColumns = ()
    start: JobId | None = None
    scorecard: Scorecard | None = None
    offset: ColumnName | None = None
    exposure: ColumnName | None = None
    power: float | None = None

    @field_validator("training")
    @classmethod
    def _train_as_long_as_usual(cls, training: Training, info: ValidationInfo) -> Training:
        if "epochs" in training.model_fields_set:
            return training
        return training.model_copy(update={"epochs": usual_epochs(info.data.get("model", ""))})

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        check_columns(self, self.columns)
        return self

    @model_validator(mode="after")
    def _network_fits(self) -> Self:
        if self.model == "mlp" and self.network is None:
            raise ValueError('model = "mlp" needs its layers: write hidden = [32], say, under [network]')
        if self.model != "mlp" and self.network is not None:
            raise ValueError(f'a {self.model} model has no layers: leave out [network], or use model = "mlp"')
        return self

    @model_validator(mode="after")
    def _blind_fits(self) -> Self:
        asked, network = self.privacy.helper_sees, self.network
        if asked == "nothing" and network is not None and network.activation not in BLIND_HIDDEN:
            raise ValueError(
                f'helper_sees = "nothing" is not for activation = "{network.activation}": use activation = "silu", or '
                f'write helper_sees = "scores" under [privacy]'
            )
        if asked == "nothing" and self.link not in BLIND_MODELS:
            instead = 'use "one-vs-rest", or ' if self.link == "softmax" else ""
            raise ValueError(
                f'helper_sees = "nothing" is for logistic, linear, one-vs-rest, poisson, gamma and tweedie models; for '
                f'"{self.link}" {instead}write helper_sees = "scores" under [privacy]'
            )
        if asked == "scores" and self.link in BLIND_ONLY:
            instead = f'leave it out, or use "{BLIND_ONLY[self.link]}"'
            raise ValueError(f'helper_sees = "scores" is not for {self.link} models: {instead}')
        return self

    @model_validator(mode="after")
    def _power_fits(self) -> Self:
        if self.power is None:
            return self
        if self.model != "tweedie":
            raise ValueError(f'a {self.model} model has no power: leave it out, or use model = "tweedie"')
        if not LEAST_POWER <= self.power <= MOST_POWER:
            raise ValueError(
                f'power is from {LEAST_POWER} to {MOST_POWER}: for 1, counts, use model = "poisson"; for 2, amounts '
                'that are all above 0, model = "gamma"'
            )
        return self

    @model_validator(mode="after")
    def _stopping_has_its_measure(self) -> Self:
        stopping, evaluation = self.early_stopping, self.evaluation
        if stopping is None:
            return self
        if stopping.on == "held_out_loss":
            if not evaluation.held_out_loss:
                raise ValueError(
                    "early stopping on the held-out loss needs holdout and held_out_loss = true under [evaluation]"
                )
        elif stopping.on == "loss":
            if not evaluation.loss:
                raise ValueError("early stopping on the loss needs loss = true under [evaluation]")
        elif stopping.on not in METRICS[self.link]:
            raise ValueError(f"early stopping on one of held_out_loss, loss, {', '.join(METRICS[self.link])}")
        elif not evaluation.holds_out or evaluation.metrics != "epoch":
            raise ValueError(
                'early stopping on a metric needs holdout and metrics = "epoch" under [evaluation], by which every '
                "held-out score is told after each epoch, or with every = 5 after each fifth; on = "
                '"held_out_loss" stops by held-out rows and tells none'
            )
        return self

    @model_validator(mode="after")
    def _points_are_of_odds(self) -> Self:
        if self.scorecard is not None and self.link != "logistic":
            raise ValueError(f"points are made of log-odds, which a {self.link} model has not: leave out [scorecard]")
        return self

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.evaluation.folds and self.early_stopping is not None:
            raise ValueError("early stopping needs held-out rows to the end, and with folds the last model has none")
        if self.evaluation.folds and self.start is not None:
            raise ValueError(
                "the model to start at may have seen the folds: write holdout = 0.2, say, in place of them"
            )
        return self

    @model_validator(mode="after")
    def _start_brings_its_encoding(self) -> Self:
        if self.start is not None and self.encoding.woe is not None:
            raise ValueError("columns are encoded as they were for the model to start at: leave out [encoding] woe")
        return self

    @model_validator(mode="after")
    def _offset_fits(self) -> Self:
        if self.offset is None and self.exposure is None:
            return self
        what = "offset" if self.exposure is None else "exposure"
        if self.offset is not None and self.exposure is not None:
            raise ValueError("write offset, or exposure, whose logarithm is the offset; one of them")
        if self.model not in (OFFSET_MODELS if what == "offset" else EXPOSURE_MODELS):
            models = ", ".join(OFFSET_MODELS if what == "offset" else EXPOSURE_MODELS)
            raise ValueError(f"{what} is not for {self.model} models, but for {models}")
        if not self.is_blind:
            raise ValueError(f'{what} needs helper_sees = "nothing": the helper would see scores that it has shifted')
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        training = self.training
        if training.class_weights is not None and self.link not in CLASS_WEIGHT_MODELS:
            raise ValueError(f"class_weights are not for {self.link} models, but for {', '.join(CLASS_WEIGHT_MODELS)}")
        if training.weighs and self.network is not None:
            raise ValueError("weights are for models without hidden layers: leave weights and class_weights out")
        if training.weighs and not self.is_blind:
            raise ValueError('weights need helper_sees = "nothing": leave them out, or helper_sees and softmax')
        return self

    @property
    def weighs_errors(self) -> bool:
        """Tell whether errors are multiplied by weights.

        Those of Poisson models are in labels and scores instead.
        """
        return self.training.weighs and self.link != "poisson"

    @property
    def link_power(self) -> float:
        """The power of a Tweedie model; 0 of others."""
        return (self.power or USUAL_POWER) if self.model == "tweedie" else 0.0

    def of_fold(self, fold: int | None) -> Self:
        """Return what is trained while this fold is held out, or last, on all rows.

        A fold's training opens no loss.
        """
        update = {"folds": 0, "split": None} if fold is None else {"loss": False}
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update=update)})

    @property
    def is_blind(self) -> bool:
        """Tell whether the helper learns nothing of the training."""
        asked = self.privacy.helper_sees
        return self._allows_blind if asked is None else asked == "nothing"

    @property
    def _allows_blind(self) -> bool:
        hidden = self.network is None or self.network.activation in BLIND_HIDDEN
        return hidden and self.link in BLIND_MODELS

    @property
    def link(self) -> str:
        """The link between score and label.

        Labels, losses, metrics and scores go by it.
        """
        return link_of(self.model, self.network)

    def columns_of(self, party: str) -> tuple[str, ...] | None:
        """Return a party's columns as the job names them."""
        return dict(self.columns).get(party)

    def holdout_column_of(self, party: str) -> str | None:
        """Return the column of a party that says which rows are held out."""
        return self.evaluation.holdout_column if party == self.label else None

    def offset_of(self, party: str) -> str | None:
        """Return the column of a party that scores are shifted by."""
        return (self.offset or self.exposure) if party == self.label else None

    def weights_of(self, party: str) -> str | None:
        """Return the column of a party by which its rows count."""
        return self.training.weights if party == self.label else None

    def columns_beside(self, party: str) -> tuple[str, ...]:
        """List the columns of a party that the job reads, and that are no features."""
        found = (*super().columns_beside(party), self.offset_of(party), self.weights_of(party))
        return tuple(dict.fromkeys(column for column in found if column is not None))

    @property
    def scorings(self) -> int:
        """The most times that the label party learns the scores of all held-out rows."""
        if not self.evaluation.holds_out or self.evaluation.metrics == "none":
            return 0
        return -(-self.training.epochs // self.evaluation.every) if self.evaluation.metrics == "epoch" else 1

    def scored_after(self, epoch: int) -> bool:
        """Tell whether the held-out rows are scored after this epoch, counted from 0."""
        evaluation, done = self.evaluation, epoch + 1
        due = done % evaluation.every == 0 or done == self.training.epochs
        return evaluation.holds_out and evaluation.metrics == "epoch" and due


class PredictionJob(JobDescription):
    """Asks for scores for new rows, to the label party alone.

    The same parties have trained the model.

    Attributes:
        of: the training job.
        format: of the file with the scores.
        scorecard: how they become points; by default as the training job says.
    """

    added = JobDescription.added | {"scorecard"}

    kind: Literal["prediction"]
    of: JobId
    format: Literal["csv", "parquet"] = "csv"
    scorecard: Scorecard | None = None


AnyJob = Annotated[TrainingJob | PredictionJob | StatisticsJob, Field(discriminator="kind")]
_JOB: TypeAdapter[AnyJob] = TypeAdapter(AnyJob)


def read_job(path: Path) -> AnyJob:
    """Read JOB.toml.

    Raises:
        Invalid: the file is missing, is not TOML or is no job; the text names the field.
    """
    return parse_job(read_toml(path), path)


def parse_job(written: Mapping[str, Any], place: Path | str) -> AnyJob:
    """Make the job that a file or a program describes, by the names of JOB.toml.

    `place` is what errors begin with.

    Raises:
        Invalid: it is no job; the text names the field.
    """
    content = dict(written)
    if isinstance(content.get("standby"), list):
        content["standby"] = tuple(content["standby"])
    tables, network = content.get("tables"), content.get("network")
    if isinstance(tables, dict):
        content["tables"] = tuple(tables.items())
    if isinstance(network, dict) and isinstance(network.get("hidden"), list):
        content["network"] = network | {"hidden": tuple(network["hidden"])}
    training = content.get("training")
    if isinstance(training, dict) and isinstance(training.get("class_weights"), dict):
        content["training"] = training | {"class_weights": tuple(sorted(training["class_weights"].items()))}
    if isinstance(content.get("columns"), dict):
        content["columns"] = tuple((party, _listed(names)) for party, names in content["columns"].items())
    try:
        return _JOB.validate_python({"kind": "training"} | content)
    except ValidationError as error:
        raise Invalid(explain(place, error, TrainingJob, PredictionJob, StatisticsJob, content=written)) from None


def _listed(names: Any) -> Any:
    return tuple(names) if isinstance(names, list) else names


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        Invalid: it is missing, unreadable or not TOML.
    """
    try:
        with path.open("rb") as file:
            return parse_toml(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; give the path of a file that you may read") from None
    except ValueError as error:  # its own, of bytes that are no text, and of integers without end
        raise Invalid(f"{path}: not TOML: {error}") from None
