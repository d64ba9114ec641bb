"""What a person sees of an agent, and what nobody sees: nothing of rows, keys and shares; no markup of others."""

import asyncio
import errno
import json
import re
import time
from pathlib import Path

import pytest

from tercet.agents.core.report_files import selection_file
from tercet.agents.page import stream
from tercet.agents.page.curves import Curves, draw
from tercet.agents.page.own_data import AuditPage, TableReader, read_audit
from tercet.agents.page.rendering import ago, figure, moment
from tercet.agents.page.users import Role
from tercet.agents.page.views import REPORT_POLICY
from tercet.broker.interface.base import BrokerError
from tercet.broker.interface.dead_letters import DeadLetter
from tercet.schemas.files.job import Evaluation
from tercet.schemas.files.settings import TableSettings
from tests.agents.page.web import Web, visited, waiting_job
from tests.agents.scenes import BANK, CARD, NOTARY

real_time = pytest.mark.real_time
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e"


async def open_stream(web: Web, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that a person has asked for."""
    cookies = "; ".join(f"{name}={value}" for name, value in web.cookies.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {web.host}\r\nCookie: {cookies}\r\n\r\n".encode())
    return reader, writer


async def first_events(web: Web, path: str, number: int) -> list[dict[str, str]]:
    """The first so many parts that a stream sends."""
    reader, writer = await open_stream(web, path)
    found: list[dict[str, str]] = []
    async with asyncio.timeout(20):
        while len(found) < number:
            line = (await reader.readline()).decode()
            if line.startswith("data: {"):
                found.append(json.loads(line.removeprefix("data: ")))
    writer.close()
    return found


@real_time
async def test_jobs_are_shown_and_followed(tmp_path: Path) -> None:
    """From the list to the page of one, with whom it waits for, its progress, and its end."""
    async with visited(tmp_path) as (site, web):
        assert "knows no job" in (await web.get("/")).text
        job_id = await waiting_job(site, epochs=300, purpose="credit scoring")
        listed = (await web.get("/")).text
        assert f"{job_id} waits for a person here" in listed
        shown = (await web.get(f"/jobs/{job_id}")).text
        assert "credit scoring" in shown
        assert "an approver decides" in shown
        assert "notary" in shown
        agent = site.stage.agents[CARD]
        site.stage.agents[CARD].jobs.runs[job_id].approve("bob")
        await site.stage.until(lambda: agent.status(job_id)[0].step > 3)
        events = await first_events(web, f"/jobs/{job_id}/stream", 3)
        assert len({event["html"] for event in events}) == 3
        assert {event["stamp"] for event in events} == {"False bob"}
        assert "<progress" in events[0]["html"]
        assert "heard" in events[0]["html"]
        assert len(await first_events(web, "/stream", 2)) == 2
        site.stage.agents[BANK].cancel(job_id)
        await site.stage.ended(job_id)
        assert "cancelled" in (await web.get(f"/jobs/{job_id}")).text


@real_time
async def test_curves_grow_where_the_party_may_know_them(tmp_path: Path) -> None:
    """And are there for a while after the job's end."""
    asks = Evaluation(holdout=0.25, loss=True, loss_to="all")
    async with visited(tmp_path) as (site, web):
        job_id = await waiting_job(site, evaluation=asks, epochs=6)
        site.page._views.watcher.look()  # it does so every second, and the job may take less
        site.stage.agents[CARD].jobs.runs[job_id].approve("bob")
        ended = (await site.stage.ended(job_id))[CARD]
        await site.stage.until(lambda: len(site.page._views.watcher.curves[job_id].losses) == 6)
        shown = (await web.get(f"/jobs/{job_id}")).text
        assert shown.count("<polyline") == 1
        assert f"{ended.loss:.4f}" in shown
        assert "<dd>6 <small>of 6</small>" in shown, "epochs are counted from 1"


def test_a_chart_has_a_line_for_each_series_and_no_style() -> None:
    """Which the page's policy would forbid; and it takes any numbers."""
    picture = draw("Loss", {"a <b>": [(1, 0.5), (2, 0.5)], "b": [(epoch, epoch / 7) for epoch in range(1, 4000)]})
    assert picture.count("<polyline") == 2
    assert "style" not in picture
    assert len(picture) < 20_000
    charts = Curves([0.7, 0.6], [], {0: {"auc": 0.7, "log_loss": 0.5}, 1: {"auc": 0.75, "log_loss": 0.4}}).charts()
    assert [(title, lines) for title, lines, _ in charts] == [
        ("Loss by epoch", [("training", 0.6)]),
        ("Held-out rows by epoch", [("AUC", 0.75)]),
    ]
    assert Curves([0.7]).charts() == []


@real_time
async def test_nothing_that_a_partner_writes_is_markup(tmp_path: Path) -> None:
    """Not in a job, its stream, the list, nor the log; what would reorder words is seen."""
    async with visited(tmp_path, Role.APPROVER) as (site, web):
        job_id = await waiting_job(site, purpose=MARKUP)
        pages = [await web.get(path) for path in ("/", f"/jobs/{job_id}", "/audit", f"/audit?job={job_id}")]
        streams = [*await first_events(web, f"/jobs/{job_id}/stream", 1), *await first_events(web, "/stream", 1)]
        texts = [*(answer.text for answer in pages), *(event["html"] for event in streams)]
        for text in texts:
            assert "<script>alert" not in text
            assert "<img" not in text
            assert "\u202e" not in text
        assert any("&lt;script&gt;alert" in text for text in texts)
        await web.press(f"/jobs/{job_id}", f"/jobs/{job_id}/refuse", why=MARKUP)
        await site.stage.ended(job_id)
        for path in (f"/jobs/{job_id}", "/audit"):
            text = (await web.get(path)).text
            assert "alert(1)" in text
            assert "<script>alert" not in text


@real_time
async def test_tables_are_shown_and_read_when_a_person_asks(tmp_path: Path) -> None:
    """With what each column is taken for, and no value of a row."""
    async with visited(tmp_path) as (site, web):
        shown = await web.get("/tables")
        assert "customers" in shown.text
        assert (await web.post("/tables/strangers/read", {"csrf": shown.csrf()})).status == 404
        assert (await web.post("/tables/customers/read", {"csrf": shown.csrf()})).status == 303
        await site.stage.until(lambda: site.page._views._tables.readings["customers"].is_over)
        read = (await web.get("/tables")).text
        assert "numeric" in read
        assert "card-3" in read
        value = (tmp_path / "card.csv").read_text().splitlines()[1].split(",")[1]
        assert value not in read
        site.stage.agents[CARD].settings.tables["customers"].path.unlink()  # type: ignore[union-attr]
        await web.post("/tables/customers/read", {"csrf": shown.csrf()})
        await site.stage.until(lambda: site.page._views._tables.readings["customers"].is_over)
        assert "No such file" in (await web.get("/tables")).text


@real_time
async def test_partners_are_shown_with_when_they_were_heard_of(tmp_path: Path) -> None:
    """By a job, or as they are asked."""
    async with visited(tmp_path) as (site, web):
        before = await web.get("/partners")
        assert before.text.count("not since this agent started") == 2
        assert site.stage.parties[BANK][1].public.fingerprint in before.text
        job_id = await waiting_job(site)
        await site.stage.until(lambda: BANK in site.page._views.watcher.heard)
        site.stage.agents[CARD].cancel(job_id)
        await site.stage.ended(job_id)
        await site.stage.stop(NOTARY)
        assert (await web.post("/partners/ask", {"csrf": before.csrf()})).status == 303
        after = (await web.get("/partners")).text
        assert (after.count("answers</span>"), after.count("is silent")) == (1, 1)


@real_time
async def test_dead_letters_are_shown_or_why_not(tmp_path: Path) -> None:
    """The latest first; their texts are strangers' words."""
    letter = DeadLetter(
        reason=MARKUP[:50], time="2026-01-01T00:00:00+00:00", exchange="from.eve", routing_key="", kind="step",
        address="<b>x</b>", job="", sender="eve", size=3, digest="00",
    )  # fmt: skip

    async def some(limit: int) -> tuple[list[DeadLetter], int]:
        return [letter, letter.model_copy(update={"kind": "last"})][:limit], 7

    async def away(_: int) -> tuple[list[DeadLetter], int]:
        raise BrokerError("it is away")

    async with visited(tmp_path) as (site, web):
        assert "keeps no dead letters" in (await web.get("/dead-letters")).text
        site.page._views._letters = some
        text = (await web.get("/dead-letters")).text
        assert text.index("last") < text.index("step through")
        assert "7 later ones" in text
        assert "<b>x" not in text
        site.page._views._letters = away
        assert "it is away" in (await web.get("/dead-letters")).text


@real_time
async def test_the_audit_log_is_read_and_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By words, by job, page by page; a changed line is told."""
    monkeypatch.setattr("tercet.agents.page.own_data.MOST_ENTRIES", 2)
    async with visited(tmp_path) as (site, web):
        job_id = await waiting_job(site, purpose="credit scoring")
        shown = (await web.get("/audit")).text
        assert "chain and signatures are whole" in shown
        assert shown.count('<small class="number">') == 2
        found = (await web.get("/audit?words=Credit+scoring+received")).text
        assert re.search(r"<i>issued</i> 20\d\d-\d\d-\d\d ", found)
        assert found.count('<small class="number">') == 1
        assert "No line has these words" in (await web.get("/audit?words=never+was")).text
        assert "No line has these words" in (await web.get(f"/audit?job={job_id}&words=opened")).text
        assert "line 1<" in (await web.get("/audit?before=2")).text
        assert (await web.get("/audit?before=%D9%A1&job=..%2F..%2Fx")).status == 200
        site.stage.agents[CARD].cancel(job_id)
        await site.stage.ended(job_id)
        log = site.state / "audit.log"
        log.write_bytes(log.read_bytes().replace(b"credit scoring", b"credit storing"))
        assert "Something is wrong with the log: line" in (await web.get("/audit")).text
        assert read_audit(tmp_path / "none", "", 0).problem


@real_time
async def test_the_audit_log_is_read_once_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask: each reads all of it."""
    reading, most = 0, 0

    def read(*_: object) -> AuditPage:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        time.sleep(0.1)
        reading -= 1
        return AuditPage([], 0, 0)

    monkeypatch.setattr("tercet.agents.page.views.read_audit", read)
    async with visited(tmp_path) as (_, web):
        found = await asyncio.gather(*(web.get("/audit") for _ in range(4)))
    assert [answer.status for answer in found] == [200] * 4
    assert most == 1


async def test_a_table_that_the_disk_does_not_give_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong is shown, and the reading is over."""

    def describe(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tercet.agents.access.table.describe_tables", describe)
    tasks: list[asyncio.Task[None]] = []
    reader = TableReader(lambda work: tasks.append(asyncio.ensure_future(work)))
    settings = TableSettings(path=Path("customers.csv"), id="id")
    reader.begin("customers", settings)
    await asyncio.wait(tasks)
    first = reader.readings["customers"]
    assert (first.is_over, "No space left" in first.problem) == (True, True)
    reader.begin("customers", settings)
    assert reader.readings["customers"] is not first
    await asyncio.wait(tasks)


@real_time
async def test_streams_that_begin_at_once_are_few(tmp_path: Path) -> None:
    """Each counts before its first byte; one that was turned away does not."""
    async with visited(tmp_path) as (site, ada):
        begun = await asyncio.gather(*(open_stream(ada, "/stream") for _ in range(stream.MOST_STREAMS + 4)))
        lines = await asyncio.gather(*(asyncio.wait_for(reader.readline(), 10) for reader, _ in begun))
        assert sum(b" 200 " in line for line in lines) == stream.MOST_STREAMS
        assert site.page._views._streams.open == stream.MOST_STREAMS
        for _, writer in begun:
            writer.close()
        await site.stage.until(lambda: site.page._views._streams.open == 0)


@real_time
async def test_a_report_is_shown_and_given_under_a_safe_name_and_runs_nothing(tmp_path: Path) -> None:
    async with visited(tmp_path) as (site, web):
        job_id = await waiting_job(site)
        assert (await web.get(f"/jobs/{job_id}/report")).status == 404
        (site.state / "reports").mkdir()
        (site.state / "reports" / f"{job_id}.html").write_text("<h1>report</h1>")
        shown = await web.get(f"/jobs/{job_id}/report")
        assert (shown.status, "sandbox" in shown.headers["content-security-policy"]) == (200, True)
        file = await web.get(f"/jobs/{job_id}/report?download")
        assert file.headers["content-disposition"] == f'attachment; filename="report-{job_id}.html"'
        assert (await web.get(f"/jobs/{job_id}/selection")).status == 404
        assert "/selection" not in (await web.get(f"/jobs/{job_id}")).text
        selection_file(site.state, job_id).write_text("<h1>selection</h1>")
        assert (await web.get(f"/jobs/{job_id}/selection")).headers["content-security-policy"] == REPORT_POLICY
        assert f"/jobs/{job_id}/selection" in (await web.get(f"/jobs/{job_id}")).text


@real_time
async def test_streams_end_with_the_session_and_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TICK_SECONDS", 0.02)
    async with visited(tmp_path) as (site, web):
        following = asyncio.create_task(web.get("/stream"))
        await site.stage.until(lambda: site.page._views._streams.open == 1)
        other = await site.person("bob", Role.VIEWER)
        monkeypatch.setattr(stream, "MOST_STREAMS", 1)
        assert (await other.get("/stream")).status == 503
        await web.post("/logout", {"csrf": (await web.get("/")).csrf()})
        assert "event: over" in (await asyncio.wait_for(following, 10)).text
        await site.stage.until(lambda: site.page._views._streams.open == 0)
        monkeypatch.setattr(stream, "STREAM_SECONDS", 0.1)
        assert "event: over" not in (await other.get("/stream")).text


@real_time
async def test_a_page_says_when_its_agent_takes_no_jobs(tmp_path: Path) -> None:
    async with visited(tmp_path) as (site, web):
        site.stage.connection(CARD).disconnect()
        assert "no connection to the broker" in (await web.get("/")).text
        site.stage.connection(CARD).reconnect()
        assert "no connection" not in (await web.get("/")).text


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (ago(None), "never"),
        (ago(0), "now"),
        (ago(59), "59 s ago"),
        (ago(3600), "1 h ago"),
        (ago(200_000), "2 d ago"),
        (moment("2026-01-02T03:04:05.123+02:00"), "2026-01-02 01:04:05"),
        (moment("nonsense"), "nonsense"),
        (figure(True), "yes"),
        (figure(1234), "1,234"),
        (figure(0.123456789), "0.123457"),
        (figure(None), ""),
        (figure("x"), "x"),
        (figure({"bits": 7.0, "rows": [1, 2]}), "bits 7, rows 1, 2"),
    ],
)
def test_figures_and_times_are_words(made: str, text: str) -> None:
    assert made == text
