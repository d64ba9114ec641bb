"""`tercet compare`: trainings side by side, and whether one is better on the same held-out rows."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tercet.agents.cli import compare as module
from tercet.agents.cli import rendering
from tercet.agents.cli.app import app
from tercet.agents.evaluation.comparison import CANNOT_TELL, NO_SCORES, OTHER_ROWS
from tercet.agents.evaluation.comparison import compare_jobs as compare_with
from tercet.agents.evaluation.intervals import compare_auc
from tercet.schemas.files.job import Evaluation
from tercet.schemas.messages.kinds import JobStatus, Status
from tests.agents.recovering import states
from tests.agents.scenes import BANK, CARD, job, prediction, scene, three

HELD_OUT = Evaluation(holdout=0.4, split="spring", held_out_scores=True)


def compare_jobs(jobs: list[JobStatus]) -> dict[str, Any]:
    """The comparison, with the files of scores that are here."""
    return compare_with(jobs, [module._held_out(one) for one in jobs])


def status(name: str, **fields: Any) -> JobStatus:
    """A training that is done."""
    description = job(name, **fields.pop("job", {}))
    usual: dict[str, Any] = {
        "job": description.id, "state": "done", "kind": "training", "model": description.model, "label": BANK,
        "helper": "notary", "parties": (), "submitted": "", "description": description, "rows": 60, "held_out": 36,
    }  # fmt: skip
    return JobStatus(**(usual | fields))


Rows = dict[str, tuple[int, float]]  # labels and scores by id


def scored(folder: Path, *jobs: Rows, **fields: Any) -> list[JobStatus]:
    """Trainings with these held-out rows, called `a`, `b` and so on."""
    found = []
    for name, rows in zip("abc", jobs, strict=False):
        lines = [f"{id_},{label},{score!r},0.5" for id_, (label, score) in rows.items()]
        (folder / name).write_text("\n".join(["id,label,score,probability", *lines]) + "\n")
        found.append(status(name, scores=str(folder / name), **fields))
    return found


def rows_of(seed: int, first: int = 0) -> Rows:
    """A hundred people, a third of them positive."""
    rng = np.random.default_rng(seed)
    return {
        f"0{number}": (number % 3 == 0, float(rng.normal()) + (number % 3 == 0)) for number in range(first, first + 100)
    }


def test_only_settings_that_differ_are_shown_and_automatic_ones_as_numbers() -> None:
    found = compare_jobs(
        [
            status(
                "a", job={"l2": 0.1, "release": "shared"}, rate=0.5, metrics={"auc": 0.7}, intervals={"auc": (0.6, 0.8)}
            ),
            status("b", job={"rate": "auto"}, rate=0.67, metrics={"auc": 0.75}),
        ]
    )
    assert found["settings"] == {
        "training.l2": [0.1, 0.0],
        "training.rate": [0.5, 0.67],
        "training.schedule": ["constant", "linear"],
        "release": ["shared", "owners"],
    }
    assert found["metrics"] == {"auc": [{"value": 0.7, "interval": [0.6, 0.8]}, {"value": 0.75, "interval": None}]}
    assert found["differences"] == [None, {"why": NO_SCORES}]


def test_auc_on_the_same_rows_is_compared_by_delong(tmp_path: Path) -> None:
    """In whatever order the files have them; ids keep their zeros."""
    one, two = rows_of(1), dict(reversed(rows_of(2).items()))
    found = compare_jobs(scored(tmp_path, one, two))["differences"][1]
    labels = np.array([label for label, _ in one.values()]) - 0.5
    expected = compare_auc(labels, *(np.array([rows[id_][1] for id_ in one]) for rows in (one, two)))
    assert expected is not None
    assert found == {"difference": expected.difference, "interval": [*expected.interval], "p": expected.p}


def test_other_rows_and_scores_in_one_order_are_told(tmp_path: Path) -> None:
    jobs = scored(tmp_path, rows_of(1), rows_of(2, first=1), rows_of(1))
    assert compare_jobs(jobs)["differences"] == [None, {"why": OTHER_ROWS}, {"why": CANNOT_TELL}]


def test_a_table_of_80_columns_has_one_for_each_job(tmp_path: Path) -> None:
    known: dict[str, Any] = {"metrics": {"auc": 0.7}, "intervals": {"auc": (0.6, 0.8)}, "loss": 0.5}
    jobs = scored(tmp_path, rows_of(1), rows_of(2), rows_of(2, first=1), **known)
    printed = io.StringIO()
    Console(file=printed, width=80).print(rendering.comparison_table(compare_jobs(jobs)))
    for words in (*(one.job for one in jobs), "0.600 to 0.800", "p = ", "name a split"):
        assert words in printed.getvalue()


def test_the_command_prints_json_and_refuses_predictions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {one.job: one for one in (status("a"), status("b", job={"l2": 0.1}), status("c", kind="prediction"))}
    first, second, other = known

    def recall(_: Path, asked: str) -> tuple[Status, str]:
        return Status(jobs=(known[asked],)) if asked in known else Status(problem="no such job"), ""

    monkeypatch.setattr(module, "ask_or_recall", recall)
    settings = ["--settings", str(tmp_path / "bank.toml")]
    shown = CliRunner().invoke(app, ["compare", first, second, *settings, "--format", "json"])
    assert json.loads(shown.stdout)["settings"] == {"training.l2": [0.0, 0.1]}
    assert CliRunner().invoke(app, ["compare", first, second, *settings]).exit_code == 0
    for wrong in (other, "d"):
        assert CliRunner().invoke(app, ["compare", first, wrong, *settings]).exit_code == 3


async def test_two_jobs_of_one_split_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    """From the statuses that their label party's agent gives."""
    async with scene(three(tmp_path), tmp_path) as stage:
        policy = stage.parties[CARD][0].policy
        stage.change(CARD, policy=policy.model_copy(update={"held_out_scores": True}))
        for name, epochs in (("short", 1), ("long", 8)):
            assert states(await stage.run(job(name, evaluation=HELD_OUT, epochs=epochs))) == {"done"}
        jobs = [stage.runs[BANK, key[1]].status() for key in stage.runs if key[0] == BANK]
        assert [JobStatus.model_validate_json(one.model_dump_json()) for one in jobs] == jobs
    found = compare_jobs(jobs)
    assert found["settings"] == {"training.epochs": [1, 8]}
    assert 0 < found["differences"][1]["p"] <= 1
    gained = found["metrics"]["auc"][1]["value"] - found["metrics"]["auc"][0]["value"]
    assert found["differences"][1]["difference"] == pytest.approx(gained)
    assert prediction("credit-1").kind == "prediction"
