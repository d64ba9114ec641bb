"""A party's agent is spoken to from Python as from the command line, with and without a loop of one's own."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import tercet
from tercet.agents.daemon.console_socket import ConsoleSocket
from tercet.schemas.files.policy import PolicySettings
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, scene, three

pytestmark = [  # after one epoch on 67 rows a model may be worthless by chance
    pytest.mark.real_time,
    pytest.mark.filterwarnings("ignore::tercet.agents.api.errors.WorthlessModel"),
]

FIELDS: dict[str, Any] = {
    "label": BANK, "helper": NOTARY, "tables": {BANK: "customers", CARD: "customers"}, "epochs": 1, "batch": 32,
    "rate": 0.5, "holdout": 0.3, "loss": True, "accept_narrow": True, "helper_sees": "scores",
}  # fmt: skip
ENDLESS = 3000  # epochs


@contextmanager
def agents(folder: Path, **changes: dict[str, Any]) -> Iterator[None]:
    """Three agents in a thread of their own, reachable by their sockets; `changes` of settings by party."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            stage = await stack.enter_async_context(scene(three(folder, PATIENT), folder))
            for party in stage.parties:
                stage.change(party, **({"report": True} | changes.get(party, {})))
            await stage.start()
            for party, (settings, _) in stage.parties.items():
                await stack.enter_async_context(ConsoleSocket(settings, stage.agents[party].answer))
            stop = asyncio.Event()
            ready.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, stop = ready.result(timeout=60)
    for party in (BANK, CARD, NOTARY):
        text = f'party = "{party}"\nrole = "helper"\nidentity = "none.key"\nstate = "{party}"\n'
        (folder / f"{party}.toml").write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where three agents live, each with its settings file."""
    place = tmp_path_factory.mktemp("agents")
    with agents(place, card={"policy": PolicySettings(narrow=True, helper_sees="scores", held_out_scores=True)}):
        yield place


def job(name: str, **fields: Any) -> tercet.Job:
    """A job of a few steps."""
    return tercet.Job(name=name, **(FIELDS | fields))


def test_a_job_is_submitted_watched_and_read(folder: Path) -> None:
    """At the label party; each other party has what it may know."""
    bank, card = tercet.Party(folder / "bank.toml"), tercet.Party(str(folder / "card.toml"))
    running = bank.submit(job("read", held_out_scores=True, epochs=3))
    states = [status.state for status in running.watch()]
    assert states[-1] == "done"
    result = running.result()
    assert result.status == bank.status(running.id) == running.status()
    assert result.metrics["auc"] > 0.5
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    assert all(entry["loss"] > 0 for entry in result.history)
    assert [*result.weights] == [BANK]
    assert {*result.weights[BANK]} == {f"bank-{k}" for k in range(6)}
    assert result.report is not None
    assert "bank-0" in result.report.html
    assert result.scorer is None
    assert result.scores is not None
    assert result.scores.num_rows == result.status.held_out
    theirs = card.results(running.id)
    assert (theirs.metrics, [*theirs.weights]) == ({}, [CARD])
    assert {entry["loss"] for entry in theirs.history} == {None}
    assert tercet.Party(folder / "notary.toml").results(running.id).weights == {}
    assert running.id in {status.job for status in bank.list()}
    assert {status.history for status in bank.list()} == {()}
    assert "reveals" not in repr(running)
    assert any("held-out" in line for line in bank.reveals(running))


def test_scores_of_a_prediction_are_a_table(folder: Path) -> None:
    bank = tercet.Party(folder / "bank.toml")
    trained = bank.submit(job("to-score", holdout=0, release="owners", accept_narrow=True))
    trained.result()
    who = {name: FIELDS[name] for name in ("label", "helper", "tables")}
    scores = bank.submit(tercet.Prediction(name="new", of=trained.id, **who)).result().scores
    assert scores is not None
    assert scores.column_names[:2] == ["id", "score"]
    assert scores["id"].to_pylist()[0].startswith("customer ")


async def test_a_notebook_follows_and_calls_while_its_own_loop_runs(folder: Path) -> None:
    """By `async for`; and the plain calls block it for a moment, but work."""
    bank = tercet.Party(folder / "bank.toml")
    running = bank.submit(job("notebook"))
    seen = [status.state async for status in running.watch()]
    assert seen[-1] == "done"
    assert [status.state for status in bank.watch(running)] == ["done"]
    assert running.result().metrics


def test_a_known_job_is_looked_up_and_a_warning_says_how_to_run_it_anew(folder: Path) -> None:
    bank = tercet.Party(folder / "bank.toml")
    first = bank.submit(job("twice"))
    with pytest.warns(UserWarning, match="again=True"):
        assert bank.submit(job("twice")) == first
    assert bank.submit(job("twice"), again=True) != first


def test_a_watch_that_is_left_early_ends_and_a_job_that_is_cancelled_is_an_error(folder: Path) -> None:
    bank = tercet.Party(folder / "bank.toml")
    running = bank.submit(job("endless", epochs=ENDLESS, loss=False, holdout=0))
    for status in running.watch():
        if status.state == "training":
            break
    assert not [thread for thread in threading.enumerate() if thread.name == "tercet"]
    assert running.cancel().state == "cancelled"
    with pytest.raises(tercet.JobFailed, match="it was cancelled") as caught:
        running.result()
    assert (caught.value.job, caught.value.code, caught.value.party) == (running.id, "", BANK)


def test_a_failed_job_is_an_error_with_its_code(folder: Path) -> None:
    bank = tercet.Party(folder / "bank.toml")
    running = bank.submit(job("none", tables={BANK: "customers", CARD: "nothing"}))
    with pytest.raises(tercet.JobFailed) as caught:
        running.result()
    error = caught.value
    assert (error.code, error.party) == ("policy.table", CARD)
    assert error.hint
    assert error.stage == "received"
    assert error.reason in str(error)


def test_what_the_agent_does_not_know_is_invalid(folder: Path) -> None:
    """By the words of the command line."""
    bank = tercet.Party(folder / "bank.toml")
    for ask in (bank.status, bank.results, bank.cancel, bank.approve, bank.refuse, bank.resume, bank.reveals):
        with pytest.raises(tercet.Invalid, match="bank knows no job none-01234567"):
            ask("none-01234567")
    with pytest.raises(tercet.Invalid, match="bank knows no job none-01234567"):
        next(iter(bank.watch("none-01234567")))


def test_a_person_approves_or_refuses(tmp_path: Path) -> None:
    asks = PolicySettings(narrow=True, helper_sees="scores", approval=True)
    with agents(tmp_path, card={"policy": asks}):
        bank, card = tercet.Party(tmp_path / "bank.toml"), tercet.Party(tmp_path / "card.toml")
        for name in ("approved", "refused"):
            running = bank.submit(job(name))
            for status in card.watch(await_known(card, running.id)):
                if status.approval == "approval":
                    break
            if name == "approved":
                assert card.approve(running).approval
                assert running.result().metrics
            else:
                card.refuse(running, "not this year")
                with pytest.raises(tercet.JobFailed, match="not this year") as caught:
                    running.result()
                assert (caught.value.code, caught.value.party) == ("policy.refused", CARD)


def await_known(party: tercet.Party, job_id: str) -> str:
    """Wait until a job has been announced to a party."""
    while job_id not in {status.job for status in party.list()}:
        time.sleep(0.01)
    return job_id


def test_without_an_agent_it_says_what_the_command_line_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the login stays in the program's environment, and out of every text."""
    (tmp_path / "bank.toml").write_text('party = "bank"\nrole = "helper"\nidentity = "none.key"\nstate = "."\n')
    monkeypatch.setenv("TERCET_IDENTITY", str(tmp_path / "none.key"))
    monkeypatch.setenv("TERCET_BROKER_USERNAME", "bank")
    monkeypatch.setenv("TERCET_BROKER_PASSWORD", "hunter2")
    bank = tercet.Party(tmp_path / "bank.toml")
    with pytest.raises(tercet.TercetError, match=r"none\.key.* nobody listens at") as caught:
        bank.list()
    assert os.environ["TERCET_IDENTITY"] == str(tmp_path / "none.key")
    assert os.environ["TERCET_BROKER_PASSWORD"] == "hunter2"
    assert "hunter2" not in str(caught.value) + repr(bank) + repr(vars(bank))
    with pytest.raises(tercet.Invalid, match="No such file"):
        tercet.Party(tmp_path / "none.toml")
    (tmp_path / "bank.toml").write_text("party = 5\n")
    with pytest.raises(tercet.Invalid, match="party is a text"):
        tercet.Party(tmp_path / "bank.toml")


def test_no_secret_is_in_what_a_notebook_prints(folder: Path) -> None:
    bank = tercet.Party(folder / "bank.toml")
    running = bank.submit(job("printed"))
    result = running.result()
    texts = [repr(one) for one in (bank, running, running.watch(), result, result.report, job("printed"))]
    assert all(len(text) < 250 for text in texts)
    assert f"Party('bank', settings '{folder / 'bank.toml'}')" in texts
    assert not [text for text in texts if "none.key" in text or "amqp" in text]
