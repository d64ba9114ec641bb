"""A job with folds goes on in the fold that it was in; folds that are finished are not trained again."""

from collections import defaultdict
from pathlib import Path

import pytest

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.roles.folds import EPOCHS
from tercet.agents.session.checkpoint_store import SUFFIX, checkpoint_folder
from tercet.schemas.files.job import Evaluation, Network, TrainingJob
from tercet.schemas.messages.kinds import PreactivationShare, ScoreOpening
from tests.agents.recovering import (
    DATA,
    FOUR,
    LONG,
    STANDBY,
    Recovering,
    long_job,
    parts,
    recovering,
    same_parts,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY
from tests.agents.world import NOTHING

FOLDS = Evaluation(folds=2)
SHOWN = long_job(evaluation=FOLDS)
BLIND = long_job(evaluation=FOLDS, privacy=NOTHING, epochs=3, batch=16)
NETWORK = BLIND.model_copy(
    update={"model": "mlp", "network": Network(hidden=(3,), activation="silu"), "standby": (STANDBY,)}
    | {"evaluation": Evaluation(folds=2), "training": long_job(epochs=3, batch=16).training}
)
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


async def test_a_job_goes_on_in_its_fold(tmp_path: Path) -> None:
    before = undisturbed(SHOWN)
    async with recovering(tmp_path, heartbeat=BRISK) as stage:
        name = await in_fold(stage, SHOWN, 2)
        await stage.restart(BANK)
        runs = await stage.exact(name)
        assert same_parts(parts(tmp_path, name), before.parts)
        assert runs[BANK].context.history.folds == before.history.folds
        assert runs[BANK].attempts.number > 1
        assert trained_again(stage) == {1, 2}
        assert runs[BANK].attempts.furthest > LONG, "beyond the first fold, of a step an epoch"
        assert not checkpoint_folder(stage.state_folder(CARD), name).exists()


async def test_a_job_goes_on_in_its_fold_where_the_helper_sees_nothing(tmp_path: Path) -> None:
    async with recovering(tmp_path, heartbeat=BRISK) as stage:
        name = await in_fold(stage, BLIND, 2)
        await stage.restart(CARD)
        runs = await stage.exact(name)
        assert len(runs[BANK].context.history.folds) == 2
        assert trained_again(stage) == {1, 2}


def trained_again(stage: Recovering) -> set[int]:
    """Number from 0 the trainings of which later attempts have run steps."""
    said = stage.said_openly
    return {one.epoch // EPOCHS for one, message in said if one.attempt > 1 and isinstance(message, OF_STEPS)}


async def test_another_helper_takes_over_in_a_fold_of_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fold begins at the first weights that it had, which no other has, whatever attempts went before."""
    seeds, draw = defaultdict(set), AlignedTable.draw_start

    def noting(own: AlignedTable) -> bytes:
        seed = draw(own)
        seeds[own.context.me, own.context.fold].add(seed)
        return seed

    monkeypatch.setattr(AlignedTable, "draw_start", noting)
    async with recovering(tmp_path, *FOUR, heartbeat=BRISK) as stage:
        name = await in_fold(stage, NETWORK, 2)
        await stage.crash(NOTARY)
        runs = await stage.exact(name)
        assert {run.status().helper for run in runs.values()} == {STANDBY}
        assert len(runs[BANK].status().folds) == 2
        assert trained_again(stage) == {1, 2}
        await stage.start(NOTARY)
        assert states(await stage.ended(name, NOTARY)) == {"done"}
    assert {fold for _, fold in seeds} == {1, 2, None}
    assert len(set[bytes]().union(*seeds.values())) == len(seeds), "one seed for each party and training"
