"""What a service manager hears of an agent, over real datagram sockets."""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.service import notify_service_manager
from tercet.agents.daemon.systemd import Notifier
from tests.agents.daemon.stage import started
from tests.agents.scenes import BANK, CARD, Scene, job

pytestmark = pytest.mark.real_time

UNIT = Path(__file__).parents[3] / "deploy" / "systemd" / "tercet@.service"
LINUX = sys.platform == "linux"


@pytest.fixture(params=["path", pytest.param("abstract", marks=pytest.mark.skipif(not LINUX, reason="Linux has them"))])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's socket, and how it is named in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"@tercet-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "s")
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(10)
        yield name, listening


def heard(listening: socket.socket) -> list[str]:
    """All words that are there by now."""
    listening.settimeout(0)
    words: list[str] = []
    while True:
        try:
            words += listening.recv(4096).decode().split("\n")
        except BlockingIOError:
            return words


def test_the_manager_is_found_in_the_environment_and_taken_out_of_it(manager: tuple[str, socket.socket]) -> None:
    """A child process of an agent does not speak in its name."""
    name, listening = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier.of_environment(environment)
    assert environment == {"HOME": "/"}
    assert notifier.pause == 2.0
    notifier.ready()
    assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}])
async def test_without_a_manager_nothing_is_sent_and_without_a_watchdog_nobody_is_told_of_life(
    environment: dict[str, str],
) -> None:
    """A watchdog for another process is not ours."""
    notifier = Notifier.of_environment(dict(environment))
    assert notifier.pause == 10.0
    notifier.ready()
    await notifier.watch(list, str)


async def test_the_watchdog_is_fed_while_the_agent_is_well_and_no_longer(manager: tuple[str, socket.socket]) -> None:
    """Then the manager restarts it."""
    name, listening = manager
    ailments: list[str] = []
    watching = asyncio.create_task(Notifier(name, 0.1).watch(lambda: ailments, lambda: "2 jobs run"))
    await asyncio.sleep(0.3)
    well = heard(listening)
    assert {"STATUS=2 jobs run", "WATCHDOG=1"} == set(well)
    assert well.count("WATCHDOG=1") >= 2
    ailments.append("its queue's handler has ended")
    await asyncio.sleep(0.1)
    heard(listening)
    await asyncio.sleep(0.2)
    assert set(heard(listening)) == {"STATUS=its queue's handler has ended"}
    watching.cancel()


async def test_an_event_loop_that_is_stuck_feeds_no_watchdog(manager: tuple[str, socket.socket]) -> None:
    """The words come from the loop itself, not from a thread beside it."""
    name, listening = manager
    watching = asyncio.create_task(Notifier(name, 0.1).watch(list, str))
    await asyncio.sleep(0.1)
    heard(listening)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.4)"], check=True)  # noqa: ASYNC221
    assert heard(listening) == []
    watching.cancel()


async def test_an_agent_tells_when_it_is_ready_what_it_does_and_that_it_leaves(
    tmp_path: Path, manager: tuple[str, socket.socket]
) -> None:
    """Ready once its queue is consumed, leaving before its jobs have ended."""
    name, listening = manager
    async with started(tmp_path, CARD) as stage:
        serving, stop = await attended(stage, Notifier(name, 0.1))
        await asyncio.sleep(0.1)
        assert heard(listening)[:3] == ["READY=1", "STATUS=no jobs run", "WATCHDOG=1"]
        stop.set()
        await serving
        assert "STOPPING=1" in heard(listening)
    assert job().name not in name


async def attended(stage: Scene, notifier: Notifier) -> tuple["asyncio.Task[None]", asyncio.Event]:
    """The bank's agent as a service, once it is up."""
    settings, identity = stage.parties[BANK]
    broker, stop = stage.memory_broker.connect(BANK), asyncio.Event()
    agent = Agent(settings, identity, broker)

    async def serve() -> None:
        try:
            await notify_service_manager(agent, broker, stop, notifier)
        finally:
            await broker.close()

    task = stage.tasks.create_task(serve())
    await agent.ready.wait()
    return task, stop


async def test_a_manager_that_is_gone_ends_no_agent(tmp_path: Path) -> None:
    """It is told in the log once, and the agent works on."""
    notifier = Notifier(str(tmp_path / "nobody"), 0.05)
    watching = asyncio.create_task(notifier.watch(list, str))
    await asyncio.sleep(0.2)
    assert not watching.done()
    watching.cancel()


def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    """With the notifications that the agent sends, and the hardening that a security team asks for."""
    text = UNIT.read_text()
    for line in ("Type=notify", "WatchdogSec=", "Restart=on-failure", "NoNewPrivileges=yes", "ProtectSystem=strict",
        "ExecReload=/bin/kill -HUP $MAINPID", "RuntimeDirectory=tercet/%i", "RuntimeDirectoryMode=0750"):  # fmt: skip
        assert line in text
    program = shutil.which("systemd-analyze")
    if program is None:
        return  # the lines above are all that can be checked here
    unit = tmp_path / "tercet@.service"
    unit.write_text(text.replace("/opt/tercet/bin/tercet", shutil.which("true") or "/bin/true"))
    group = tmp_path / "tercet@.service.d" / "group.conf"  # as docs/operations.md has it, for the agent's socket
    group.parent.mkdir()
    group.write_text("[Service]\nGroup=nogroup\n")
    found = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert unit.name not in found.stderr, found.stderr
