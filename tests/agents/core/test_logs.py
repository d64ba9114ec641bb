"""Every line that an agent logs is JSON and says whose it is: party, job, attempt and step, wherever it comes from."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import aiormq
import pytest
import structlog
from pamqp.body import ContentBody

import tercet.agents.access.table
import tercet.agents.alignment.own_table
from tercet.agents.core import logs
from tercet.agents.core.library_log import TALKATIVE, LibraryLogHandler
from tercet.schemas.files.recovery import Recovery
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, QUICK, Scene, job, scene, three

FOUR = {"party", "job", "attempt", "step"}
SECRET = "a value of a row"


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What agents log, as a daemon has it, down to the last detail."""
    before, stream = structlog.get_config(), StringIO()
    loggers = list(map(logging.getLogger, (None, *TALKATIVE)))  # a program that imports tercet has handlers of its own
    had = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [], True
    logs.configure("debug")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(stream), cache_logger_on_first_use=False)
    yield stream
    structlog.configure(**before)
    for logger, (handlers, propagate) in zip(loggers, had, strict=True):
        logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is read with a word of ours and one of a library's, in the job's thread."""
    quiet = tercet.agents.access.table.read_snapshot

    def talking(*args: Any, **options: Any) -> Any:
        structlog.get_logger().info("in a thread")
        logging.getLogger("some.library").warning("cannot read %s", SECRET)
        return quiet(*args, **options)

    monkeypatch.setattr(tercet.agents.alignment.own_table, "read_snapshot", talking)


def lines(log: StringIO) -> list[dict[str, Any]]:
    """All of them; a line that is no JSON fails here."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


def refuse(stage: Scene, job_id: str, number: int = 1) -> None:
    """Send the bank something of this attempt that it refuses, in a callback of its control queue."""
    forged = stage.forge(CARD, BANK, job_id, "accept", "accept", b"no message")
    address = forged.address.replace("/1/", f"/{number}/", 1)
    stage.memory_broker.accept(replace(forged, address=address, body=b"not even sealed"), CARD)


@pytest.mark.usefixtures("talkative")
async def test_every_line_of_a_job_names_party_job_attempt_and_step(tmp_path: Path, log: StringIO) -> None:
    """Those of threads, of callbacks and of libraries too; and two jobs at once are told apart."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        ids = [stage.submit(job(name, epochs=1000)) for name in ("one", "other")]
        for one in ids:
            await stage.until(lambda one=one: stage.agents[BANK].status(one)[0].step > 2)  # type: ignore[misc]
            refuse(stage, one)
        await stage.until(lambda: log.getvalue().count("message refused") == 2)
        for one in ids:
            stage.agents[BANK].cancel(one)
            await stage.ended(one)
    found = lines(log)
    assert all(line.keys() >= FOUR | {"event", "level", "timestamp"} for line in found)
    for event in ("state", "in a thread", "library", "message refused"):
        about = [line for line in found if line["event"] == event]
        assert {line["job"] for line in about} == set(ids), event
        assert {line["attempt"] for line in about} == {1}, event
        assert all(line["party"] in {BANK, CARD, NOTARY} and isinstance(line["step"], int) for line in about), event
    assert {line["party"] for line in found if line["event"] == "in a thread"} == {BANK, CARD}
    assert all(line["step"] > 2 for line in found if line["event"] == "message refused")
    assert all(line["party"] for line in found)
    assert SECRET not in log.getvalue()


async def test_lines_of_a_later_attempt_say_so_whoever_writes_them(tmp_path: Path, log: StringIO) -> None:
    """Callbacks that the first attempt has set up among them."""
    async with scene(three(tmp_path, QUICK.model_copy(update={"recover": 20})), tmp_path) as stage:
        for party in stage.parties:
            stage.change(party, recovery=Recovery(attempts=8))
        await stage.start()
        long = stage.submit(job(epochs=1000))
        await stage.until(lambda: stage.agents[BANK].status(long)[0].step > 2)
        await stage.crash(CARD)
        await stage.until(lambda: "attempt is over" in log.getvalue())
        await stage.start(CARD)
        await stage.until(lambda: stage.state(BANK, long) == "training" and attempt(stage, long) > 1)
        number = attempt(stage, long)
        refuse(stage, long, number)
        await stage.until(lambda: "message refused" in log.getvalue())
        stage.agents[BANK].cancel(long)
        await stage.ended(long)
    found = [line for line in lines(log) if line["party"] == BANK and line["job"] == long]
    (refused,) = [line for line in found if line["event"] == "message refused"]
    assert refused["attempt"] == number
    numbers = [line["attempt"] for line in found]
    assert numbers == sorted(numbers)


def attempt(stage: Scene, job_id: str) -> int:
    """The attempt that counts at the bank."""
    (run,) = [run for run in stage.agents[BANK].runs if run.job.id == job_id]
    return run.attempts.number


async def test_a_line_about_another_job_has_no_step_of_this_one(tmp_path: Path, log: StringIO) -> None:
    """An agent may speak of a job from within another one's task."""
    del tmp_path

    class At:
        step = 7

    logs.bind_job("bank", "credit-00000001", 2, At())
    structlog.get_logger().info("of this one")
    structlog.get_logger().info("of another", job="credit-00000002")
    here, there = lines(log)
    assert [here[key] for key in ("party", "job", "attempt", "step")] == ["bank", "credit-00000001", 2, 7]
    assert [there[key] for key in ("party", "job", "attempt", "step")] == ["bank", "credit-00000002", None, None]


async def test_a_librarys_line_is_filled_in_and_holds_no_data(log: StringIO) -> None:
    """What aio-pika says of a connection is there, but for the password; a message, or another's text, is not."""
    link = aiormq.Connection(f"amqp://bank:{SECRET.replace(' ', '-')}@127.0.0.1:5/")
    frame = ContentBody(SECRET.encode())
    lost = aiormq.AMQPConnectionError("Server connection reset")
    pika, other = logging.getLogger("aiormq.connection"), logging.getLogger("some.library")
    pika.warning('Connection attempt to "%s" failed: %s. Reconnecting after %r seconds.', link, lost, 1)
    pika.error("Got frame for closed channel %d: %r", 3, frame)
    pika.warning("Cancelling cause reader exited abnormally", exc_info=lost)
    other.warning("row %d: %s is odd, %r", 7, SECRET, ValueError(SECRET))
    odd = other.makeRecord("some.library", logging.WARNING, "", 0, "%d of %s", ("strange", SECRET), None)
    LibraryLogHandler().emit(odd)  # which no handler of pytest's has to format
    other.warning("%(what)s", {"what": SECRET})
    pika.error("failed", exc_info=ValueError(SECRET))
    texts = [(line["level"], line["text"], line["error"]) for line in lines(log)]
    address, reported = "amqp://bank:******@127.0.0.1:5/", "AMQPConnectionError: Server connection reset"
    assert texts == [
        ("warning", f'Connection attempt to "{address}" failed: {reported}. Reconnecting after 1 seconds.', None),
        ("error", "Got frame for closed channel 3: <ContentBody>", None),
        ("warning", "Cancelling cause reader exited abnormally", reported),
        ("warning", "row 7: <str> is odd, ValueError", None),
        ("warning", "d of s", None),
        ("warning", "<str>", None),
        ("error", "failed", "ValueError"),
    ]
    assert "%" not in log.getvalue()
    assert SECRET not in log.getvalue()


def test_a_crash_is_a_line_as_well() -> None:
    """What reads the log of a daemon need not know Python's tracebacks."""
    program = (
        "from tercet.agents.core import logs\nlogs.configure('info', daemon=True)\n"
        "import warnings\nwarnings.warn('something old')\nraise ValueError('ended')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    warned, crashed = [json.loads(line) for line in done.stderr.splitlines()]
    assert (warned["event"], warned["library"]) == ("library", "py.warnings")
    assert warned["text"].startswith("<string>:4: UserWarning: something old")
    assert (crashed["event"], crashed["level"]) == ("the agent has crashed", "critical")
    assert "ValueError" in crashed["exception"]
    assert crashed.keys() >= FOUR
