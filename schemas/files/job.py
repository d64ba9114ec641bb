"""Describes a job as a person writes it, and in the canonical form that all sign.

A description names tables and parties; it never carries a seed, a path, a column's content or a key.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import msgpack
from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from tercet.schemas.core.names import RESERVED
from tercet.schemas.core.strict import JobId, Name, Strict
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.toml import MOST_BYTES, parse_toml

MAX_PARTIES = 16
MAX_STANDBY = 4

N = TypeVar("N")
Either = Annotated[  # a number, or "auto"; tagged, so that an error speaks of what was meant
    Annotated[N, Tag("number")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda value: "auto" if isinstance(value, str) else "number"),
]
ColumnName = Annotated[str, Field(min_length=1, max_length=256)]


class OmitUnset(Strict):
    """Leaves fields of later releases out of its plain values where they are unset.

    So a job without them keeps its id.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = dump(self)
        for name in self.added:
            if getattr(self, name) == type(self).model_fields[name].default:
                said.pop(name, None)
        return said


class Training(OmitUnset):
    """Says how long and how fast to train; what is not said fits most tables.

    Attributes:
        epochs: how often all rows are used; a job without a word on them has `usual_epochs`.
        batch: rows of a step; "auto" is a sixteenth of those that are trained on, from 32 to 512, or more of many.
        rate: of the first step; "auto" follows from the model and the number of data parties.
        schedule: how the rate falls; "linear" is the default where the rate is "auto", else "constant".
        decay: of "inverse-time" and "exponential", for each step.
        final: of "linear": what is left of the rate at the last step.
    """

    added = frozenset({"final"})

    epochs: int = Field(default=30, ge=1, le=100_000)
    batch: Either[Annotated[int, Field(ge=1, le=2**24)]] = "auto"
    rate: Either[Annotated[float, Field(gt=0)]] = "auto"
    schedule: Literal["constant", "inverse-time", "exponential", "linear"] = "constant"
    decay: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0, lt=1)
    final: float = Field(default=0.1, gt=0, le=1)

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


class Evaluation(OmitUnset):
    """Says what the label party learns of the model's quality before a release.

    Attributes:
        holdout: the part of the aligned rows that is not trained on, chosen by a keyed hash of the id.
        folds: instead of `holdout`: so many folds of the rows, by a keyed hash of the id. For each a model of the other
            rows is trained, scores the fold and is dropped; the model of all rows comes last.
        split: a name for the choice: every job of the same data parties that names it holds out the same rows.
        holdout_column: instead of `holdout`: the label party's column that says which rows are held out. Its settings
            list it under `holdouts`; no such column is trained on.
        holdout_from: the first day, like "2026-06-01", or number in it that is held out; without it the column is a
            flag, which is true or 1 where a row is held out.
        metrics: when the held-out rows are scored, if at all; each time the label party learns their scores.
        every: with "epoch": after every so many epochs, and after the last.
        loss: whether the mean training loss of each epoch is opened: one number, nothing for each row.
        held_out_loss: whether the mean loss of the held-out rows is opened after each epoch: likewise.
        loss_to: to whom the two are.
        held_out_scores: whether the label party gets the last scores of the held-out rows as a file, with their ids.
    """

    added = frozenset({"held_out_loss", "every", "split", "holdout_column", "holdout_from", "held_out_scores", "folds"})

    holdout: float = Field(default=0.0, ge=0, le=0.9)
    folds: int = Field(default=0, ge=0, le=20)
    split: Name | None = None
    holdout_column: ColumnName | None = None
    holdout_from: float | str | None = None
    metrics: Literal["none", "end", "epoch"] = "end"
    every: int = Field(default=1, ge=1, le=100_000)
    loss: bool = False
    held_out_loss: bool = False
    loss_to: Literal["label", "all"] = "label"
    held_out_scores: bool = False

    @field_validator("holdout_from", mode="before")
    @classmethod
    def _day_as_text(cls, start: Any) -> Any:
        """Turn a day into text: TOML has dates too."""
        return start.isoformat() if type(start) is date else start

    @field_validator("holdout_from")
    @classmethod
    def _is_a_day(cls, start: float | str | None) -> float | str | None:
        if isinstance(start, str):
            try:
                date.fromisoformat(start)
            except ValueError:
                raise ValueError('write a day like "2026-06-01", or a number') from None
        return start

    @property
    def holds_out(self) -> bool:
        """Tell whether any row is held out."""
        return self.holdout > 0 or self.folds > 0 or self.holdout_column is not None

    @property
    def choice(self) -> str:
        """The setting that says which rows are held out."""
        column = self.holdout_column
        by_chance = f"folds = {self.folds}" if self.folds else f"holdout = {self.holdout:g}"
        return by_chance if column is None else f'holdout_column = "{column}"'

    @model_validator(mode="after")
    def _one_choice_of_rows(self) -> Self:
        if self.holdout_column is not None and (self.holdout > 0 or self.split is not None):
            raise ValueError("write holdout_column to hold rows out by a column, or holdout by chance; one of them")
        if self.holdout_from is not None and self.holdout_column is None:
            raise ValueError("holdout_from is a value of a column: write holdout_column too")
        return self

    @model_validator(mode="after")
    def _folds_are_scored_once(self) -> Self:
        if not self.folds:
            return self
        if self.folds == 1:
            raise ValueError("folds are at least 2: each is scored by a model of the others' rows")
        if self.holdout > 0 or self.holdout_column is not None:
            raise ValueError("write folds, or hold rows out by holdout or holdout_column; one of them")
        if self.metrics != "end" or self.held_out_loss or self.held_out_scores:
            raise ValueError(
                'each of the folds is scored once, when its model is trained: leave metrics at "end", and leave out '
                "held_out_loss and held_out_scores"
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_held_out_row(self) -> Self:
        if self.held_out_loss and not self.holds_out:
            raise ValueError("held_out_loss needs rows that are held out: write holdout = 0.2, say")
        if self.held_out_scores and (not self.holds_out or self.metrics == "none"):
            raise ValueError("held_out_scores needs rows that are held out and scored: write holdout = 0.2, say")
        if self.split is not None and self.holdout == 0 and not self.folds:
            raise ValueError("split names which rows are held out: write holdout = 0.2, say, beside it")
        if self.every > 1 and self.metrics != "epoch":
            raise ValueError('every counts epochs between two scorings: write metrics = "epoch" too, or leave it out')
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


ModelKind = Literal["logistic", "linear", "softmax", "one-vs-rest", "poisson", "gamma", "mlp"]
BLIND_MODELS = frozenset({"logistic", "linear", "one-vs-rest", "poisson", "gamma"})  # whose activation has a series
BLIND_ONLY = "one-vs-rest"  # of which helpers compute no activation
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


class JobDescription(OmitUnset):
    """Says who takes part with which table, and how rows are matched.

    Attributes:
        alignment: "helper" matches pseudonyms at the helper; "ecdh" between two data parties alone; "aligned" takes
            tables that hold the same ids in the same order already.
        tables: for each data party, in the job's order, the name under which its settings list the table.
        purpose: what the result is for, in the words that the parties have agreed on.
        standby: helpers that take over, in this order, if the one before them falls silent.
    """

    added = frozenset({"purpose", "standby"})

    name: Name
    label: Name
    helper: Name
    tables: tuple[tuple[Name, Name], ...] = Field(min_length=2, max_length=MAX_PARTIES)
    alignment: Literal["helper", "ecdh", "aligned"] = "helper"
    again: str = Field(default="", max_length=32)
    purpose: str = Field(default="", max_length=200)
    standby: tuple[Name, ...] = Field(default=(), max_length=MAX_STANDBY)

    @model_validator(mode="after")
    def _parties_fit(self) -> Self:
        names = self.data_parties
        if len(set(names)) != len(names):
            raise ValueError("a data party is named twice in [tables]")
        if self.label not in names:
            raise ValueError(f"the label party {self.label!r} has no entry in [tables]")
        if len(set(self.helpers)) != len(self.helpers) or set(names) & set(self.standby):
            raise ValueError("standby names parties that have no other part in the job, each once")
        if RESERVED & {*names, *self.helpers}:
            raise ValueError(f"no party can be called {' or '.join(sorted(RESERVED))}")
        if self.helper in names:
            raise ValueError(f"{self.helper!r} can't be both helper and data party")
        if self.alignment == "ecdh" and len(names) > 2:
            raise ValueError(
                'alignment = "ecdh" is for two data parties; among more, some would learn who is in common'
            )
        return self

    @property
    def data_parties(self) -> tuple[str, ...]:
        """The data parties in the job's order, which numbers them in the protocol."""
        return tuple(name for name, _ in self.tables)

    @property
    def parties(self) -> tuple[str, ...]:
        """Everybody: the data parties in order, then the helper."""
        return (*self.data_parties, self.helper)

    @property
    def helpers(self) -> tuple[str, ...]:
        """The helper, and those who stand by."""
        return (self.helper, *self.standby)

    @property
    def everybody(self) -> tuple[str, ...]:
        """The data parties in order, then the helper, then those who stand by."""
        return (*self.data_parties, *self.helpers)

    def helped_by(self, helper: str) -> Self:
        """Return the same job with another one of its helpers at work."""
        return self if helper == self.helper else self.model_copy(update={"helper": helper})

    @property
    def id(self) -> str:
        """The name and the beginning of the digest: the same description has the same id."""
        return f"{self.name}-{self.digest.hex()[:8]}"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return canonical_digest("tercet job description", self.canonical())

    def canonical(self) -> dict[str, Any]:
        """Return everything that the description says, as plain values."""
        return self.model_dump()

    def with_new_id(self) -> Self:
        """Return the same job under an id of its own, to run it again."""
        return self.model_copy(update={"again": secrets.token_hex(8)})

    def table_of(self, party: str) -> str:
        """Return the name under which a data party's settings list the table to use."""
        return dict(self.tables)[party]

    def columns_of(self, _party: str) -> tuple[str, ...] | None:
        """Return the columns of a data party that the job names.

        None where it leaves them to that party, or to the model.
        """
        return None

    def holdout_column_of(self, _party: str) -> str | None:
        """Return the column of a party that says which rows are held out; None where no column does."""
        return None


class TrainingJob(JobDescription):
    """Asks for one model over several parties' columns.

    Attributes:
        model: a generalised linear model by its link, or a multilayer perceptron, which `network` describes.
        release: "owners": each data party learns the weights of its own columns; "shared": nobody learns any; "label":
            the label party learns the whole model, and how every party's columns are encoded.
        columns: for some data parties those of their columns that are used, at the label party perhaps none; of the
            others all that their settings list.
    """

    added = JobDescription.added | {"network", "columns", "privacy"}

    kind: Literal["training"] = "training"
    model: ModelKind
    network: Network | None = None
    training: Training = Field(default_factory=Training, validate_default=True)
    evaluation: Evaluation = Evaluation()
    early_stopping: EarlyStopping | None = None
    privacy: Privacy = Privacy()
    release: Release = "owners"
    accept_narrow: bool = False
    columns: tuple[tuple[Name, tuple[ColumnName, ...]], ...] = Field(default=(), max_length=MAX_PARTIES)

    @field_validator("training")
    @classmethod
    def _train_as_long_as_usual(cls, training: Training, info: ValidationInfo) -> Training:
        if "epochs" in training.model_fields_set:
            return training
        return training.model_copy(update={"epochs": usual_epochs(info.data.get("model", ""))})

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        names = [party for party, _ in self.columns]
        if len(set(names)) != len(names) or not set(names) <= set(self.data_parties):
            raise ValueError("[columns] names each data party once, and nobody else")
        for party, columns in self.columns:
            if not (columns or party == self.label) or len(set(columns)) != len(columns):
                raise ValueError(
                    f"{party}'s columns under [columns] are each named once, and at least one but at the label party"
                )
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
            instead = f'use "{BLIND_ONLY}", or ' if self.link == "softmax" else ""
            raise ValueError(
                f'helper_sees = "nothing" is for logistic, linear, one-vs-rest, poisson and gamma models; for '
                f'"{self.link}" {instead}write helper_sees = "scores" under [privacy]'
            )
        if asked == "scores" and self.link == BLIND_ONLY:
            raise ValueError(f'helper_sees = "scores" is not for {BLIND_ONLY} models: leave it out, or use "softmax"')
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
    def _folds_fit(self) -> Self:
        if self.evaluation.folds and self.early_stopping is not None:
            raise ValueError("early stopping needs held-out rows to the end, and with folds the last model has none")
        if self.evaluation.folds and self.network is not None:
            raise ValueError("folds are for models without hidden layers: write holdout = 0.2, say, in place of folds")
        return self

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
    """

    kind: Literal["prediction"]
    of: JobId  # the training job
    format: Literal["csv", "parquet"] = "csv"  # of the file with the scores


AnyJob = Annotated[TrainingJob | PredictionJob, Field(discriminator="kind")]
_JOB: TypeAdapter[TrainingJob | PredictionJob] = TypeAdapter(AnyJob)


def canonical_digest(domain: str, value: Any) -> bytes:
    """Hash a domain string and a value of plain types by SHA-256.

    It is the same at every party.
    """
    return hashlib.sha256(msgpack.packb([domain, value])).digest()


def read_job(path: Path) -> TrainingJob | PredictionJob:
    """Read JOB.toml.

    Raises:
        Invalid: the file is missing, is not TOML or is no job; the text names the field.
    """
    return parse_job(read_toml(path), path)


def parse_job(written: Mapping[str, Any], place: Path | str) -> TrainingJob | PredictionJob:
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
    if isinstance(content.get("columns"), dict):
        content["columns"] = tuple((party, _listed(names)) for party, names in content["columns"].items())
    try:
        return _JOB.validate_python({"kind": "training"} | content)
    except ValidationError as error:
        raise Invalid(explain(place, error, TrainingJob, PredictionJob, content=written)) from None


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
