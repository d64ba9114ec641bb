"""Tells supervisor and monitor whether an agent is alive and can take jobs.

It looks at the agent and its connections and changes nothing; no reason names a job. What it publishes nobody takes.
"""

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from tercet.agents.access.connections import BrokerLink
from tercet.agents.daemon.agent import Agent
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError, Envelope, Lane
from tercet.schemas.messages.address import Address, Round

PULSE_SECONDS: Final = 0.5
MOST_PULSES: Final = 120  # a minute
UNHEARD_SECONDS: Final = 30.0
ALARM_SECONDS: Final = 10.0  # between two questions whether the broker takes anything


class LoopMonitor:
    """Measures the event loop's lag: maths that runs in it delays heartbeats and answers."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=MOST_PULSES)

    async def beat(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            self._lags.append(max(0.0, time.monotonic() - due))

    @property
    def lag(self) -> float:
        """The worst of the last minute, in seconds."""
        return max(self._lags, default=0.0)


def health_problems(agent: Agent, broker: Broker) -> list[str]:
    """List the reasons why the agent cannot go on; none while it is alive."""
    found = ["its queue's handler has ended: see the log"] if broker.failed.done() else []
    if count_unconsumed(agent):
        found.append("a running job's queues are not consumed")
    return found


def count_unconsumed(agent: Agent) -> int:
    """Count running jobs whose queues were not consumed for longer than a repair takes."""
    return sum(run.seconds_unconsumed > UNHEARD_SECONDS for run in agent.runs)


def unwritable(state: Path) -> list[str]:
    """List reasons why the state folder cannot be written: full disk, rights, mount."""
    try:
        if not os.access(state, os.W_OK | os.X_OK):
            return ["its state folder cannot be written"]
        return [] if os.statvfs(state).f_bavail else ["the disk of its state folder is full"]
    except OSError as error:
        return [f"its state folder cannot be looked at: {error.strerror}"]


def readiness_problems(agent: Agent, broker: Broker) -> list[str]:
    """List the reasons why no job could start here; none when the agent is ready."""
    if agent.is_draining:
        return ["it is leaving"]
    if not agent.ready.is_set():
        return ["it is starting"]
    found = [*health_problems(agent, broker), *unwritable(agent.settings.state)]
    if isinstance(broker, BrokerLink):
        if not broker.connected:
            found.append("it has no connection to the broker")
        elif not broker.consuming(topology.standing_queue(agent.me, ()).name):
            found.append("its standing queue is not consumed")
    if broker.blocked:
        found.append(f"the broker takes no messages: it is {broker.blocked}")
    return found


async def look_for_alarms(agent: Agent, broker: Broker) -> None:
    """Publish a message that no queue takes: RabbitMQ tells alarms to publishers only."""
    await agent.ready.wait()
    me, token = agent.me, "alarm"
    address = Address(token, 0, Round.CONTROL, token, 0, 0, me, me)
    nobody = Envelope(topology.exchange(me), topology.console_key(token, me), b"", token, str(address), token, me)
    while True:
        with suppress(BrokerError, TimeoutError):  # Unroutable, as a rule
            async with asyncio.timeout(ALARM_SECONDS):
                await broker.publish(nobody, Lane.BULK)
        await asyncio.sleep(ALARM_SECONDS)
