"""The agent's socket on its own machine: who may use it, what it answers, and what there is without it."""

import asyncio
import getpass
import grp
import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tercet.agents.access.console_client import Request
from tercet.agents.access.conversation import own_account
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.access.socket_console import NoSocket, SocketConsole, receive_message
from tercet.agents.cli.app import app
from tercet.agents.daemon.console_socket import MOST_REQUEST, ConsoleSocket, bind_socket
from tercet.agents.policy.audit_log import entries
from tercet.broker.sealing.identity import Identity, save_identity
from tercet.schemas.files.agent_settings import ConsoleSettings
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings, read_settings
from tercet.schemas.messages.codec import decode, encode
from tercet.schemas.messages.kinds import Query, Status
from tests.agents.daemon.stage import started
from tests.agents.scenes import BANK, CARD, PATIENT, job, scene, three

pytestmark = pytest.mark.real_time

ME = pwd.getpwuid(os.geteuid()).pw_name
NOBODY = 65534
AWAY = "amqp://127.0.0.1:1/"  # where nobody listens


def settings_of(folder: Path, **console: Any) -> Settings:
    """A party without a broker and without a key."""
    return Settings(
        party=BANK, role="helper", identity=folder / "none", state=folder, console=ConsoleSettings(**console)
    )


async def silent(request: Request) -> Status:
    """What an agent that knows no job answers, and who it thinks has asked."""
    assert isinstance(request, Query)
    return Status(problem=f"for {request.who}")


async def test_all_that_a_console_does_goes_over_the_socket_too(tmp_path: Path) -> None:
    """The account is the system's word on who has connected, not the console's."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        settings = stage.parties[BANK][0]
        async with ConsoleSocket(settings, stage.agents[BANK].answer), await SocketConsole.connect(settings) as console:
            (submitted,) = (await console.submit(job(epochs=1000), "mallory")).jobs
            await stage.until(lambda: stage.state(BANK, submitted.job) == "training")
            assert (await console.query()).jobs[0].state == "training"
            assert {answer.answered for answer in (await console.partners()).partners} == {True}
            await console.query(submitted.job, cancel=True, who="mallory")
            assert {found.cancelled_by for found in (await stage.ended(submitted.job)).values()} == {BANK}
    reported = {entry.event: entry.fields.get("by") for entry in entries((tmp_path / BANK / "audit.log").read_bytes())}
    assert (reported["received"], reported["cancelled"]) == (ME, ME)


async def test_it_answers_while_the_broker_is_away(tmp_path: Path) -> None:
    """That is when people ask."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        settings = stage.parties[CARD][0]
        job_id = stage.submit(job(epochs=1000))
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        async with ConsoleSocket(settings, stage.agents[CARD].answer), await SocketConsole.connect(settings) as console:
            stage.hang(CARD)
            assert [status.job for status in (await console.query()).jobs] == [job_id]
            stage.wake()
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id, seconds=60)


@pytest.mark.parametrize("group", [None, grp.getgrgid(os.getegid()).gr_name])
async def test_the_files_rights_say_who_may_speak(tmp_path: Path, group: str | None) -> None:
    """Its own user alone, or the group that the settings name; the file goes with the agent."""
    settings = settings_of(tmp_path, socket=tmp_path / "s", group=group)
    async with ConsoleSocket(settings, silent) as socket_server:
        found = settings.socket.stat()
        assert stat.S_IMODE(found.st_mode) == (0o600 if group is None else 0o660)
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
        assert socket_server._is_allowed(NOBODY) is (group is not None)
        assert socket_server._is_allowed(os.geteuid())
    assert not settings.socket.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("group", "answered"), [(None, False), (grp.getgrgid(NOBODY).gr_name, True)])
async def test_another_user_gets_in_by_the_group_alone(group: str | None, answered: bool) -> None:
    """And is told by the account that the system knows."""
    connect = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "s = socket.socket(socket.AF_UNIX); body = bytes.fromhex(sys.argv[2])\n"
        "s.connect(sys.argv[1]); s.sendall(len(body).to_bytes(4, 'big') + body)\n"
        "print(s.recv(9999)[4:].hex())"
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.fchmod(opened := os.open(folder, os.O_RDONLY), 0o755)
        os.close(opened)
        settings = settings_of(folder, socket=folder / "s", group=group)
        async with ConsoleSocket(settings, silent):
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", connect, str(settings.socket), encode(Query(who="root")).hex()],
                capture_output=True,
                text=True,
                check=False,
            )
    assert ("PermissionError" in done.stderr) is not answered, done.stderr
    found = bytes.fromhex(done.stdout)
    assert (decode(found) if found else None) == (
        Status(problem=f"for {pwd.getpwuid(NOBODY).pw_name}") if answered else None
    )


async def test_what_an_earlier_life_has_left_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """A path that somebody's file has is refused where the settings name it; by default there is no socket then."""
    bind_socket(tmp_path / "agent.sock", None).close()  # killed
    async with (
        ConsoleSocket(settings_of(tmp_path), silent),
        await SocketConsole.connect(settings_of(tmp_path)) as console,
    ):
        assert (await console.query()).problem == f"for {ME}"
    (tmp_path / "agent.sock").write_text("somebody's notes")
    async with ConsoleSocket(settings_of(tmp_path), silent):
        assert (tmp_path / "agent.sock").read_text() == "somebody's notes"
    with pytest.raises(Invalid, match="something else is there"):
        await ConsoleSocket(settings_of(tmp_path, socket=tmp_path / "agent.sock"), silent).__aenter__()
    (tmp_path / "open").mkdir()
    os.chmod(tmp_path / "open", 0o777)  # noqa: PTH101
    with pytest.raises(Invalid, match="others may write to"):
        await ConsoleSocket(settings_of(tmp_path, socket=tmp_path / "open" / "s"), silent).__aenter__()
    with pytest.raises(Invalid, match="no group 'nosuch'"):
        await ConsoleSocket(settings_of(tmp_path, socket=tmp_path / "s", group="nosuch"), silent).__aenter__()
    with pytest.raises(Invalid, match="at most 102 bytes"):
        await ConsoleSocket(settings_of(tmp_path, socket=tmp_path / ("s" * 102)), silent).__aenter__()


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        (MOST_REQUEST + 1).to_bytes(4, "big"),
        (5).to_bytes(4, "big") + b"hello",
    ],
)
async def test_what_is_no_question_is_answered_so_and_ends_the_conversation(tmp_path: Path, said: bytes) -> None:
    """And the next one is answered."""
    settings = settings_of(tmp_path)
    async with ConsoleSocket(settings, silent):
        reader, writer = await asyncio.open_unix_connection(settings.socket)
        writer.write(said)
        answer = await receive_message(reader, MOST_REQUEST)
        assert isinstance(answer, Status)
        assert answer.problem
        assert await reader.read() == b""
        writer.close()
        async with await SocketConsole.connect(settings) as console:
            assert (await console.query()).problem


async def test_an_agent_that_goes_is_told_as_such(tmp_path: Path) -> None:
    """In the middle of a conversation, too; afterwards nobody listens."""
    settings = settings_of(tmp_path)
    async with ConsoleSocket(settings, silent):
        console = await SocketConsole.connect(settings)
        assert (await console.query()).problem
    with pytest.raises(NoAgent, match="ended the conversation"):
        await console.query()
    with pytest.raises(NoSocket, match="nobody listens"):
        await SocketConsole.connect(settings)


def written(folder: Path) -> Path:
    """Settings of the bank on a broker that is away; there is no key."""
    path = folder / "bank.toml"
    path.write_text(f'party = "bank"\nidentity = "none.key"\nstate = "{BANK}"\n[broker]\nurl = "{AWAY}"\n')
    return path


def invoke(*arguments: object) -> Result:
    """A command, in a thread of its own."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


async def test_the_command_line_needs_neither_broker_nor_key_beside_the_socket(tmp_path: Path) -> None:
    """So that a group of the machine can do what the agent does."""
    path = written(tmp_path)
    (tmp_path / BANK).mkdir()
    async with ConsoleSocket(read_settings(path), silent):
        done = await asyncio.to_thread(invoke, "job", "status", "credit-00000000", "-s", path)
    assert (done.exit_code, f"for {ME}" in done.stderr) == (3, True)
    alone = await asyncio.to_thread(invoke, "job", "cancel", "credit-00000000", "-s", path)
    assert alone.exit_code == 3
    assert "nobody listens at" in " ".join(alone.stderr.split())


def test_a_broker_that_is_away_is_told_once_and_in_words(tmp_path: Path) -> None:
    """In a process of its own, whose libraries would log each attempt to connect."""
    path = written(tmp_path)
    save_identity(Identity.generate(), tmp_path / "none.key")
    command = [sys.executable, "-m", "tercet", "job", "list", "-s", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1), done.stderr


def test_a_user_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image that runs as whoever owns the mounted folder."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert own_account() == f"user {os.getuid()}"


async def test_without_agent_and_broker_the_records_tell_and_say_so(tmp_path: Path) -> None:
    """With a key, too. The exit code says that nobody was asked: a healthcheck must see it."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.change(CARD, tables={})  # an end that comes soon
        job_id = (await stage.run(job()))[BANK].job
    path = written(tmp_path)
    unknown = await asyncio.to_thread(invoke, "job", "status", "credit-00000000", "-s", path)
    assert (unknown.exit_code, "no record" in unknown.stderr) == (3, True)
    for command, has_key in ((("list",), False), (("status", job_id), False), (("status", job_id), True)):
        if has_key:
            save_identity(Identity.generate(), tmp_path / "none.key")
        done = await asyncio.to_thread(invoke, "job", *command, "-s", path, "--format", "json")
        assert done.exit_code == 4, done.stderr
        assert job_id in json.dumps(json.loads(done.stdout))
        assert "records" in done.stderr
