"""Runs all parties' agents in one process, over a broker in memory, for jobs to come.

Keys are fresh, and state goes under one folder. All else is as each party's settings say, its policy too.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.console_socket import ConsoleSocket
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.agent_settings import ConsoleSettings
from tercet.schemas.files.settings import Settings

DRAIN_SECONDS: Final = 0.1  # nobody takes up jobs whose state is gone

Stop = Callable[[], Coroutine[Any, Any, None]]


def prepare(settings: Mapping[str, Settings], folder: Path) -> dict[str, tuple[Settings, Identity]]:
    """Give each party a fresh key, pinned where it is listed, and its state under `folder`.

    A partner without an agent here is left out.
    """
    identities = {party: Identity.generate() for party in settings}
    keys = {party: str(identity.public) for party, identity in identities.items()}
    prepared = {}
    for number, (party, own) in enumerate(settings.items()):
        socket = folder / f"{number}.sock"  # a short name, as the system allows no long path
        prepared[party] = (_prepare(own, folder / party, socket, keys), identities[party])
    return prepared


def _prepare(own: Settings, state: Path, socket: Path, keys: Mapping[str, str]) -> Settings:
    listed = {p: partner.model_copy(update={"key": keys[p]}) for p, partner in own.partners.items() if p in keys}
    deadlines = own.deadlines.model_copy(update={"drain": DRAIN_SECONDS})
    console = ConsoleSettings(socket=socket)
    return own.model_copy(update={"partners": listed, "state": state, "console": console, "deadlines": deadlines})


async def start_agents(parties: Mapping[str, tuple[Settings, Identity]]) -> Stop:
    """Start all parties' agents, and return what ends them when each answers at its socket.

    Raises:
        Invalid: a state folder or a socket cannot be used.
    """
    ready, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(_serve_all(parties, ready, stop))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():
        waiting.cancel()
        await serving

    async def end() -> None:
        stop.set()
        await serving

    return end


async def _serve_all(
    parties: Mapping[str, tuple[Settings, Identity]], ready: asyncio.Event, stop: asyncio.Event
) -> None:
    broker, up = MemoryBroker(), [asyncio.Event() for _ in parties]
    async with asyncio.TaskGroup() as tasks:
        for (own, identity), is_up in zip(parties.values(), up, strict=True):
            tasks.create_task(_serve(own, identity, broker, is_up, stop))
        for is_up in up:
            await is_up.wait()
        ready.set()


async def _serve(
    own: Settings, identity: Identity, broker: MemoryBroker, is_up: asyncio.Event, stop: asyncio.Event
) -> None:
    connection = broker.connect(own.party)
    agent = Agent(own, identity, connection)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(agent.serve(stop))
            await agent.ready.wait()
            async with ConsoleSocket(own, agent.answer_local):
                is_up.set()
                await stop.wait()
    finally:
        await connection.close()
