"""Converses with a party's own agent: over its socket, or else through the broker.

It decides nothing and shows nothing. Modules of the way that is not gone are not loaded.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from tercet.agents.core.states import TERMINAL
from tercet.broker.interface.base import CONNECT_SECONDS
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.access.console import BrokerConsole
    from tercet.agents.access.console_client import ConsoleClient
    from tercet.schemas.files.settings import Settings
    from tercet.schemas.messages.console import JobStatus, Status

POLL_SECONDS: Final = 0.5


@asynccontextmanager
async def open_conversation(
    settings: Settings,
    *,
    seconds: float = CONNECT_SECONDS,
    environment: MutableMapping[str, str] = os.environ,
    before_broker: Callable[[], None] = lambda: None,
) -> AsyncIterator[ConsoleClient]:
    """Open a conversation over the agent's socket if possible, or else through the broker.

    Args:
        settings: of the party whose agent it is.
        seconds: to wait for the broker.
        environment: may name key and login; each is taken out of it.
        before_broker: called if the broker is needed.

    Raises:
        Invalid, KeyProblem: a file that the settings name cannot be used.
        BrokerError: the broker is not there or refuses.
    """
    from tercet.agents.access.socket_console import NoSocket, SocketConsole  # noqa: PLC0415 - asyncio

    try:
        local = await SocketConsole.connect(settings)
    except NoSocket as problem:
        before_broker()
        remote = await _connect_to_broker(settings, str(problem), seconds, environment)
        async with remote:
            yield remote
    else:
        async with local:
            yield local


async def _connect_to_broker(
    settings: Settings, nearer: str, seconds: float, environment: MutableMapping[str, str]
) -> BrokerConsole:
    from tercet.agents.access.broker import connect, own_credentials  # noqa: PLC0415 - aio-pika
    from tercet.agents.access.console import BrokerConsole  # noqa: PLC0415
    from tercet.agents.access.identity import own_identity  # noqa: PLC0415
    from tercet.agents.access.partner_keys import check_partner_keys  # noqa: PLC0415

    try:
        identity = own_identity(settings, environment)
    except KeyProblem as problem:
        raise KeyProblem(f"{problem}. Without the key there is the agent's socket alone, and {nearer}") from None
    check_partner_keys(settings, identity.public)
    login = own_credentials(settings.broker, environment)
    broker = await connect(settings, "console", login, seconds=seconds)
    return BrokerConsole(settings.party, identity, broker)


def check_answer(status: Status) -> Status:
    """Return an agent's answer.

    Raises:
        Invalid: the agent says that it cannot be; the text says why.
    """
    if status.problem is not None:
        raise Invalid(status.problem)
    return status


async def follow_job(console: ConsoleClient, job: str) -> AsyncIterator[JobStatus]:
    """Yield a job's status twice a second to its end, and then until its report is written.

    Args:
        console: of the agent that is asked.
        job: an id.

    Raises:
        Invalid: the agent knows no such job.
    """
    import asyncio  # noqa: PLC0415 - a tenth of a second

    while True:
        (found,) = check_answer(await console.query(job)).jobs
        yield found
        if is_over(found):
            return
        await asyncio.sleep(POLL_SECONDS)


def is_over(status: JobStatus) -> bool:
    """Tell whether a job has ended, and has its report if it gets one."""
    return status.state in TERMINAL and not status.report_due


async def cancel_job(console: ConsoleClient, job: str) -> JobStatus:
    """End a job at every party, and wait for that.

    Raises:
        Invalid: the agent knows no such job.
    """
    check_answer(await console.query(job, cancel=True, who=own_account()))
    async for found in follow_job(console, job):
        last = found
    return last


def own_account() -> str:
    """Name this process's user for the audit log; in an image it may have no name."""
    try:
        return getpass.getuser()[:128]
    except (KeyError, OSError):
        return f"user {os.getuid()}"
