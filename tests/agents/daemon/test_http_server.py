"""What an agent answers on a port of its own: metrics, and whether it is alive and ready; and what it refuses."""

import asyncio
import os
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse, Response

from tercet.agents.core.states import State
from tercet.agents.daemon import http_server
from tercet.agents.daemon.health import LoopMonitor, unwritable
from tercet.agents.daemon.http_server import Listening, WebServer
from tercet.agents.daemon.monitor import Answer, MonitorApp, answers_of
from tercet.agents.daemon.prometheus import _jobs
from tercet.broker.interface import topology
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.messages.address import Round
from tercet.schemas.messages.kinds import Message
from tests.agents.daemon.stage import started
from tests.agents.http_client import exchange, say
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, Scene, job, scene, three
from tests.certificates import write_certificate

pytestmark = pytest.mark.real_time


def serving(answers: Mapping[str, Answer], *, address: str = "127.0.0.1", port: int = 0) -> WebServer:
    """A server of these answers, at any port."""
    return WebServer(MonitorApp(answers), Listening("[monitor]", address, port))


@asynccontextmanager
async def watched(stage: Scene, party: str = BANK) -> AsyncIterator[WebServer]:
    """The monitor of a party of a scene."""
    async with serving(answers_of(stage.agents[party], stage.connection(party), LoopMonitor())) as server:
        yield server


async def get(server: WebServer, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    status, _, body = await exchange(server.port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return status, body.decode()


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by name and label values; the text has to be what Prometheus takes."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


async def test_metrics_tell_of_jobs_steps_traffic_and_waits(tmp_path: Path) -> None:
    """Of a job that is over, and one that runs."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        ended = await stage.run(job())
        running = stage.submit(job("long", epochs=1000))
        await stage.until(lambda: stage.agents[BANK].status(running)[0].step > 2)
        async with watched(stage) as server:
            status, text = await get(server, "/metrics")
            stage.agents[BANK].cancel(running)
            await stage.ended(running)
        found = samples(text)
        assert status == 200
        assert found["tercet_jobs", ("training",)] == 1
        assert found["tercet_jobs_ended_total", ("done",)] == 1
        assert found["tercet_jobs_begun_total", ("training",)] == 2
        assert found["tercet_step_seconds_count", ()] >= ended[BANK].step + 3
        sent = ended[BANK].sent_bytes["pre-activation share"]
        assert found["tercet_sent_bytes_total", ("pre-activation share",)] > sent > 0
        assert found["tercet_waited_seconds_total", ("activations",)] > 0
        assert found["tercet_broker_connected", ()] == found["tercet_ready", ()] == found["tercet_alive", ()] == 1
        assert found["tercet_state_free_bytes", ()] > 0
        assert found["process_resident_memory_bytes", ()] > 0


async def test_sums_do_not_fall_when_a_job_ends_and_no_metric_names_it(tmp_path: Path) -> None:
    """Nor does a job count twice. Labels are parties, states, kinds and the like, of two jobs as of one."""
    async with scene(three(tmp_path), tmp_path) as stage:
        first = await stage.run(job("secretive"))
        async with watched(stage) as server:
            text = (await get(server, "/metrics"))[1]
            await stage.run(job("second"))
            before, after = samples(text), samples((await get(server, "/metrics"))[1])
        assert not any(word in text for word in ("secretive", "customers", "default", str(tmp_path)))
        known = {*Round, *(kind.kind for kind in Message.__subclasses__())}  # some are met in some jobs only
        assert {label for _, labels in set(after) - set(before) for label in labels} <= known
        kinds = {key for key in before if key[0] == "tercet_sent_messages_total"}
        assert {key[1][0]: before[key] for key in kinds} == first[BANK].sent_messages
        key = ("tercet_sent_messages_total", ("pre-activation share",))
        assert after[key] == 2 * before[key]
        assert after["tercet_step_seconds_count", ()] == 2 * before["tercet_step_seconds_count", ()]
        fallen = [key for key in before if key[0].endswith("_total") and after[key] < before[key]]
        assert not fallen


async def test_heartbeats_to_a_party_that_is_away_are_counted(tmp_path: Path) -> None:
    """A job's first words go to queues that are not there yet; the card processor's never are."""
    async with started(tmp_path, BANK, NOTARY, deadlines=PATIENT) as stage:
        running = stage.submit(job())
        await stage.until(lambda: stage.agents[BANK].runs[0].context.mailbox.dropped["progress"] > 1)
        async with watched(stage) as server:
            found = samples((await get(server, "/metrics"))[1])
        assert found["tercet_messages_dropped_total", ("progress",)] > 1
        stage.agents[BANK].cancel(running)
        await stage.ended(running)


async def test_a_failure_and_a_refused_message_are_counted(tmp_path: Path) -> None:
    """By code and by reason; a code that this release does not know has no label of its own."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.change(CARD, tables={})
        failed = await stage.run(job())
        failure = failed[BANK].failure
        assert failure is not None
        stage.runs[BANK, job().id]._own_error = failure.model_copy(update={"code": "made.up"})
        stage.agents[BANK].jobs.counters.count_job(stage.runs[BANK, job().id])
        forged = stage.forge(CARD, BANK, job().id, "job", "announcement", b"no message")
        stage.memory_broker.accept(replace(forged, routing_key=topology.announce_key(job().id, BANK)), CARD)
        await stage.until(lambda: bool(stage.agents[BANK].refused))
        async with watched(stage) as server:
            found = samples((await get(server, "/metrics"))[1])
        assert found["tercet_jobs_failed_total", ("policy.table",)] == 1
        assert found["tercet_jobs_failed_total", ("other",)] == 1
        assert found["tercet_messages_refused_total", ("malformed",)] == 1
        assert found["tercet_dead_letters_total", ()] == 1


async def test_an_agent_is_ready_while_it_is_connected_and_not_leaving(tmp_path: Path) -> None:
    """And alive meanwhile: a restart would not help it."""
    async with started(tmp_path, deadlines=PATIENT) as stage, watched(stage) as server:
        assert await get(server, "/readyz") == (200, "ok\n")
        stage.connection(BANK).disconnect()
        assert await get(server, "/readyz") == (
            503,
            "it has no connection to the broker\n",
        )
        assert await get(server, "/healthz") == (200, "ok\n")
        stage.connection(BANK).reconnect()
        assert (await get(server, "/readyz"))[0] == 200
        with stage.memory_broker.shortage("low on disk"):
            assert await get(server, "/readyz") == (503, "the broker takes no messages: it is low on disk\n")
            assert await get(server, "/healthz") == (200, "ok\n")
            assert samples((await get(server, "/metrics"))[1])["tercet_broker_blocked", ()] == 1
        assert samples((await get(server, "/metrics"))[1])["tercet_broker_blocked", ()] == 0
        assert (await get(server, "/readyz"))[0] == 200
        standing = stage.memory_broker.queues[topology.standing_queue(BANK, ()).name]
        consumer, standing.consumer = standing.consumer, None
        assert (await get(server, "/readyz")) == (503, "its standing queue is not consumed\n")
        standing.consumer = consumer
        state = stage.agents[BANK].settings.state
        state.rename(away := state.with_name("away"))
        assert await get(server, "/readyz") == (503, "its state folder cannot be written\n")
        assert await get(server, "/healthz") == (200, "ok\n")
        away.rename(state)
        running = stage.submit(job(epochs=1000))
        await stage.until(lambda: stage.state(NOTARY, running) == "training")
        leaving = asyncio.create_task(stage.stop(BANK))
        await stage.until(lambda: stage.agents[BANK].is_draining)
        assert await get(server, "/readyz") == (503, "it is leaving\n")
        await leaving


@pytest.mark.parametrize(("allowed", "free", "said"), [(False, 9, "cannot be written"), (True, 0, "disk .* is full")])
def test_a_state_folder_that_takes_nothing_makes_an_agent_unready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool, free: int, said: str
) -> None:
    """A mount that has become read-only, rights, a full disk: no job could be recorded."""
    monkeypatch.setattr(os, "access", lambda *_: allowed)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free))
    (problem,) = unwritable(tmp_path)
    assert re.search(said, problem)


async def test_an_agent_whose_handler_has_failed_is_not_alive(tmp_path: Path) -> None:
    """A supervisor should start it anew."""
    async with started(tmp_path, BANK) as stage:
        broker = stage.memory_broker.connect(CARD)
        broker.failed.set_exception(RuntimeError("a bug"))
        async with serving(answers_of(stage.agents[BANK], broker, LoopMonitor())) as server:
            assert (await get(server, "/healthz"))[0] == 503
            assert (await get(server, "/readyz"))[0] == 503


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 4000 + b"\r\n", b"431"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /healthz?verbose HTTP/1.0\r\n\r\n", b"200"),
    ],
)
async def test_what_is_no_page_is_answered_with_a_status(request_: bytes, status: bytes) -> None:
    """And nothing that was asked comes back in it."""

    async def page() -> Response:
        return PlainTextResponse("here")

    async with serving({"/healthz": page, "/metrics": page}) as server:
        answer = await say(server.port, request_)
        assert answer.startswith(b"HTTP/1.1 " + status) or (status == b"431" and not answer)  # reset while it sends
        assert b"passwd" not in answer
        assert (b"here" in answer) == (status == b"200" and not request_.startswith(b"HEAD"))


@pytest.mark.parametrize("address", ["203.0.113.7", "a..b"])
async def test_an_address_that_cannot_be_had_is_told_in_a_sentence(address: str) -> None:
    """Of another machine, or of none."""
    with pytest.raises(Invalid, match=f"cannot listen at {re.escape(address)}, port 0"):
        async with serving({}, address=address):
            pass


@asynccontextmanager
async def crowd(server: WebServer) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """As many connections as there may be."""
    most = http_server.MOST_CONNECTIONS
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(most)]
    yield connections
    for _, writer in connections:
        writer.close()


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And there is room for others again."""
    monkeypatch.setattr(http_server, "SECONDS", 0.3)
    async with serving({}) as server:
        async with crowd(server) as silent:
            assert [await asyncio.wait_for(reader.read(), 10) for reader, _ in silent] == [b""] * len(silent)
        assert (await get(server, "/"))[0] == 404


async def test_who_comes_in_crowds_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who are in already are still heard."""
    monkeypatch.setattr(http_server, "SECONDS", 600)
    async with serving({}) as server, crowd(server) as connections:
        assert await say(server.port, b"") == b""
        first, asking = connections[0]
        asking.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(first.read(), 10)).startswith(b"HTTP/1.1 404")


async def test_handshakes_that_never_end_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count from the connection on, and until it has gone, also if nothing in it was TLS."""
    monkeypatch.setattr(http_server, "SECONDS", 600)
    write_certificate(tmp_path, "page", write_certificate(tmp_path, "authority", None))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "page.pem", tmp_path / "page.key")
    browser = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    place = Listening("[page]", "127.0.0.1", 0, tls)
    async with WebServer(MonitorApp({}), place) as server, crowd(server) as connections:
        assert await say(server.port, b"") == b""
        first, speaking = connections[0]
        speaking.write(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            await asyncio.wait_for(first.read(), 10)
        await asyncio.sleep(0.1)
        answer = await say(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", browser)
        assert answer.startswith(b"HTTP/1.1 404")


async def test_a_page_with_a_bug_ends_neither_agent_nor_monitor() -> None:
    """It is told as an error of our own, without its text."""

    async def page() -> Response:
        raise ValueError("a secret")

    async with serving({"/metrics": page}) as server:
        assert await get(server, "/metrics") == (500, "")
        assert await get(server, "/metrics") == (500, "")


async def test_a_monitor_leaves_with_its_connections_open() -> None:
    """Whoever asks slowly does not hold up an agent that leaves."""
    async with serving({}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /")
        await asyncio.sleep(0)
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    """The settings can be mended, so it is not the broker's or a job's trouble."""
    async with serving({}) as server:
        with pytest.raises(Invalid, match=r"\[monitor\] cannot listen .* a port of its own"):
            await serving({}, port=server.port).__aenter__()


async def test_without_a_port_nothing_listens(tmp_path: Path) -> None:
    """An agent needs no inbound port, and loads no web framework for none."""
    script = """
import asyncio, sys
from contextlib import AsyncExitStack
from types import SimpleNamespace
from tercet.agents.daemon.service import _listen
from tercet.schemas.files.agent_settings import MonitorSettings
agent = SimpleNamespace(settings=SimpleNamespace(monitor=MonitorSettings()))
asyncio.run(_listen(AsyncExitStack(), agent, None, None))
print({"starlette", "uvicorn"} & {*sys.modules})
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"set()\n"


async def test_the_pulse_shows_what_holds_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds, the worst that was."""
    monkeypatch.setattr("tercet.agents.daemon.health.PULSE_SECONDS", 0.01)
    pulse = LoopMonitor()
    beating = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0.03)
    time.sleep(0.2)  # noqa: ASYNC251 - on purpose
    await asyncio.sleep(0.03)
    beating.cancel()
    assert pulse.lag > 0.15


def test_every_state_of_a_running_job_has_a_sample() -> None:
    """So that a state nobody is in reads as zero, and not as unknown."""
    (jobs, *_) = _jobs([])
    assert {sample.labels["state"] for sample in jobs.samples} == {
        str(state) for state in State if state not in {State.DONE, State.FAILED, State.CANCELLED}
    }
