"""Reads a running agent's settings again, for the jobs that start from then on.

A file that is wrong changes nothing; what cannot change while the agent runs is named.
"""

import asyncio
from pathlib import Path

import structlog

from tercet.agents.access.partner_keys import check_partner_keys
from tercet.agents.access.settings_digest import RELOADED, differing_fields, is_reloadable, settings_digests
from tercet.agents.daemon.agent import Agent
from tercet.broker.interface.base import BrokerError
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings, read_settings
from tercet.schemas.messages.kinds import Job

UNCHANGED = "the settings stay as they were"


async def reload_on_signal(signalled: asyncio.Event, agent: Agent, path: Path) -> None:
    """Read the file again whenever `signalled` is set, until cancelled."""
    await agent.ready.wait()
    while True:
        await signalled.wait()
        signalled.clear()
        await reload(agent, path)


async def reload(agent: Agent, path: Path) -> None:
    """Read the file again; the log says what has changed, what has not, and why."""
    log = structlog.get_logger()
    try:
        found = await asyncio.to_thread(read_settings, path)
        check_partner_keys(found, agent.key)
        now = agent.settings.model_copy(update={name: getattr(found, name) for name in RELOADED})
        _check_whole(now)
        changed = differing_fields(settings_digests(agent.settings), settings_digests(found))
        await agent.use_settings(now)
    except (Invalid, KeyProblem, BrokerError) as problem:
        log.error(UNCHANGED, why=str(problem))  # noqa: TRY400 - the sentence says all
        return
    log.info("settings are read again", changed=[name for name in changed if is_reloadable(name)])
    if stays := [name for name in changed if not is_reloadable(name)]:
        log.warning("settings that count from the agent's next start", fields=stays)
    if stale := [run.job.id for run in agent.runs if _names_another_key(run.job, now)]:
        log.warning("jobs that run go on with a key that is pinned no more; cancel them, if it leaked", jobs=stale)


def _names_another_key(job: Job, settings: Settings) -> bool:
    keys = {name: partner.key for name, partner in settings.partners.items()}
    return any(member.key != keys.get(member.name) for member in job.members if member.name != settings.party)


def _check_whole(settings: Settings) -> None:
    """New sections fit the old rest: a helper holds no tables, say."""
    try:
        Settings.model_validate({name: getattr(settings, name) for name in Settings.model_fields})
    except ValueError as error:
        raise Invalid(f"what is new does not fit what counts until the next start: {error}") from None
