"""An audit log tells of every change that was made to it, and survives the agent that writes it."""

import asyncio
import json
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.daemon.agent import Agent
from tercet.agents.policy import audit_log
from tercet.agents.policy.audit_log import AuditLog, BrokenLog, Entry, entries, key_named_last
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.invalid import Invalid
from tests.agents.scenes import BANK, party_settings

ME, OTHER = Identity.generate(), Identity.generate()


def log(path: Path, identity: Identity = ME) -> AuditLog:
    """A log that is open."""
    opened = AuditLog(path, BANK, identity)
    opened.open()
    return opened


def written(path: Path) -> bytes:
    """A log of a job and a half."""
    lines = log(path)
    for event in ("received", "decided", "begun", "revealing", "ended"):
        lines.append(event, "credit-01234567", "ab" * 32, {"rows": 7, "said": "ok"})
    lines.append("received", "fraud-01234567", "cd" * 32)
    return path.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What `written` writes."""
    return written(tmp_path_factory.mktemp("audit") / "audit.log")


def test_what_was_written_comes_back_in_order(content: bytes) -> None:
    """Each line names the one before it; those that end a job are signed, and so is the first."""
    found = list(entries(content))
    assert [entry.event for entry in found] == [
        "opened",
        "received",
        "decided",
        "begun",
        "revealing",
        "ended",
        "received",
    ]
    assert [entry.seq for entry in found] == list(range(1, 8))
    assert [entry.event for entry in found if entry.signature] == ["opened", "ended"]
    assert b"".join(entry.line() for entry in found) == content
    assert key_named_last(found) == str(ME.public)


@given(data=st.data())
def test_any_changed_byte_is_found(content: bytes, data: st.DataObject) -> None:
    """Wherever it is, be it a blank or the end of a line."""
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BrokenLog, match="line"):
        list(entries(bytes(changed)))


@given(data=st.data())
def test_lines_that_are_missing_repeated_or_moved_are_found(content: bytes, data: st.DataObject) -> None:
    """All but those at the end, of which only a copy of the last hash can tell."""
    lines = content.splitlines(keepends=True)
    one = data.draw(st.integers(0, len(lines) - 2))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda place: place != one))
    without = lines[:one] + lines[one + 1 :]
    swapped = list(lines)
    swapped[one], swapped[other] = lines[other], lines[one]
    for changed in (without, swapped, [*lines[:one], lines[one], *lines[one:]]):
        with pytest.raises(BrokenLog, match="line"):
            list(entries(b"".join(changed)))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_log_or_the_one_error(data: bytes) -> None:
    """Whoever puts a strange file there breaks nothing."""
    for strange in (data, data + b"\n"):
        with suppress(BrokenLog):
            assert list(entries(strange)) == [] == strange.split()


def forged(found: list[Entry], identity: Identity, **changes: object) -> bytes:
    """A log written anew with other content, all hashes right, by somebody who has another key."""
    previous, lines = audit_log.GENESIS, []
    for entry in found:
        inside = entry.content | {"previous": previous} | (changes if entry.event == "ended" else {})
        signature = identity.sign(audit_log._statement(inside)).hex() if entry.signature else ""
        again = Entry(**inside, hash=audit_log._hash(inside, signature), signature=signature)
        lines.append(again.line())
        previous = again.hash
    return b"".join(lines)


def test_a_log_that_was_written_anew_is_not_signed_by_its_party(content: bytes) -> None:
    """All its hashes may be right; the signatures cannot be."""
    found = list(entries(content))
    assert list(entries(forged(found, ME))) == found
    with pytest.raises(BrokenLog, match="line 1 is not signed"):
        list(entries(forged(found, OTHER, job="fraud-00000000")))


def test_a_line_that_was_rewritten_with_a_right_hash_breaks_the_next_one(content: bytes) -> None:
    """Whoever changes one line has to write all that follow anew, up to one that is signed."""
    lines, decided = content.splitlines(keepends=True), list(entries(content))[2]
    inside = decided.content | {"fields": {"accepted": True}}
    lines[2] = Entry(**inside, hash=audit_log._hash(inside, "")).line()
    with pytest.raises(BrokenLog, match="line 4 does not follow"):
        list(entries(b"".join(lines)))


@pytest.mark.parametrize(
    ("old", "new"), [(b'"seq":3', b'"seq": 3'), (b"decided", rb"decide\u0064"), (b"{", b'{"seq":9,')]
)
def test_a_line_that_says_the_same_in_other_words_is_found(content: bytes, old: bytes, new: bytes) -> None:
    """There is one way to write an entry."""
    lines = content.splitlines(keepends=True)
    lines[2] = lines[2].replace(old, new, 1)
    with pytest.raises(BrokenLog, match="line 3 was altered"):
        list(entries(b"".join(lines)))


def test_a_line_without_its_signature_is_found(content: bytes) -> None:
    """Its hash may be right."""
    lines, ended = content.splitlines(keepends=True), list(entries(content))[5]
    bare = Entry(**ended.content, hash=audit_log._hash(ended.content, ""))
    with pytest.raises(BrokenLog, match="line 6 lacks its signature"):
        list(entries(b"".join([*lines[:5], bare.line()])))


def test_a_line_that_a_crash_has_torn_is_mended_and_told(tmp_path: Path) -> None:
    """How long it was, and its digest; nothing is lost without a word."""
    path = tmp_path / "audit.log"
    whole = written(path)
    with path.open("ab") as file:
        file.write(b'{"event":"ended","fie')
    found = AuditLog(path, BANK, ME).open()
    assert path.read_bytes().startswith(whole)
    assert (found[-1].event, found[-1].fields["bytes"]) == ("torn", 21)
    assert list(entries(path.read_bytes())) == found


def test_a_log_that_was_altered_is_not_written_to(tmp_path: Path) -> None:
    """The agent does not start with it: it is evidence."""
    path = tmp_path / "audit.log"
    altered = written(path).replace(b'"rows":7', b'"rows":8', 1)
    path.write_bytes(altered)
    with pytest.raises(Invalid, match="line 2 was altered; keep this file"):
        AuditLog(path, BANK, ME).open()
    assert path.read_bytes() == altered


async def test_an_agent_does_not_start_with_an_altered_log(tmp_path: Path) -> None:
    """Whatever it wrote from then on would hide the change."""
    settings = party_settings(tmp_path, BANK)
    settings.state.mkdir()
    (settings.state / "audit.log").write_bytes(b"{}\n")
    agent = Agent(settings, ME, MemoryBroker().connect(BANK))
    with pytest.raises(ExceptionGroup) as caught:
        await agent.serve(asyncio.Event())
    assert caught.group_contains(Invalid, match="move it away")


def test_a_party_with_a_new_key_says_so_in_its_log(tmp_path: Path) -> None:
    """Later signatures are by the new one."""
    path = tmp_path / "audit.log"
    written(path)
    log(path, OTHER).append("ended")
    found = list(entries(path.read_bytes()))
    assert [entry.event for entry in found[-2:]] == ["rekeyed", "ended"]
    assert key_named_last(found) == str(OTHER.public)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line is taken back, and the next one follows the last whole one."""
    path = tmp_path / "audit.log"
    lines, before = log(path), path.read_bytes()
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, line: write(file, line[:9]))
        with pytest.raises(OSError, match="No space"):
            lines.append("received")
    assert path.read_bytes() == before
    lines.append("received")
    assert [entry.seq for entry in entries(path.read_bytes())] == [1, 2]


def test_only_its_owner_may_read_a_log(tmp_path: Path) -> None:
    """It says who works with whom."""
    log(tmp_path / "audit.log")
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


# --- the command line


def tercet(*words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = CliRunner().invoke(app, ["audit", *words])
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def test_verify_prints_the_last_hash_and_finds_what_was_cut_off(tmp_path: Path) -> None:
    """With a hash of before; without one nothing can tell."""
    path = tmp_path / "audit.log"
    content = written(path)
    last = list(entries(content))[-1].hash
    code, told = tercet("verify", str(path))
    assert (code, "OK, 7 entries" in told, last in told, str(ME.public) in told) == (0, True, True, True)
    log(path).append("received")
    code, told = tercet("verify", str(path), "--expect", last)
    assert (code, "1 entries after it" in told) == (0, True)
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    assert tercet("verify", str(path))[0] == 0
    code, told = tercet("verify", str(path), "--expect", last)
    assert (code, "cut off" in told) == (3, True)
    path.write_bytes(content[:-3])
    code, told = tercet("verify", str(path))
    assert (code, "line 7 has no end" in told) == (3, True)


def test_show_tells_one_job_or_all(tmp_path: Path) -> None:
    """As text for people and JSON for scripts."""
    path = tmp_path / "audit.log"
    written(path)
    _, told = tercet("show", "--path", str(path), "--format", "json")
    assert len(json.loads(told)) == 7
    _, told = tercet("show", "credit-01234567", "--path", str(path), "--format", "json")
    assert {line["job"] for line in json.loads(told)} == {"credit-01234567"}
    code, told = tercet("show", "--path", str(path))
    assert (code, "ended" in told) == (0, True)
    code, told = tercet("verify", str(tmp_path / "none.log"))
    assert (code, "audit.log" in told) == (3, True)
