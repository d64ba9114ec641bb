"""Serves an agent's monitor and its service manager, beside the agent's own work.

It decides nothing about jobs; an agent without either runs the same.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.console_socket import ConsoleSocket
from tercet.agents.daemon.health import LoopMonitor, health_problems, look_for_alarms, readiness_problems
from tercet.agents.daemon.systemd import Notifier
from tercet.broker.interface.base import Broker

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tercet.agents.daemon.http_server import Listening


async def notify_service_manager(
    agent: Agent,
    broker: Broker,
    stop: asyncio.Event,
    notifier: Notifier,
    *more: Coroutine[Any, Any, None],
    page: "tuple[ASGIApp, Listening] | None" = None,
) -> None:
    """Run an agent until `stop` is set, and answer for it meanwhile; `more` runs beside it.

    `page` is an application of its own, and where it listens.

    Raises:
        Invalid: the port of [monitor] or [page], or the socket of [console], cannot be had.
        BrokerError: as `Agent.serve`.
    """
    pulse = LoopMonitor()
    async with AsyncExitStack() as servers, asyncio.TaskGroup() as tasks:
        await _listen(servers, agent, broker, pulse, page)
        beside = [
            tasks.create_task(pulse.beat()),
            tasks.create_task(look_for_alarms(agent, broker)),
            tasks.create_task(_notify_state(agent, broker, notifier)),
            tasks.create_task(_notify_stopping(stop, notifier)),
            tasks.create_task(_answer(agent)),
            *(tasks.create_task(one) for one in more),
        ]
        try:
            await agent.serve(stop)
        finally:
            for task in beside:
                task.cancel()


async def _listen(
    servers: AsyncExitStack,
    agent: Agent,
    broker: Broker,
    pulse: LoopMonitor,
    page: "tuple[ASGIApp, Listening] | None" = None,
) -> None:
    """Serve what the settings name a port for; an agent without one loads none of it."""
    settings = agent.settings.monitor
    if settings.port is None and page is None:
        return
    from tercet.agents.daemon.http_server import Listening, WebServer  # noqa: PLC0415 - a web framework
    from tercet.agents.daemon.monitor import MonitorApp, answers_of  # noqa: PLC0415

    answers, served = answers_of(agent, broker, pulse), [] if page is None else [page]
    if page is not None and (page[1].address, page[1].port) == (settings.address, settings.port):
        served = [(MonitorApp(answers, page[0]), page[1])]
    elif settings.port is not None:
        served.append((MonitorApp(answers), Listening("[monitor]", settings.address, settings.port)))
    for app, place in served:
        await servers.enter_async_context(WebServer(app, place))


async def _notify_state(agent: Agent, broker: Broker, notifier: Notifier) -> None:
    await agent.ready.wait()
    notifier.ready()
    await notifier.watch(lambda: health_problems(agent, broker), lambda: _state(agent, broker))


async def _notify_stopping(stop: asyncio.Event, notifier: Notifier) -> None:
    await stop.wait()
    notifier.stopping()


async def _answer(agent: Agent) -> None:
    """Once it is certain that no other agent of this party runs, whose socket this would be."""
    await agent.ready.wait()
    async with ConsoleSocket(agent.settings, agent.answer_local):
        await asyncio.Event().wait()


def _state(agent: Agent, broker: Broker) -> str:
    """Describe the agent in one line for `systemctl status`."""
    problems = [problem for problem in readiness_problems(agent, broker) if not agent.is_draining]
    running = len(agent.runs)
    jobs = "1 job runs" if running == 1 else f"{running or 'no'} jobs run"
    return "; ".join([f"leaving, {jobs}" if agent.is_draining else jobs, *problems])
