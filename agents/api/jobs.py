"""Builds jobs from keyword arguments or TOML, and checks them by the command line's rules.

It reads the one file that is named, and asks nobody.
"""

import numbers
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar, Unpack

from tercet.agents.api.fields import JobFields, StatisticsFields
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import AnyJob, PredictionJob, StatisticsJob, TrainingJob, parse_job, read_job
from tercet.schemas.files.mistakes import models_in
from tercet.schemas.files.statistics import Measures

SECTIONS = {  # of JOB.toml, by the name of each field
    field: section
    for section, about in TrainingJob.model_fields.items()
    for model in models_in(about.annotation)
    for field in model.model_fields
}

STATISTICS = Measures.model_fields.keys()  # of JOB.toml, under [statistics]
HELD_OUT = ("holdout", "split", "holdout_column", "holdout_from")  # of statistics, under [evaluation]
FACES = {"training": "Job", "prediction": "Prediction", "statistics": "Statistics"}  # by the kind of a job

D = TypeVar("D", TrainingJob, PredictionJob, StatisticsJob)


class _Described(Generic[D]):
    """Holds a description that has been checked."""

    description: D
    _model: type[D]

    @classmethod
    def from_toml(cls, path: Path | str) -> Self:
        """Read it from a TOML file.

        Raises:
            Invalid: the file cannot be read, or describes something else; the text names the field.
        """
        made = cls.__new__(cls)
        made.description = _of_kind(cls._model, read_job(Path(path)), str(path))
        return made

    @property
    def id(self) -> str:
        """The name and eight digits of the digest: the same description has the same id."""
        return self.description.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Described) and self.description == other.description

    def __hash__(self) -> int:
        return hash(self.description.digest)

    def __repr__(self) -> str:
        job = self.description
        what = f"of {job.of}" if isinstance(job, PredictionJob) else job.model
        parties = " and ".join(f"{one} (label)" if one == job.label else one for one in job.data_parties)
        return f"{type(self).__name__}({self.id!r}: {what}, {parties}, helper {job.helper})"


class Job(_Described[TrainingJob]):
    """Describes a training job: who takes part with which table, and how they train.

    >>> import tercet
    >>> tables = {"bank": "customers", "card": "delays"}
    >>> tercet.Job(name="returns", label="bank", helper="notary", tables=tables, epochs=12, holdout=0.2)
    Job('returns-8055bf22': logistic, bank (label) and card, helper notary)
    >>> tercet.Job(name="returns", label="bank", helper="notary", tables=tables, epochs=0)
    Traceback (most recent call last):
    tercet.schemas.files.invalid.Invalid: Job: training.epochs should be greater than or equal to 1

    Args:
        name: of the job; its id adds eight digits of its digest.
        label: the party that holds the label, and leads.
        helper: the neutral third party.
        tables: for each data party, in the job's order, the name under which its settings list its table.
        model: a generalised linear model by its link, or "mlp", for which `hidden` says the layers.
        fields: every other field of JOB.toml, without its section; docs/jobs.md explains them.

    Raises:
        Invalid: a field is wrong or unknown; the text names it.
    """

    _model = TrainingJob

    def __init__(
        self,
        *,
        name: str,
        label: str,
        helper: str,
        tables: Mapping[str, str],
        **fields: Unpack[JobFields],
    ) -> None:
        content = {"name": name, "label": label, "helper": helper, "tables": dict(tables)}
        self.description = training_job("Job", content | dict(fields))


class Prediction(_Described[PredictionJob]):
    """Describes a prediction: scores of new rows by a trained model, for the label party.

    >>> import tercet
    >>> tables = {"bank": "applicants", "card": "applicants"}
    >>> tercet.Prediction(name="new", of="returns-8055bf22", label="bank", helper="notary", tables=tables)
    Prediction('new-26925ce5': of returns-8055bf22, bank (label) and card, helper notary)

    Args:
        name: of the prediction.
        of: the id of the training job whose model is applied.
        label: the party that gets the scores.
        helper: the neutral third party.
        tables: for each data party, in the training's order, the name of its table with the new rows.
        format: of the file with the scores.
        alignment: how rows are matched.
        purpose: what the scores are for, in the words that the parties have agreed on.
        standby: helpers that take over.

    Raises:
        Invalid: a field is wrong; the text names it.
    """

    _model = PredictionJob

    def __init__(
        self,
        *,
        name: str,
        of: str,
        label: str,
        helper: str,
        tables: Mapping[str, str],
        format: Literal["csv", "parquet"] = "csv",  # noqa: A002 - the field's name
        alignment: Literal["helper", "ecdh", "aligned"] = "helper",
        purpose: str = "",
        standby: Sequence[str] = (),
    ) -> None:
        content = {"kind": "prediction", "name": name, "of": of, "label": label, "helper": helper}
        more = {"tables": dict(tables), "format": format, "alignment": alignment, "purpose": purpose}
        parsed = parse_job(content | more | {"standby": [*standby]}, "Prediction")
        self.description = _of_kind(PredictionJob, parsed, "Prediction")


class Statistics(_Described[StatisticsJob]):
    """Describes a statistics job: the label by bin of all columns, and correlations.

    >>> import tercet
    >>> tables = {"bank": "customers", "card": "delays"}
    >>> tercet.Statistics(name="look", label="bank", helper="notary", tables=tables, bins=5, woe=True)
    Statistics('look-796de7b5': logistic, bank (label) and card, helper notary)

    Args:
        name: of the job.
        label: the party that holds the label.
        helper: the neutral third party.
        tables: for each data party, in the job's order, the name of its table.
        model: what kind of label there is, by the model that would be trained on it.
        fields: every other field of JOB.toml, without its section; docs/jobs.md explains them.

    Raises:
        Invalid: a field is wrong or unknown; the text names it.
    """

    _model = StatisticsJob

    def __init__(
        self,
        *,
        name: str,
        label: str,
        helper: str,
        tables: Mapping[str, str],
        **fields: Unpack[StatisticsFields],
    ) -> None:
        content: dict[str, Any] = {"kind": "statistics", "name": name, "label": label, "helper": helper}
        content["tables"] = dict(tables)
        for field, value in fields.items():
            section = "statistics" if field in STATISTICS else "evaluation" if field in HELD_OUT else None
            (content if section is None else content.setdefault(section, {}))[field] = _plain(value)
        self.description = _of_kind(StatisticsJob, parse_job(content, "Statistics"), "Statistics")


def training_job(place: str, fields: Mapping[str, Any]) -> TrainingJob:
    """Make a training job of fields without sections; `place` is what errors begin with.

    Raises:
        Invalid: a field is wrong or unknown; the text names it.
    """
    content: dict[str, Any] = {"model": "logistic"}
    for name, value in fields.items():
        if name in SECTIONS:
            content.setdefault(SECTIONS[name], {})[name] = _plain(value)
        elif name in TrainingJob.model_fields and name not in SECTIONS.values() and name != "kind":
            content[name] = _plain(value)
        else:
            raise Invalid(f"{place}: unknown field `{name}`{_similar(name)}")
    return _of_kind(TrainingJob, parse_job(content, place), place)


def _of_kind(model: type[D], found: AnyJob, place: str) -> D:
    """Return a job of this kind.

    Raises:
        Invalid: it is of another one.
    """
    if not isinstance(found, model):
        raise Invalid(f'{place}: kind is "{found.kind}"; read it by tercet.{FACES[found.kind]}.from_toml')
    return found


def _similar(name: str) -> str:
    near = get_close_matches(name.lower(), [*SECTIONS, *TrainingJob.model_fields.keys() - SECTIONS.values()], n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _plain(value: Any) -> Any:
    """Make plain values of numpy's numbers, and lists of other sequences."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, Sequence) else value
