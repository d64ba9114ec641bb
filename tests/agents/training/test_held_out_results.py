"""What the label party is left with of the held-out rows after a job: metrics with intervals, and scores in a file."""

import csv
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tercet.agents.evaluation.metrics import metrics
from tercet.schemas.files.job import EarlyStopping, Evaluation, Network, Privacy
from tests.agents.recovering import setup_of, states
from tests.agents.scenes import BANK, CARD, Scene, job, nothing_left, off, scene, three

SCORED = Evaluation(holdout=0.4, split="spring")
STOPPED = Evaluation(holdout=0.4, metrics="epoch")


@pytest.mark.parametrize(("evaluation", "stopping"), [(SCORED, None), (STOPPED, EarlyStopping(on="auc", patience=4))])
async def test_the_label_party_alone_reads_intervals_of_the_model_that_is_released(
    tmp_path: Path, evaluation: Evaluation, stopping: EarlyStopping | None
) -> None:
    """Around the metrics that it reads beside."""
    async with scene(three(tmp_path), tmp_path) as stage:
        description = job(evaluation=evaluation, early_stopping=stopping)
        ended = await stage.run(description)
        assert states(ended) == {"done"}
        found = ended[BANK].intervals
        assert found.keys() == {"auc", "ks"}
        assert all(low < ended[BANK].metrics[name] < high for name, (low, high) in found.items())
        assert ended[CARD].intervals == {}
        assert setup_of(stage.runs[CARD, description.id]).context.history.scores is None


# --- the file of held-out scores

FILED = SCORED.model_copy(update={"held_out_scores": True})


def allow(stage: Scene) -> None:
    """The card processor lets the bank have a file."""
    policy = stage.parties[CARD][0].policy
    stage.change(CARD, policy=policy.model_copy(update={"held_out_scores": True}))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table by column."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("model", "network", "privacy"),
    [
        ("logistic", None, Privacy()),
        ("logistic", None, Privacy(helper_sees="scores")),
        ("mlp", Network(hidden=(4,)), Privacy()),
        ("linear", None, Privacy()),
    ],
)
async def test_the_file_has_what_metrics_are_computed_by(
    tmp_path: Path, model: str, network: Network | None, privacy: Privacy
) -> None:
    """Ids, labels and scores of the held-out rows, for the label party's user alone."""
    async with scene(three(tmp_path), tmp_path) as stage:
        allow(stage)
        description = job(evaluation=FILED, model=model, network=network, privacy=privacy, rate=0.05)
        ended = await stage.run(description)
        assert states(ended) == {"done"}
        assert ended[CARD].scores is None
        path = tmp_path / BANK / "models" / description.id / "held_out.csv"
        assert ended[BANK].scores == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        rows = rows_of(path)
        table = {row["id"]: row["default"] for row in rows_of(tmp_path / f"{BANK}.csv")}
        assert [row["id"] for row in rows] == [one for one in table if one in {row["id"] for row in rows}]
        assert len(rows) == int(setup_of(stage.runs[BANK, description.id]).held_out.sum())
        assert all(float(row["label"]) == float(table[row["id"]]) for row in rows)
        labels = np.array([float(row["label"]) for row in rows])
        scores = np.array([float(row["score"]) for row in rows])
        assert metrics(description.link, labels - 0.5 * (description.link == "logistic"), scores) == pytest.approx(
            ended[BANK].metrics
        )
    assert not (tmp_path / CARD / "models" / description.id / "held_out.csv").exists()


async def test_no_file_is_written_where_nobody_asked(tmp_path: Path) -> None:
    async with scene(three(tmp_path), tmp_path) as stage:
        allow(stage)
        ended = await stage.run(job(evaluation=SCORED))
        assert states(ended) == {"done"}
        assert ended[BANK].scores is None
        folder = Path(ended[BANK].model_part or "")
    assert not (folder / "held_out.csv").exists()


async def test_a_partner_that_does_not_allow_the_file_ends_the_job_before_anything(tmp_path: Path) -> None:
    async with scene(three(tmp_path), tmp_path) as stage:
        off(await stage.run(job(evaluation=FILED)), "policy.held-out-scores", BANK)
        nothing_left(stage)


@pytest.mark.parametrize("wrong", [{"holdout": 0.0}, {"metrics": "none", "holdout": 0.2}])
def test_a_file_needs_rows_that_are_scored(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="held_out_scores"):
        Evaluation(held_out_scores=True, **wrong)
