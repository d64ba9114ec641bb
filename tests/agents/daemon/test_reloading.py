"""SIGHUP: tables, partners and policy are read again; a file that is wrong changes nothing, and the log says so."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tercet.agents.access.settings_digest import differing_fields, settings_digests
from tercet.agents.daemon.reloading import UNCHANGED, reload, reload_on_signal
from tercet.agents.doctor.partners import _same_settings
from tercet.schemas.files.settings import read_settings
from tercet.schemas.messages.kinds import Query
from tests.agents.daemon.stage import started
from tests.agents.recovering import states
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, Scene, job, off


def write(
    stage: Scene, folder: Path, party: str, *, without: str = "", more: str = "", table: str = "customers"
) -> Path:
    """A party's settings as a file, with its table under a name of the reader's choice."""
    lines = [
        f'party = "{party}"\nidentity = "{party}.key"\nstate = "{party}"\nreport = false',
        '[recovery]\nattempts = 1\n[policy]\nnarrow = true\nhelper_sees = "scores"',
        f'[tables.{table}]\npath = "{party}.csv"\nid = "id"' + ('\nlabel = "default"' if party == BANK else ""),
        *(
            f'[partners.{name}]\nkey = "{partner.key}"\nmay_submit = true'
            for name, partner in stage.parties[party][0].partners.items()
            if name != without
        ),
        more,
    ]
    path = folder / f"{party}.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


async def reloaded(stage: Scene, party: str, path: Path) -> list[dict[str, Any]]:
    """What is logged when a party's agent reads its settings again."""
    with capture_logs() as logged:
        await reload(stage.agents[party], path)
    return [dict(line) for line in logged]


async def test_tables_partners_and_policy_count_at_once(tmp_path: Path) -> None:
    """The next job is judged by the new ones; that takes no restart."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        read, _ = await reloaded(stage, CARD, write(stage, tmp_path, CARD, table="others"))
        assert read["event"] == "settings are read again"
        assert {"tables.customers", "tables.others"} <= set(read["changed"])
        off(await stage.run(job("one")), "policy.table", CARD)
        await reloaded(stage, CARD, write(stage, tmp_path, CARD, without=NOTARY))
        off(await stage.run(job("two")), "policy.partner", CARD)
        await reloaded(stage, CARD, write(stage, tmp_path, CARD))
        assert states(await stage.run(job("three"))) == {"done"}


async def test_a_bad_file_keeps_the_settings_and_says_so(tmp_path: Path) -> None:
    """A key that is none, an unknown field, no TOML: nothing of it counts."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        before = stage.agents[CARD].settings
        for wrong in ("nonsense", "[limit]\nthreads = 1", '[partners.x]\nkey = "tercet-key-1:short"'):
            (reported,) = await reloaded(stage, CARD, write(stage, tmp_path, CARD, table="others", more=wrong))
            assert (reported["event"], reported["log_level"]) == (UNCHANGED, "error")
            assert "card" in reported["why"] or "partners.x" in reported["why"]
            assert stage.agents[CARD].settings is before
        assert states(await stage.run(job())) == {"done"}


async def test_what_cannot_be_reloaded_is_named_and_the_doctor_sees_it(tmp_path: Path) -> None:
    """Limits, for one: the agent goes on with its own, and the doctor says which differ and what to do."""
    async with started(tmp_path, CARD, deadlines=PATIENT) as stage:
        path = write(stage, tmp_path, CARD, more="[limits]\nparallel_jobs = 3")
        logged = await reloaded(stage, CARD, path)
        assert [line["event"] for line in logged][1:] == ["settings that count from the agent's next start"]
        assert "limits.parallel_jobs" in logged[1]["fields"]
        assert stage.agents[CARD].settings.limits.parallel_jobs == 16
        running = dict((await stage.agents[CARD].answer(Query(settings=True))).settings)
        (finding,) = _same_settings(read_settings(path), running)
        assert (finding.outcome, "limits.parallel_jobs" in finding.said) == ("warn", True)
        assert "tables" not in finding.said
        (same,) = _same_settings(stage.agents[CARD].settings, running)
        assert same.outcome == "ok"


async def test_a_signal_reads_the_file_again(tmp_path: Path) -> None:
    """Each time that the agent is told to."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        reported = asyncio.Event()
        reading = asyncio.create_task(reload_on_signal(reported, stage.agents[CARD], write(stage, tmp_path, CARD)))
        for table in ("others", "customers"):
            write(stage, tmp_path, CARD, table=table)
            reported.set()
            await stage.until(lambda table=table: table in stage.agents[CARD].settings.tables)  # type: ignore[misc]
        reading.cancel()


def test_a_path_is_the_same_from_wherever_the_file_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent was started with a relative path, and the doctor with an absolute one."""
    path = tmp_path / "bank.toml"
    source = 'database = "sqlite:///own.db"\nquery = "select 1"\nid = "a"'
    monkeypatch.chdir(tmp_path)
    for table in (source, source.replace("own.db", "other.db")):
        path.write_text(f'party = "bank"\nidentity = "k"\nstate = "s"\n[tables.one]\n{table}\n')
        relative, absolute = (settings_digests(read_settings(place)) for place in (Path("bank.toml"), path))
        assert differing_fields(relative, absolute) == []


async def test_a_strangers_job_that_a_partner_passes_on_ends_no_agent(tmp_path: Path) -> None:
    """Nobody can be answered whose key is not there: neither a stranger nor who was a partner once."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        submitted = stage.submit(job("one", tables=((BANK, "customers"), (CARD, "none"))), NOTARY)  # soon refused
        await stage.ended(submitted, seconds=60)
        await reloaded(stage, CARD, write(stage, tmp_path, CARD, without=NOTARY))
        announcer, known = stage.agents[CARD].jobs.announcer, stage.agents[CARD].jobs.last_run[submitted]
        await announcer.decline(known)
        await announcer.resume(known, NOTARY)
        await announcer.inquire(known, NOTARY)
        structlog.get_logger().info("nothing was raised")
