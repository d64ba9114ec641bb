"""`tercet job prune`: what is left of jobs that ended long ago goes, and nothing that still counts."""

import os
import time
from pathlib import Path

import pytest

from tercet.agents.core.report_files import selection_file
from tercet.agents.policy.audit_log import entries
from tercet.schemas.messages.kinds import Status
from tests.agents.scenes import BANK, CARD, PATIENT, Scene, job, scene, three

DAY = 86_400


def age(stage: Scene, party: str, job_id: str, days: float) -> None:
    """Let a record look as if it had not changed for so long."""
    then = time.time() - days * DAY
    os.utime(stage.parties[party][0].state / "jobs" / f"{job_id}.json", (then, then))


async def prune(stage: Scene, party: str, days: float, *, models: bool = False, remove: bool = True) -> Status:
    """What `tercet job prune` asks."""
    async with stage.console(party) as console:
        return await console.prune(days, models=models, remove=remove, who="ada")


def left(folder: Path, party: str) -> set[str]:
    """The files of a party, from its state folder on."""
    state = folder / party
    return {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}


@pytest.mark.parametrize("models", [False, True])
async def test_old_jobs_go_and_what_bounds_others_stays(tmp_path: Path, models: bool) -> None:
    """Asking removes nothing; a young job, the audit log, the budget and what was scored stay whatever is asked."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        old, young = stage.submit(job("old")), stage.submit(job("young"))
        for one in (old, young):
            await stage.ended(one, seconds=60)
        age(stage, BANK, old, 40)
        age(stage, BANK, young, 20)
        for one in (old, young):
            chosen = selection_file(tmp_path / BANK, one)
            chosen.parent.mkdir(exist_ok=True)
            chosen.write_text("how its columns were selected")
        before = left(tmp_path, BANK)
        (reported,) = (await prune(stage, BANK, 30, models=models, remove=False)).pruned
        assert (reported.job, reported.state, round(reported.days)) == (old, "done", 40)
        assert (reported.bytes > 1000) is models
        assert left(tmp_path, BANK) == before
        assert [one.job for one in (await prune(stage, BANK, 30, models=models)).pruned] == [old]
        gone = before - left(tmp_path, BANK)
        assert {f"jobs/{old}.json", f"reports/{old}-selection.html"} <= gone
        assert all(old in path for path in gone)
        assert any(path.startswith("models/") for path in gone) is models
        assert {"audit.log", "exposure.jsonl"} <= left(tmp_path, BANK)
        assert [status.job for status in stage.agents[BANK].status()] == [young]
        assert stage.agents[BANK].status(old) == ()
        assert (await prune(stage, BANK, 30, models=models)).pruned == ()
        assert len(stage.agents[CARD].status()) == 2
    (entry,) = (one for one in entries((tmp_path / BANK / "audit.log").read_bytes()) if one.event == "pruned")
    assert (entry.job, entry.fields["by"]) == (old, "ada")


async def test_a_running_job_is_never_pruned(tmp_path: Path) -> None:
    """However old its record is."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job(epochs=1000))
        await stage.until(lambda: stage.state(BANK, job_id) == "training")
        age(stage, BANK, job_id, 400)
        assert (await prune(stage, BANK, 30, models=True)).pruned == ()
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id, seconds=60)
        age(stage, BANK, job_id, 400)
        assert [one.state for one in (await prune(stage, BANK, 30)).pruned] == ["cancelled"]


async def test_a_record_outlasts_what_was_signed(tmp_path: Path) -> None:
    """Else the announcement, which somebody may have kept, would be taken a second time."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job())
        await stage.ended(job_id, seconds=60)
        age(stage, BANK, job_id, 2)
        assert "job_seconds" in ((await prune(stage, BANK, 0.5)).problem or "")
        assert stage.agents[BANK].status(job_id)
