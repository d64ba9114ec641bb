"""What a job leaves on a party's disk: what it was for and nothing else, however the job or the agent ends."""

import asyncio
import itertools
import re
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tercet.agents.access.table
from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.jobs.records import Record
from tercet.agents.reports import build
from tercet.broker.interface.base import Envelope
from tercet.schemas.files.job import Evaluation
from tercet.schemas.messages.address import parse_address
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, job, make_table, off, on, prediction, scene, three

PARTIES = (BANK, CARD, NOTARY)
LONG = 1000  # epochs

# Where the parties are when this is said first: from the table being read to a model part being on the disk.
STAGES: dict[str, Callable[[Envelope], bool]] = {
    "reading": lambda envelope: envelope.kind == "accept",
    "ready": lambda envelope: envelope.kind == "ready",
    "alignment": lambda envelope: envelope.kind == "pseudonyms",
    "fitting": lambda envelope: envelope.kind == "sizes",
    "encoded": lambda envelope: parse_address(envelope.address).item == "confirmation",
    "training": lambda envelope: envelope.kind == "masked activation",
    "scoring": lambda envelope: envelope.kind == "scores",
    "release": lambda envelope: envelope.kind == "weight share",
}
SCORED = Evaluation(holdout=0.25, metrics="epoch")


def files(folder: Path) -> set[str]:
    """All files below a folder, with their paths within it, but for those that say what was asked and told."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return {one for one in found if one not in {"audit.log", "exposure.jsonl"} and not one.startswith("scored/")}


def work(folder: Path, party: str) -> list[Path]:
    """What a party's jobs have on its disk while they run."""
    return list((folder / party / "work").glob("*"))


def clean(folder: Path, job_id: str) -> None:
    """Check that a job that came to nothing left its record and nothing else, at every party."""
    for party in PARTIES:
        assert files(folder / party) <= {f"jobs/{job_id}.json"}
        assert work(folder, party) == []


async def test_a_job_that_is_done_leaves_a_record_and_what_it_was_for(tmp_path: Path) -> None:
    """Its working copies lie in a folder of its own, for the owner only, while it runs."""
    seen: dict[str, set[int]] = {}

    def look() -> None:
        for party in PARTIES:
            seen[party] = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / party / "work").rglob("*.*")}

    async with scene(three(tmp_path), tmp_path) as stage:
        on(stage, STAGES["training"], look)
        trained = (await stage.run(job()))[BANK].job
        assert (seen[BANK], seen[CARD], seen[NOTARY]) == ({0o600}, {0o600}, set())
        scored = (await stage.run(prediction(trained)))[BANK].job
        records = {f"jobs/{trained}.json", f"jobs/{scored}.json"}
        part = {f"models/{trained}/manifest.json", f"models/{trained}/weights"}
        found = {
            party: {re.sub(r"-\w+\.safetensors$", "", one) for one in files(tmp_path / party)} for party in PARTIES
        }
        assert found[NOTARY] == records
        assert found[CARD] == records | part
        assert found[BANK] == records | part | {f"predictions/{scored}/scores.csv"}
        assert [work(tmp_path, party) for party in PARTIES] == [[], [], []]
    for party in PARTIES:  # all is for its owner only: folders that hold more than others' folders, and every file
        stored = list((tmp_path / party).rglob("*"))
        folders = {tmp_path / party, *(path.parent for path in stored if not path.is_dir())}
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
        assert {stat.S_IMODE(path.stat().st_mode) for path in stored if not path.is_dir()} == {0o600}


async def test_a_job_that_is_cancelled_leaves_nothing_whatever_it_was_at(tmp_path: Path) -> None:
    """Whoever wishes it."""

    async def cancelled(name: str, party: str) -> None:
        folder = tmp_path / name
        async with scene(three(folder, PATIENT), folder) as stage:
            on(stage, STAGES[name], lambda: stage.agents[party].cancel(job(evaluation=SCORED).id))
            ended = await stage.run(job(evaluation=SCORED))
            assert {status.state for status in ended.values()} == {"cancelled"}
            clean(folder, ended[BANK].job)

    await asyncio.gather(*map(cancelled, STAGES, itertools.cycle(PARTIES)))


async def test_a_prediction_that_is_cancelled_leaves_nothing_but_the_model(tmp_path: Path) -> None:
    """Neither rows nor scores."""
    async with scene(three(tmp_path), tmp_path) as stage:
        trained = (await stage.run(job()))[BANK].job
        before = {party: files(tmp_path / party) for party in PARTIES}
        on(stage, lambda p: p.kind == "partial scores", lambda: stage.agents[CARD].cancel(prediction(trained).id))
        ended = await stage.run(prediction(trained))
        assert {status.state for status in ended.values()} == {"cancelled"}
        for party in PARTIES:
            assert files(tmp_path / party) == before[party] | {f"jobs/{ended[party].job}.json"}


def spoil_label(default: str, rows: list[dict[str, str]]) -> None:
    """Spoil a label."""
    rows[5]["default"] = default


async def test_a_job_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Whether a table is found unusable when it is read, or only when all have read theirs."""
    for name, spoil in {"text": "many", "label": "2"}.items():
        folder = tmp_path / name
        settings = three(folder)
        make_table(folder / "bank.csv", seed=1, label=True, change=partial(spoil_label, spoil))
        async with scene(settings, folder) as stage:
            ended = await stage.run(job())
            assert {status.state for status in ended.values()} == {"failed"}
            clean(folder, ended[BANK].job)


async def test_a_job_of_an_agent_that_crashed_leaves_nothing_once_it_is_back(tmp_path: Path) -> None:
    """A crash leaves the working copies; the agent's next life begins by removing them."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job(epochs=LONG))
        await stage.until(lambda: all(stage.state(p, job_id) == "training" for p in PARTIES))
        assert {path.name for path in work(tmp_path, CARD)} == {job_id}
        await stage.crash(CARD)
        left = tmp_path / CARD / "work" / job_id
        left.mkdir(exist_ok=True)  # what a power cut, unlike an exception, leaves
        (left / "table-1.arrow").write_text("rows")
        await stage.start(CARD)
        assert work(tmp_path, CARD) == []
        off(await stage.ended(job_id, *PARTIES), "agent.restarted", CARD)
        clean(tmp_path, job_id)


class Held:
    """A function that waits at the card processor until it may go on, as a database may take its time."""

    def __init__(self, patch: pytest.MonkeyPatch, where: object, name: str, is_cards: Callable[..., bool]) -> None:
        self.begun, self.may_go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        real = getattr(where, name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            if not is_cards(*args):
                return real(*args, **kwargs)
            self.begun.set()
            assert self.may_go_on.wait(10.0)
            try:
                return real(*args, **kwargs)
            finally:
                self.ended.set()

        patch.setattr(where, name, slow)


@pytest.mark.threads
@pytest.mark.real_time
@pytest.mark.parametrize(
    ("where", "name", "is_cards"),
    [
        (tercet.agents.access.table, "take_snapshot", lambda _name, _settings, folder: CARD in folder.parts),
        (AlignedTable, "_encode", lambda own, *_: own.context.me == CARD),
    ],
    ids=["read", "encoded"],
)
async def test_a_job_that_ends_while_rows_are_read_or_encoded_leaves_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, is_cards: Callable[..., bool]
) -> None:
    """A thread cannot be stopped, and what it writes in the end is removed behind it."""
    held = Held(monkeypatch, where, name, is_cards)
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job())
        await stage.until(held.begun.is_set)
        stage.agents[CARD].cancel(job_id)
        await stage.ended(job_id)
        held.may_go_on.set()
        await stage.until(held.ended.is_set)
        await stage.until(lambda: work(tmp_path, CARD) == [])
        clean(tmp_path, job_id)


async def test_every_party_finds_a_page_about_the_job_where_its_status_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of training and prediction, for its owner only; a job that failed has none.

    The status says while a page is being written, so whoever waits for a job waits for its page; a record says that
    none is to come.
    """
    due: list[tuple[bool, bool]] = []
    write = build.write_report
    async with scene(three(tmp_path), tmp_path) as stage:

        def noting(result: build.Result, folder: Path | None) -> Path:
            if result.context.me == BANK:
                (run,) = stage.agents[BANK].runs
                due.append((run.status().report_due, Record.of(run).status.report_due))
            return write(result, folder)

        monkeypatch.setattr(build, "write_report", noting)
        for party in PARTIES:
            stage.change(party, report=True)
        again = {
            name: one.model_copy(update={"rescoring": True}) for name, one in stage.parties[CARD][0].tables.items()
        }
        stage.change(CARD, tables=again)
        trained = await stage.run(job(evaluation=Evaluation(holdout=0.25)))
        scored = await stage.run(prediction(trained[BANK].job))
        failed = await stage.run(job("failing", rate=1e9))
        for ended in (trained, scored):
            for party in PARTIES:
                page = tmp_path / party / "reports" / f"{ended[party].job}.html"
                assert (ended[party].state, ended[party].report) == ("done", str(page))
                assert not ended[party].report_due
                assert stat.S_IMODE(page.stat().st_mode) == 0o600
                assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
                assert ended[party].job in page.read_text(encoding="utf-8")
        assert due == [(True, False)] * 2
        assert {status.report for status in failed.values()} == {None}
        assert all(len(files(tmp_path / party / "reports")) == 2 for party in PARTIES)


async def test_a_page_that_cannot_be_written_costs_nobody_the_model(tmp_path: Path) -> None:
    """The job is done all the same."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.change(CARD, report=True)
        (tmp_path / CARD).mkdir()
        (tmp_path / CARD / "reports").write_text("a file where the folder should be")
        ended = await stage.run(job())
        assert {status.state for status in ended.values()} == {"done"}
        assert (ended[CARD].report, ended[CARD].model_part is not None) == (None, True)
