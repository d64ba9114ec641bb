"""An agent that has run thousands of jobs answers for each of them, and holds the latest."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.daemon.agent import Agent
from tercet.agents.jobs.cache import MOST_CACHED, JobCache
from tests.agents.scenes import BANK, job, scene, three

jobs = st.sampled_from("abcdefg")


@given(st.lists(st.tuples(jobs, st.integers(0, 99)), max_size=40), st.integers(1, 4))
def test_what_was_set_last_is_found_wherever_it_is(said: list[tuple[str, int]], most: int) -> None:
    """And no more is held than there is room for."""
    disk: dict[str, int] = {}
    known = JobCache(disk.get, most)
    for name, value in said:
        disk[name] = known[name] = value
        assert len(known) <= most
    assert {name: known.get(name) for name in disk} == disk
    assert "unheard-of" not in known
    latest = list(dict.fromkeys(name for name, _ in reversed(said)))
    assert list(reversed(list(known))) == latest[:most]


async def test_a_restarted_agent_holds_the_latest_jobs_and_answers_for_the_first(tmp_path: Path) -> None:
    """Of more jobs than it keeps in memory, which it lists no longer."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(accept_narrow=True))
        first = ended[BANK].job
        record = stage.agents[BANK].jobs.records.find(first)
        assert record is not None
        await stage.stop(BANK)
        for number in range(MOST_CACHED + 20):
            name = f"later-{number:08d}"
            later = record.job.model_copy(update={"id": name})
            status = record.status.model_copy(update={"job": name, "submitted": f"2999-01-01T00:{number:04d}"})
            stage.agents[BANK].jobs.records.write(record.model_copy(update={"job": later, "status": status}))
        await stage.start(BANK)
        agent: Agent = stage.agents[BANK]
        assert len(agent.jobs.last_status) == len(agent.jobs.last_run) == MOST_CACHED
        assert first not in {status.job for status in agent.status()}
        assert agent.status(first) == (record.status,)
        assert agent.submit(job(accept_narrow=True)) == record.status  # it is known, and not run again
        assert agent.status("unheard-of") == ()


async def test_a_job_that_runs_is_known_however_many_have_come_since(tmp_path: Path) -> None:
    """Its description is on the disk from its first moment."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        running = stage.submit(job(epochs=1000, accept_narrow=True))
        agent = stage.agents[BANK]
        run = agent.jobs.last_run[running].run
        for number in range(MOST_CACHED + 1):
            agent.jobs.last_run[f"later-{number}"] = agent.jobs.last_run[running]
        assert running not in list(agent.jobs.last_run)
        assert agent.jobs.last_run[running].run == run
        agent.cancel(running)
        await stage.ended(running)
