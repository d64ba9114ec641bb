"""Three daemons around a RabbitMQ of their own, each with a line that can be cut, started again whenever they die.

It does to processes and lines what it is told; which, when and why is decided in `runs`.
"""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yarl import URL

from tercet.agents.access.broker import connect
from tercet.agents.access.console import BrokerConsole
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.jobs.records import Record
from tercet.broker.interface.base import BrokerError
from tercet.broker.sealing.identity import load_identity
from tercet.schemas.files.settings import Settings, read_settings
from tercet.schemas.messages.kinds import JobStatus, Status
from tests.broker.proxy import Proxy, proxied
from tests.chaos.plans import Deed
from tests.deployment import Deployment
from tests.forked import Forked
from tests.rabbitmq_node import Node

VHOST = "chaos"
RESTART_SECONDS = 0.1  # what a supervisor waits
STOP_SECONDS = 20.0
UP_SECONDS = 60.0
LOOK_SECONDS = 0.02


@dataclass
class _Agent:
    """One party's process, as its supervisor sees it."""

    party: str
    arguments: list[str]
    log: Path
    process: Forked | None = None
    lives: int = 0
    leaving: bool = False

    async def supervise(self) -> None:
        """Start the process, and start it again until it is to leave."""
        while not self.leaving:
            self.process = Forked("tests.chaos.agent", self.arguments, self.log)
            self.lives += 1
            await self._gone()
            if not self.leaving:
                await asyncio.sleep(RESTART_SECONDS)

    async def _gone(self) -> None:
        while self.process is not None and self.process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if there is one at the moment."""
        if self.process is not None:
            self.process.send_signal(number)

    async def leave(self) -> None:
        """End the process as an operator does."""
        self.leaving = True
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._gone(), STOP_SECONDS)
        except TimeoutError:
            self.send(signal.SIGKILL)


@dataclass
class Fleet:
    """Everything that runs; made by `fleet`."""

    deployment: Deployment
    node: Node
    plans: Path
    agents: dict[str, _Agent] = field(default_factory=dict)
    lines: dict[str, Proxy] = field(default_factory=dict)

    @property
    def parties(self) -> list[str]:
        """The data parties, then the helper."""
        return self.deployment.parties

    def settings(self, party: str) -> Settings:
        """A party's, as its agent has read them."""
        return read_settings(self.deployment.settings(party))

    # --- what can be asked

    @asynccontextmanager
    async def console(self, party: str) -> AsyncIterator[BrokerConsole]:
        """A console of a party, which no fault touches but that of the broker."""
        settings = self.settings(party)
        direct = settings.broker.model_copy(update={"url": _bare(self.deployment.url)})
        broker = await connect(settings.model_copy(update={"broker": direct}), "console")
        async with BrokerConsole(party, load_identity(settings.identity), broker) as console:
            yield console

    async def until_up(self) -> None:
        """Return when all agents answer."""
        async with asyncio.timeout(UP_SECONDS):
            for party in self.parties:
                while await self._answer(party) is None:  # noqa: ASYNC110 - another process is starting
                    await asyncio.sleep(LOOK_SECONDS)

    async def _answer(self, party: str) -> Status | None:
        try:
            async with asyncio.timeout(2), self.console(party) as console:
                return await console.query("nothing-00000000")
        except (NoAgent, BrokerError, TimeoutError):
            return None

    def status(self, party: str, job: str) -> JobStatus | None:
        """What a party's agent has written down of a job, whether it lives or not."""
        path = self.deployment.folder / party / "jobs" / f"{job}.json"
        try:
            return Record.model_validate_json(path.read_bytes()).status
        except FileNotFoundError:
            return None

    def log(self, party: str, since: int = 0) -> list[dict[str, Any]]:
        """What a party's agents have logged from some byte on; a line that a SIGKILL has torn is left out."""
        found = []
        for line in self.agents[party].log.read_bytes()[since:].splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def logged(self) -> dict[str, int]:
        """How long each log is now."""
        return {party: agent.log.stat().st_size if agent.log.exists() else 0 for party, agent in self.agents.items()}

    async def queues(self) -> dict[str, int]:
        """The broker's queues, and how many messages are in each."""
        found = await asyncio.to_thread(self.node.queues, VHOST)
        return {name: messages for name, (messages, _, _) in found.items()}

    @property
    def lives(self) -> int:
        """How many processes there have been."""
        return sum(agent.lives for agent in self.agents.values())

    # --- what can be done

    async def do(self, deed: Deed) -> None:
        """Do it, and undo it when its time is over."""
        match deed.what:
            case "kill":
                self._send(deed.parties, signal.SIGKILL)
            case "stop":
                self._send(deed.parties, signal.SIGSTOP)
                try:
                    await asyncio.sleep(deed.seconds)
                finally:
                    self._send(deed.parties, signal.SIGCONT)
            case "cut" | "stall":
                await self._without_lines(deed)
            case "broker":
                await asyncio.to_thread(self.node.kill)
                await asyncio.sleep(deed.seconds)
                await asyncio.to_thread(self.node.start)

    def _send(self, parties: Iterable[str], number: signal.Signals) -> None:
        for party in parties:
            self.agents[party].send(number)

    async def _without_lines(self, deed: Deed) -> None:
        lines = [self.lines[party] for party in deed.parties]
        for line in lines:
            if deed.what == "cut":
                line.cut(refuse=True)
            else:
                line.stall()
        try:
            await asyncio.sleep(deed.seconds)
        finally:
            for line in lines:
                line.refusing = False
                line.flow()


def _bare(url: str) -> str:
    address = URL(url)
    return str(address.with_user(None).with_password(None))


@asynccontextmanager
async def fleet(folder: Path, node: Node, tables: dict[str, str], helper: str, extra: str) -> AsyncIterator[Fleet]:
    """Set everything up under a folder, in a virtual host of the node; at the end all agents are told to leave."""
    plans = folder / "plans"
    plans.mkdir()
    async with AsyncExitStack() as stack:
        with Deployment(folder, node.add_vhost(VHOST), tables, helper, extra=extra) as deployment:
            one = Fleet(deployment, node, plans)
            for party in deployment.parties:
                one.lines[party] = await stack.enter_async_context(proxied("127.0.0.1", node.port))
                settings = deployment.settings(party)
                settings.write_text(
                    settings.read_text().replace(f":{node.port}/", f":{one.lines[party].port}/"), encoding="utf-8"
                )
                one.agents[party] = _Agent(party, [str(plans), str(settings)], folder / f"{party}.log")
            async with asyncio.TaskGroup() as supervisors:
                for agent in one.agents.values():
                    supervisors.create_task(agent.supervise())
                try:
                    await one.until_up()
                    yield one
                finally:
                    await asyncio.gather(*(agent.leave() for agent in one.agents.values()))
