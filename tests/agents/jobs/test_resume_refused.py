"""A partner that does not take a job up again tells whoever asks, and the job ends with that reason."""

import json
from pathlib import Path

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.broker.memory.memory_queue import no_faults
from tests.agents.jobs.test_resume import TWICE, failed_job
from tests.agents.recovering import THREE, Recovering, long_job, recovering, states
from tests.agents.scenes import BANK, CARD, NOTARY, off


async def nobody_runs(stage: Recovering) -> None:
    """Return when a helper that was asked once more has heard that it is over."""
    await stage.until(lambda: not any(agent.runs for agent in stage.agents.values()))


async def test_a_label_party_that_may_not_submit_is_told_who_may(tmp_path: Path) -> None:
    """At once: it was in the partner's log alone, and the job waited for that partner until a deadline."""
    async with recovering(tmp_path, recovery=TWICE) as stage:
        stage.pin(CARD, BANK, may_submit=False)
        name = await failed_job(stage, NOTARY)
        stage.agents[BANK].resume(name)
        reason = off(await stage.ended(name, BANK, NOTARY), "job.resume", CARD)
        assert "let notary resume it" in reason
        assert "may_submit = true under [partners.bank]" in reason
        await nobody_runs(stage)


async def test_another_party_is_told_too_and_the_label_party_brings_the_partner_along(tmp_path: Path) -> None:
    """What is missing between two parties does not end a job that all take up in the end."""
    async with recovering(tmp_path, recovery=TWICE) as stage:
        stage.pin(CARD, NOTARY, may_submit=False)
        name = await failed_job(stage)
        stage.memory_broker.faults = no_faults
        stage.agents[NOTARY].resume(name)
        ended = await stage.ended(name)
        assert states(ended) == {"done"}
        assert "may_submit = true under [partners.notary]" in (ended[NOTARY].detail or "")


async def test_a_partner_that_has_no_record_says_so(tmp_path: Path) -> None:
    """It was pruned there, say; another run is what is left."""
    async with recovering(tmp_path, recovery=TWICE) as stage:
        name = await failed_job(stage)
        jobs = stage.agents[CARD].jobs
        jobs.records.forget(name)
        stage.agents[BANK].resume(name)
        assert "submit it with --again" in off(await stage.ended(name, BANK, NOTARY), "job.resume", CARD)
        await nobody_runs(stage)


def write_by_version_5(stage: Recovering, party: str, name: str) -> None:
    """Leave a job's record as a release of before wrote it."""
    path = stage.state_folder(party) / "jobs" / f"{name}.json"
    record = json.loads(path.read_text())
    del record["protocol"]
    path.write_text(json.dumps(record))


async def test_a_failed_job_of_an_earlier_version_is_not_taken_up_again(tmp_path: Path) -> None:
    """Its description means another training now: the helper saw scores by default."""
    async with recovering(tmp_path, recovery=TWICE) as stage:
        name = await failed_job(stage)
        write_by_version_5(stage, BANK, name)
        with pytest.raises(JobProblem, match=r"began at bank with version 5.*speaks 6.*--again"):
            stage.agents[BANK].resume(name)
        await nobody_runs(stage)


async def test_a_job_that_ran_when_an_agent_was_upgraded_ends_with_the_versions(tmp_path: Path) -> None:
    """At every party."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(long_job())
        await stage.crash(CARD)
        write_by_version_5(stage, CARD, name)
        await stage.start(CARD)
        reason = off(await stage.ended(name, *THREE), "party.version", CARD)
        assert "submit it with --again" in reason
