"""A job with folds goes on in the fold that it was in; folds that are finished are not trained again."""

from pathlib import Path

import pytest

from tercet.agents.roles.folds import EPOCHS
from tercet.agents.session.checkpoint_store import SUFFIX, checkpoint_folder
from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.schemas.files.job import Evaluation, TrainingJob
from tercet.schemas.messages.kinds import PreactivationShare, ScoreOpening
from tests.agents.recovering import (
    DATA,
    LONG,
    THREE,
    Recovering,
    long_job,
    parts,
    recovering,
    same_parts,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY
from tests.agents.scenes import quick_switches as quick_switches  # a fixture
from tests.agents.world import NOTHING

FOLDS = Evaluation(folds=3)
SHOWN = long_job(evaluation=FOLDS)
BLIND = long_job(evaluation=FOLDS, privacy=NOTHING, epochs=6, batch=16)
BRISK = 0.01  # seconds between heartbeats: a fold is short, and its checkpoints wait for word of the others
OF_STEPS = (PreactivationShare, ScoreOpening)


async def in_fold(stage: Recovering, description: TrainingJob, fold: int) -> str:
    """Start a job; return when both data parties have a checkpoint of this fold."""
    await stage.start()
    name = stage.submit(description)

    def saved(party: str) -> bool:
        folder = checkpoint_folder(stage.state_folder(party), name, fold)
        return any("-over" not in path.name for path in folder.glob(f"*{SUFFIX}"))

    await stage.until(lambda: all(map(saved, DATA)))
    return name


@pytest.mark.parametrize("party", [BANK, NOTARY])
async def test_a_job_goes_on_in_its_fold(tmp_path: Path, party: str) -> None:
    before = undisturbed(SHOWN)
    async with recovering(tmp_path, heartbeat=BRISK) as stage:
        name = await in_fold(stage, SHOWN, 2)
        await stage.restart(party)
        assert states(await stage.ended(name, seconds=20)) == {"done"}
        runs = {party: stage.runs[party, name] for party in THREE}
        assert bit_exact(Simulation(SHOWN, runs))
        assert same_parts(parts(tmp_path, name), before.parts)
        assert runs[BANK].context.history.folds == before.history.folds
        assert runs[BANK].attempts.number > 1
        assert trained_again(stage) == {1, 2, 3}
        assert runs[BANK].attempts.furthest > 2 * LONG, "beyond the first fold, of two steps an epoch"
        assert not checkpoint_folder(stage.state_folder(CARD), name).exists()


async def test_a_job_goes_on_in_its_fold_where_the_helper_sees_nothing(tmp_path: Path) -> None:
    async with recovering(tmp_path, heartbeat=BRISK) as stage:
        name = await in_fold(stage, BLIND, 2)
        await stage.restart(CARD)
        assert states(await stage.ended(name, seconds=20)) == {"done"}
        runs = {party: stage.runs[party, name] for party in THREE}
        assert bit_exact(Simulation(BLIND, runs))
        assert len(runs[BANK].context.history.folds) == 3
        assert trained_again(stage) == {1, 2, 3}


def trained_again(stage: Recovering) -> set[int]:
    """Number from 0 the trainings of which later attempts have run steps."""
    said = stage.said_openly
    return {one.epoch // EPOCHS for one, message in said if one.attempt > 1 and isinstance(message, OF_STEPS)}
