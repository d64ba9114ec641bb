"""A run has one table from its first attempt to its end, whatever becomes of the source; then nothing of it is left.

What the rows are no test here asks: they are those of the undisturbed run if the model is.
"""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import tercet.agents.access.table
from tercet.agents.session.checkpoint_store import checkpoint_folder, table_folder
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.broker.memory.memory_queue import Drop, no_faults
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import Settings, TableSettings
from tercet.schemas.messages.kinds import Job
from tercet.tables.snapshot.snapshot import Snapshot, take_snapshot
from tests.agents.recovering import (
    DATA,
    OFTEN,
    Recovering,
    files,
    fill_disk,
    long_job,
    parts,
    recovering,
    same_parts,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, ROWS, job, make_table, off, prediction
from tests.agents.simulation.test_databases import QUERY, fill

JOB = long_job()
SLOW = PATIENT.model_dump(include={"accept", "ready", "start", "handshake", "alignment", "fit", "terms", "release"})


def database(stage: Recovering, folder: Path) -> Callable[[], None]:
    """The card processor's table is a query, and what is returned lets it answer otherwise."""
    place = folder / "card.db"
    with closing(sqlite3.connect(place)) as connection:
        fill(connection, folder / "card.csv")
    stage.change(
        CARD, tables={"customers": TableSettings(database=f"sqlite:///{place}", query=QUERY, id="id", whiten=False)}
    )

    def change() -> None:
        with closing(sqlite3.connect(place)) as connection:
            connection.execute('UPDATE card_customers SET "card-0" = 1 - "card-0"')
            connection.commit()

    return change


def replace(folder: Path, *parties: str) -> None:
    """These parties' tables are files, of which there are others each day."""
    for party in parties:
        make_table(folder / f"{party}.csv", seed=7, label=party == BANK)


def table_files(state: Path, job_id: str) -> list[Path]:
    """What is kept of a table for a job."""
    return list(table_folder(state, job_id).glob("*"))


def table(stage: Recovering, party: str, job_id: str) -> list[Path]:
    """The same, at a party as it is now."""
    return table_files(stage.state_folder(party), job_id)


def nothing_stored(stage: Recovering, job_id: str) -> bool:
    """Whether no party has anything of a table."""
    return not any(table_folder(stage.state_folder(party), job_id).exists() for party in stage.parties)


# --- one table for a run


@pytest.mark.parametrize(
    ("source", "party"), [(database, CARD), (lambda _, folder: partial(replace, folder, *DATA), BANK)]
)
async def test_a_table_that_changes_while_a_job_runs_does_not_end_it(
    tmp_path: Path, source: Callable[[Recovering, Path], Callable[[], None]], party: str
) -> None:
    """Whether an agent's next life goes on with it, or a later attempt in the same one."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        change = source(stage, tmp_path)
        name = await stage.begun(JOB)
        change()
        await stage.restart(party)
        assert states(await stage.ended(name, seconds=20)) == {"done"}
        assert stage.runs[BANK, name].attempts.furthest > 0
        assert same_parts(parts(tmp_path, name), undisturbed(JOB).parts)
        assert nothing_stored(stage, name)


async def test_a_table_goes_along_to_another_machine(tmp_path: Path) -> None:
    """With the checkpoint in the state folder; the file need not be there, settings of other things may change."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await stage.crash(CARD)
        shutil.move(tmp_path / CARD, tmp_path / "elsewhere")
        elsewhere = TableSettings(path=tmp_path / "not mounted" / "card.csv", id="id", max_releases=7, whiten=False)
        stage.change(CARD, state=tmp_path / "elsewhere", tables={"customers": elsewhere})
        await stage.start(CARD)
        assert states(await stage.ended(name, seconds=20)) == {"done"}
        assert stage.runs[CARD, name].attempts.furthest > 0
        shutil.move(tmp_path / "elsewhere", tmp_path / CARD)
        assert same_parts(parts(tmp_path, name), undisturbed(JOB).parts)


async def test_a_prediction_has_one_table_too(tmp_path: Path) -> None:
    """Its scores are those of the rows that were there when it began."""
    async with recovering(tmp_path) as stage:
        rescored = {
            name: one.model_copy(update={"rescoring": True}) for name, one in stage.parties[CARD][0].tables.items()
        }
        stage.change(CARD, tables=rescored, policy=PolicySettings(narrow=True, helper_sees="scores", score_noise=0.0))
        trained = (await stage.run(job()))[BANK].job
        first = stage.submit(prediction(trained))
        assert states(await stage.ended(first)) == {"done"}
        stage.hang(NOTARY)  # at the latest in the alignment
        second = stage.submit(prediction(trained, name="again"))
        stage.wake()
        stage.memory_broker.faults = lambda envelope, _: [Drop()] if envelope.kind == "partial scores" else []
        await stage.until(lambda: bool(stage.said("partial scores")[1:]), seconds=20)
        assert all(table(stage, party, second) for party in DATA)
        replace(tmp_path, *DATA)
        await stage.crash(CARD)
        stage.memory_broker.faults = no_faults
        await stage.start(CARD)
        assert states(await stage.ended(second, seconds=20)) == {"done"}
        assert stage.runs[BANK, second].attempts.number > 1
        scores = [tmp_path / BANK / "predictions" / name / "scores.csv" for name in (first, second)]
        assert len(scores[0].read_text().splitlines()) == ROWS + 1
        assert scores[0].read_bytes() == scores[1].read_bytes()
        assert nothing_stored(stage, second)


async def test_without_what_was_kept_another_table_ends_the_run(tmp_path: Path) -> None:
    """Signs and noise must not meet two tables."""
    async with recovering(tmp_path) as stage:
        change = database(stage, tmp_path)
        name = await stage.begun(JOB)
        await stage.crash(CARD)
        change()
        shutil.rmtree(table_folder(stage.state_folder(CARD), name))
        await stage.start(CARD)
        off(await stage.ended(name), "table.changed", CARD)
        assert nothing_stored(stage, name)


async def test_a_kept_table_that_was_damaged_is_told_and_read_again(tmp_path: Path) -> None:
    """From the source, which is the same here."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await stage.crash(CARD)
        features = next(path for path in table(stage, CARD, name) if path.suffix == ".features")
        content = bytearray(features.read_bytes())
        content[len(content) // 2] ^= 1
        features.write_bytes(content)
        with capture_logs() as logs:
            await stage.start(CARD)
            assert states(await stage.ended(name, seconds=20)) == {"done"}
        assert [line["why"] for line in logs if "kept table" in line["event"]] == ["it is torn or was changed"]
        assert same_parts(parts(tmp_path, name), undisturbed(JOB).parts)


FILE, BASE = {"path": "/one/card.csv"}, {"database": "sqlite:////one/card.db", "query": "SELECT 1"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (FILE, {"path": "/two/card.csv", "whiten": True, "max_releases": 7}, True),
        (FILE, {"path": "/one/other.csv"}, False),
        (FILE, FILE | {"missing": "refuse"}, False),
        (BASE, BASE | {"database": "sqlite:////two/card.db"}, True),
        (BASE, BASE | {"database": "sqlite:////one/other.db"}, False),
        (BASE, BASE | {"query": "SELECT 2"}, False),
        (BASE | {"database": "postgresql://one/card"}, BASE | {"database": "postgresql://two/card"}, False),
    ],
)
def test_a_snapshot_serves_only_settings_that_read_the_same(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], same: bool
) -> None:
    """Folders may move between two attempts; another file, database or query is another table."""
    settings = Settings.model_construct(state=tmp_path, recovery=Recovery())
    store = SnapshotStore(Job.model_construct(run=bytes(32)), settings)
    keys = {store._key("customers", TableSettings.model_validate({"id": "id", **one}), []) for one in (first, second)}
    assert (len(keys) == 1) == same


async def test_another_run_of_the_same_job_reads_its_own(tmp_path: Path) -> None:
    """Though what an earlier one has kept is still there."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        settings, run = stage.parties[CARD][0], stage.run_of(CARD, name).job
        shutil.copytree(tmp_path / CARD, tmp_path / "copy")
        stage.agents[BANK].cancel(name)
        await stage.ended(name)
    copied = settings.model_copy(update={"state": tmp_path / "copy"})
    said = settings.tables["customers"]
    asked = ("customers", said, [False, "categorical", None, False])
    with SnapshotStore(run, copied).snapshot(*asked, pytest.fail) as again:
        assert again.rows == ROWS
    another, snapshots = run.model_copy(update={"run": bytes(32)}), []

    def take_one() -> Snapshot:
        snapshots.append(take_snapshot("customers", said, tmp_path / "copy" / "work", with_label=False))
        return snapshots[0]

    with SnapshotStore(another, copied).snapshot(*asked, take_one) as own:
        assert own is snapshots[0]
    assert len(table_files(tmp_path / "copy", name)) == 3


# --- nothing is left


async def test_where_the_first_fault_ends_a_job_no_table_is_kept(tmp_path: Path) -> None:
    """With [recovery] attempts = 1, not even while it runs."""
    async with recovering(tmp_path, recovery=OFTEN.model_copy(update={"attempts": 1})) as stage:
        await stage.start()
        name = stage.submit(JOB)
        await stage.at("training", name)
        assert nothing_stored(stage, name)
        assert all((tmp_path / party / "work" / name).is_dir() for party in DATA)
        assert states(await stage.ended(name)) == {"done"}
        assert not any(checkpoint_folder(stage.state_folder(party), name).exists() for party in DATA)


async def test_a_kept_table_goes_with_the_run_however_that_ends(tmp_path: Path) -> None:
    """Its checkpoints stay where it has failed, and a run that is taken up again reads the table anew."""
    async with recovering(tmp_path, recovery=OFTEN.model_copy(update={"attempts": 2}), recover=1.0) as stage:
        for end, party in (("cancelled", BANK), ("cancelled", NOTARY), ("failed", NOTARY)):
            name = await stage.begun(long_job(f"{end}-by-{party}"))
            assert all(table(stage, party, name) for party in DATA)
            if end == "failed":
                await stage.crash(party)
            else:
                stage.agents[party].cancel(name)
            assert states(await stage.ended(name, *DATA)) == {end}
            assert nothing_stored(stage, name)
        assert all(files(stage.state_folder(party), name) for party in DATA)
        await stage.start(NOTARY)
        await stage.ended(name)
        replace(tmp_path, CARD)
        stage.runs.clear()
        stage.agents[BANK].resume(name)
        off(await stage.ended(name), "table.changed", CARD)
        assert nothing_stored(stage, name)


async def test_an_agent_begins_by_removing_tables_of_runs_that_are_over(tmp_path: Path) -> None:
    """It was killed right at their end; what is not over keeps its own."""
    async with recovering(tmp_path) as stage:
        over = (await stage.run(job("over")))[BANK].job
        name = await stage.begun(JOB)
        await stage.crash(CARD)
        stored, left = table(stage, CARD, name), [table_folder(tmp_path / CARD, one) for one in (over, "unknown")]
        for folder in left:
            folder.mkdir(parents=True)
            (folder / "0.features").write_text("rows")
        await stage.start(CARD)
        assert not any(folder.exists() for folder in left)
        assert set(table(stage, CARD, name)) >= set(stored) != set()
        assert states(await stage.ended(name, seconds=20)) == {"done"}


@pytest.mark.threads
@pytest.mark.parametrize("step", ["reading", "keeping"])
@pytest.mark.real_time
async def test_a_table_that_a_thread_is_at_when_its_run_ends_is_removed_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A thread cannot be stopped."""
    at_it, go_on, through = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        at_it.set()
        assert go_on.wait(10.0)

    def slow(name: str, settings: Any, folder: Path, **how: Any) -> Any:
        if CARD in folder.parts and step == "reading":
            wait()
        return take_snapshot(name, settings, folder, **how)

    def slow_sync(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        if step == "keeping" and CARD in place.parts and place.suffix == ".features":
            wait()
        fsync(descriptor)

    real, fsync = SnapshotStore.snapshot, os.fsync

    def watched(stored: SnapshotStore, *how: Any) -> Snapshot:
        try:
            return real(stored, *how)
        finally:
            if CARD in stored._state.parts:
                through.set()

    monkeypatch.setattr(tercet.agents.access.table, "take_snapshot", slow)
    monkeypatch.setattr(os, "fsync", slow_sync)
    monkeypatch.setattr(SnapshotStore, "snapshot", watched)
    async with recovering(tmp_path, **SLOW) as stage:
        await stage.start()
        name = stage.submit(job())
        await stage.until(at_it.is_set)
        stage.agents[CARD].cancel(name)
        assert states(await stage.ended(name)) == {"cancelled"}
        go_on.set()
        await stage.until(through.is_set)
        await stage.until(lambda: not list((tmp_path / CARD / "work").glob("*")))
        assert not list((tmp_path / CARD / "checkpoints").glob("*"))


@pytest.mark.threads
@pytest.mark.real_time
async def test_attempts_of_a_run_take_turns_at_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an attempt that is over was at is not read twice, and not run over."""
    reading, go_on, reads = threading.Event(), threading.Event(), []

    def slow(name: str, settings: Any, folder: Path, **how: Any) -> Any:
        if CARD in folder.parts:
            reads.append(name)
            reading.set()
            assert go_on.wait(10.0)
        return take_snapshot(name, settings, folder, **how)

    def watched(stored: SnapshotStore, *how: Any) -> Snapshot:
        asked.append(stored)
        return real(stored, *how)

    asked: list[SnapshotStore] = []
    real = SnapshotStore.snapshot
    monkeypatch.setattr(tercet.agents.access.table, "take_snapshot", slow)
    async with recovering(tmp_path, **SLOW) as stage:
        await stage.start()
        name = stage.submit(job())
        await stage.until(reading.is_set)
        monkeypatch.setattr(SnapshotStore, "snapshot", watched)
        await stage.restart(NOTARY)
        await stage.until(lambda: stage.run_of(CARD, name)._snapshots in asked)
        go_on.set()
        assert states(await stage.ended(name)) == {"done"}
        assert reads == ["customers"]


async def test_a_disk_that_is_full_while_a_table_is_kept_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for any working copy; its owner learns where."""
    fill_disk(monkeypatch, f"{CARD}/checkpoints/*/table/*.features")
    async with recovering(tmp_path) as stage:
        ended = await stage.run(job())
        off(ended, "disk.write", CARD)
        assert "No space left on device" in (ended[CARD].detail or "")
        assert nothing_stored(stage, ended[CARD].job)
        assert not list((tmp_path / CARD / "work").glob("*"))
