"""What is opened once for a model comes with its part, whatever happens at the end of its training."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.models import model_part
from tercet.agents.models.manifest import SEED
from tercet.agents.models.model_part import MANIFEST
from tercet.broker.interface.base import Envelope
from tercet.mpc.scoring.openings import commitment
from tercet.schemas.files.job import Evaluation
from tercet.schemas.messages.address import parse_address
from tercet.schemas.messages.kinds import ModelCommitments, ScoreBound
from tests.agents.recovering import DATA, FOUR, STANDBY, attempts_of, long_job, recovering, states
from tests.agents.scenes import BANK, CARD, NOTARY, job, off, on, scene, three

SHARED = long_job(epochs=6, release="shared", standby=(STANDBY,), evaluation=Evaluation(holdout=0.25, metrics="end"))


def manifest(folder: Path, party: str, name: str) -> Any:
    """Of a part, as JSON."""
    return json.loads((folder / party / "models" / name / MANIFEST).read_text())


def check_parts(folder: Path, name: str, reported: ModelCommitments) -> None:
    """All parts have what the helper has told, each its own seed, which no other file has."""
    for number, party in enumerate(DATA):
        found = manifest(folder, party, name)
        assert (found["score_exponent"], found["seeds"]) == (reported.exponent, [one.hex() for one in reported.seeds])
        part, arrays = model_part.load(folder / party / "models" / name)
        seed = arrays[SEED].tobytes()
        assert commitment(seed) == reported.seeds[number]
        assert arrays[f"opened/{DATA[1 - number]}"].shape == (len(part.columns), 1)
        for path in (folder / party / "models" / name).iterdir():
            assert (seed in path.read_bytes()) == (path.name == part.weights_file)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_an_attempt_without_a_step_left_knows_how_far_scores_may_go(tmp_path: Path) -> None:
    """From the data parties, who were told in the attempt before; seeds and openings are fresh."""

    def scoring(envelope: Envelope) -> bool:
        return parse_address(envelope.address).item == "scoring-features"

    async with recovering(tmp_path, *FOUR, step=8.0) as stage:
        await stage.start()
        name = stage.submit(SHARED)
        on(stage, scoring, lambda: stage.tasks.create_task(stage.crash(NOTARY)))
        assert states(await stage.ended(name, BANK, CARD, STANDBY, seconds=60)) == {"done"}
        reported = [
            (a.attempt, m) for a, m in stage.said_openly if isinstance(m, ModelCommitments) and a.receiver == BANK
        ]
        (first, before), *_, (last, after) = reported
        assert (before.exponent, first < last) == (after.exponent, True)
        assert not set(before.seeds) & set(after.seeds)
        bounds = {message.exponent for _, message in stage.said_openly if isinstance(message, ScoreBound)}
        assert bounds == {after.exponent}
        assert first not in attempts_of(stage.said_openly, "score bound")
        check_parts(tmp_path, name, after)
        await stage.start(NOTARY)
        assert states(await stage.ended(name, NOTARY, seconds=60)) == {"done"}
        assert not any(seed.hex() in repr(message) for seed in after.seeds for _, message in stage.said_openly)


@pytest.mark.parametrize("release", ["owners", "shared"])
async def test_a_part_has_what_predictions_need(tmp_path: Path, release: str) -> None:
    """One whose party scores its own columns alone has no seed."""
    async with recovering(tmp_path) as stage:
        await stage.start()
        name = (await stage.run(job(release=release)))[BANK].job
        reported = next(message for _, message in stage.said_openly if isinstance(message, ModelCommitments))
        if release == "shared":
            check_parts(tmp_path, name, reported)
        else:
            assert manifest(tmp_path, CARD, name)["seeds"] == []
            assert SEED not in model_part.load(tmp_path / CARD / "models" / name)[1]


async def test_a_helper_that_commits_to_other_masks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody could predict by the model."""
    monkeypatch.setattr(
        "tercet.agents.roles.helper.make_commitments",
        lambda *_: ModelCommitments(exponent=4, seeds=(b"1" * 32, b"2" * 32)),
    )
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        off(await stage.run(job(release="shared")), "model.openings", NOTARY)
