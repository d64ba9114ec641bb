"""`python -m tests.chaos.agent PLANS SETTINGS.toml`: a daemon with fixed contributions and a broker that has faults.

It is told nothing of a run but what the folder of plans says; without a plan for a job it is like any other daemon.
"""

import asyncio
import signal
import sys
from pathlib import Path

from tercet.agents.access.broker import connect
from tercet.agents.cli.runner import run
from tercet.agents.core import logs
from tercet.agents.daemon.agent import Agent
from tercet.broker.sealing.identity import load_identity
from tercet.schemas.files.settings import Settings, read_settings
from tests.chaos.faults import FaultyBroker
from tests.fixed_agent import fixed_contribution


async def serve(settings: Settings, plans: Path) -> None:
    """The daemon's life, until SIGTERM or until a plan ends it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = FaultyBroker(await connect(settings), settings.party, plans)
    contribute = fixed_contribution(settings.party)
    try:
        await Agent(settings, load_identity(settings.identity), broker, contribute=contribute).serve(stop)
    finally:
        await broker.close()


if __name__ == "__main__":
    logs.configure("info")
    run(serve(read_settings(Path(sys.argv[2])), Path(sys.argv[1])))
