"""All parties' agents run in the background of a program, and leave nothing behind."""

import errno
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import tercet
from tests.agents.api.made_up import customers

pytestmark = pytest.mark.real_time

TABLES = {"bank": "customers", "card": "customers"}
FIELDS: dict[str, Any] = {"label": "bank", "helper": "notary", "tables": TABLES, "epochs": 2, "accept_narrow": True}
PARTIES = ("bank", "card", "notary")


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made; nothing is in it at the end."""
    with tempfile.TemporaryDirectory() as folder:  # its path is short
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        assert not [*Path(folder).iterdir()]
        assert not [thread for thread in threading.enumerate() if thread.name == "tercet"]


@pytest.fixture
def settings(tmp_path: Path) -> list[Path]:
    """Files of three parties as they stand in the example: with words in the places of keys, and no broker there."""
    frames = customers()
    for party in PARTIES:
        partners = [
            f'[partners.{p}]\nkey = "what {p} prints"\nmay_submit = {p == "bank"!r}'.lower()
            for p in PARTIES
            if p != party
        ]
        lines = [f'party = "{party}"', f'identity = "{party}.key"', 'state = "state"']
        lines += [] if party in frames else ['role = "helper"']
        lines += ["[broker]", 'url = "amqp://localhost:1/"', *partners]
        if party in frames:
            parquet.write_table(frames[party], tmp_path / f"{party}.parquet")
            lines += ["[policy]", "narrow = true", "[tables.customers]", f'path = "{party}.parquet"', 'id = "customer"']
            lines += ['label = "default"'] if party == "bank" else []
        (tmp_path / f"{party}.toml").write_text("\n".join(lines), encoding="utf-8")
    return [tmp_path / f"{party}.toml" for party in PARTIES]


def test_jobs_are_submitted_by_whoever_may_and_nothing_is_left(settings: list[Path], tmp_path: Path) -> None:
    """No file of the parties' own is touched."""
    before = sorted(tmp_path.rglob("*"))
    job = tercet.Job(name="rehearsed", **FIELDS)
    with tercet.Rehearsal(*settings) as rehearsal:
        running = rehearsal.parties["bank"].submit(job)
        assert [status.state for status in running.watch()][-1] == "done"
        result = running.result()
        assert (result.report is not None, {*result.weights}) == (True, {"bank"})
        assert {*rehearsal.parties["card"].results(running.id).weights} == {"card"}
        refused = rehearsal.parties["card"].submit(tercet.Job(name="pushy", **FIELDS))
        with pytest.raises(tercet.JobFailed, match="bank does not take jobs from card"):
            refused.result()
        with pytest.raises(tercet.Invalid, match="both of bank"):
            tercet.Rehearsal(*settings, str(settings[0]))
    rehearsal.stop()
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(tercet.TercetError):
        rehearsal.parties["bank"].list()


def test_a_job_that_runs_is_ended_by_the_stop(settings: list[Path]) -> None:
    rehearsal = tercet.Rehearsal(*map(str, settings))
    running = rehearsal.parties["bank"].submit(tercet.Job(name="endless", **{**FIELDS, "epochs": 3000}))
    for status in running.watch():
        if status.state == "training":
            break
    rehearsal.stop()


def test_an_agent_that_cannot_start_is_an_error(settings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tercet.agents.daemon.agent.make_state_folder", full)
    with pytest.raises(tercet.Invalid, match="No space left on device"):
        tercet.Rehearsal(*settings)


def test_a_temporary_folder_with_too_long_a_path_is_an_error(
    settings: list[Path], private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agents would be there, and nobody could speak to them."""
    far = private / ("far" * 30)
    far.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far))
    with pytest.raises(tercet.Invalid, match="at most 102 bytes"):
        tercet.Rehearsal(*settings)
    far.rmdir()
