"""Jobs from keyword arguments are the jobs of TOML files, and what is wrong in them is said by the same words."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tercet
from tercet.agents.api.fields import JobFields
from tercet.agents.api.jobs import SECTIONS
from tercet.schemas.files.job import TrainingJob, read_job
from tercet.schemas.files.mistakes import models_in
from tests.test_rooms import ROOT

CREDIT = ROOT / "examples" / "credit"
WHO: dict[str, Any] = {"name": "returns", "label": "bank", "helper": "notary", "tables": {"bank": "a", "card": "b"}}
NAMED_ALONE = {"name", "label", "helper", "tables"}  # each an argument of its own
NO_ARGUMENT = {"kind", "again"}


def flat(path: Path) -> dict[str, Any]:
    """The fields of a job's file without their sections."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    sections = {name for name in SECTIONS.values() if name in content}
    return {name: one for name, one in content.items() if name not in sections} | {
        name: one for section in sections for name, one in content[section].items()
    }


@pytest.mark.parametrize("name", ["job.toml", "mlp.toml"])
def test_keyword_arguments_make_the_same_job_as_a_file(name: str) -> None:
    """By its id, which all parties compare; and a file read from Python is what the command line reads."""
    made, read = tercet.Job(**flat(CREDIT / name)), tercet.Job.from_toml(CREDIT / name)
    assert made == read
    assert {made, read} == {made}
    assert made.id == read_job(CREDIT / name).id


def test_a_prediction_is_made_and_read_alike() -> None:
    path = CREDIT / "predict.toml"
    made = tercet.Prediction(**{name: one for name, one in flat(path).items() if name != "kind"})
    assert made == tercet.Prediction.from_toml(str(path))
    assert made.id == read_job(path).id


def test_every_field_of_a_job_is_a_keyword_argument_once() -> None:
    """A field that is new in the schema belongs to `agents/api/fields.py`, too."""
    sections = {
        name: model for name, about in TrainingJob.model_fields.items() for model in models_in(about.annotation)
    }
    top = TrainingJob.model_fields.keys() - sections.keys() - NAMED_ALONE - NO_ARGUMENT
    fields = [*top, *(field for model in sections.values() for field in model.model_fields)]
    assert sorted(fields) == sorted({*fields}), "two sections have a field of one name"
    assert {*fields} == JobFields.__annotations__.keys() | {"standby"} - NAMED_ALONE
    assert not {*fields} & NAMED_ALONE


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"epochs": 0}, "training.epochs should be greater"),
        ({"rate": "fast"}, "training.rate is a number"),
        ({"holdout": 2.0}, "evaluation.holdout should be less"),
        ({"model": "mlp", "hidden": [0]}, "network.hidden.0 should be greater"),
        ({"checks": "two"}, "privacy.checks is a whole number"),
        ({"patience": 3}, "early_stopping.on is missing"),
        ({"label": "Bank"}, "label: a name has small letters"),
        ({"tables": {"bank": "a"}}, "tables should"),
        ({"columns": {"bank": "limit"}}, "columns.bank"),
        ({"epoch": 3}, "unknown field `epoch`; did you mean `epochs`?"),
        ({"training": {"epochs": 3}}, "unknown field `training`"),
        ({"kind": "prediction"}, "unknown field `kind`"),
        ({"model": "softmax", "helper_sees": "nothing"}, 'helper_sees = "nothing"'),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(tercet.Invalid) as caught:
        tercet.Job(**(WHO | wrong))
    assert str(caught.value).startswith("Job: ")
    assert named in str(caught.value)
    assert isinstance(caught.value, tercet.TercetError)
    assert isinstance(caught.value, ValueError)


def test_a_refused_value_is_not_repeated() -> None:
    """It may be a secret that was put into the wrong argument."""
    with pytest.raises(tercet.Invalid) as caught:
        tercet.Job(**(WHO | {"rate": "hunter2", "purpose": 5}))
    assert "hunter2" not in str(caught.value)
    assert {"training.rate", "purpose"} <= {*str(caught.value).replace(":", "").split()}


def test_numbers_of_numpy_and_sequences_are_plain_values() -> None:
    """A search over `np.logspace` gives such; and nothing of the caller's is changed."""
    tables, hidden = dict(WHO["tables"]), [np.int64(8)]
    fields: dict[str, Any] = WHO | {"tables": tables, "model": "mlp", "hidden": hidden, "columns": {"card": ("x", "y")}}
    numbers: dict[str, Any] = {"epochs": np.int64(3), "rate": np.float32(0.5), "l2": np.float64(0.1)}
    made = tercet.Job(**fields, **numbers, loss=True)
    assert made == tercet.Job(**fields, epochs=3, rate=0.5, l2=0.1, loss=True)
    assert tables == WHO["tables"]
    assert hidden == [8]


def test_a_file_of_the_other_kind_says_who_reads_it(tmp_path: Path) -> None:
    with pytest.raises(tercet.Invalid, match=r"tercet\.Prediction\.from_toml"):
        tercet.Job.from_toml(CREDIT / "predict.toml")
    with pytest.raises(tercet.Invalid, match=r"tercet\.Job\.from_toml"):
        tercet.Prediction.from_toml(CREDIT / "job.toml")
    with pytest.raises(tercet.Invalid, match="No such file"):
        tercet.Job.from_toml(tmp_path / "none.toml")
