"""Reaches a party's own agent: by socket, by broker, or else by the records on the disk.

It says nothing by itself; what is asked is the commands' business. Each way's modules are loaded by who goes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tercet.agents.access.conversation import open_conversation
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.cli.runner import run, settings_of
from tercet.broker.interface.base import CONNECT_SECONDS, BrokerError
from tercet.broker.sealing.key_problem import KeyProblem

if TYPE_CHECKING:
    from tercet.agents.access.console_client import ConsoleClient
    from tercet.schemas.files.settings import Settings
    from tercet.schemas.messages.kinds import Status

BRIEFLY = 3.0  # seconds that who only looks waits for a broker: there may be records

T = TypeVar("T")


def talk_to_agent(settings_path: Path, say: Callable[[ConsoleClient], Awaitable[T]]) -> T:
    """Speak to the agent of these settings; what goes wrong is told, with an exit code."""
    return run(_converse(settings_of(settings_path), say))


async def _converse(
    settings: Settings, say: Callable[[ConsoleClient], Awaitable[T]], seconds: float = CONNECT_SECONDS
) -> T:
    """Talk over the agent's socket if possible, or else through the broker."""
    async with open_conversation(settings, seconds=seconds, before_broker=partial(_log_alone, "critical")) as console:
        return await say(console)


def ask_or_recall(settings_path: Path, job: str | None = None) -> tuple[Status, str]:
    """Ask the agent for the state of jobs, or recall records and say why it was not asked."""
    return run(_asked_or_recalled(settings_of(settings_path), job))


async def _asked_or_recalled(settings: Settings, job: str | None) -> tuple[Status, str]:
    try:
        return await _converse(settings, lambda console: console.query(job), BRIEFLY), ""
    except (NoAgent, BrokerError, KeyProblem) as problem:
        from tercet.agents.jobs.stored_jobs import recall_status  # noqa: PLC0415 - all of an agent, which takes a second and a half

        _log_alone("error")
        recalled = recall_status(settings, job)
        if recalled is None:
            raise
        return recalled, f"{problem}. This is from the records in {settings.state / 'jobs'}, as a job last changed"


def _log_alone(level: str) -> None:
    """Log nothing below a level.

    Of a broker that is away the command tells; libraries would at each attempt.
    """
    from tercet.agents.core import logs  # noqa: PLC0415 - structlog

    logs.configure(level)
