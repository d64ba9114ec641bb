"""Runs all checks of `tercet doctor`, one after another.

It changes nothing but the state folder, which it makes if it is missing, and stops asking where an answer cannot come.
"""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

from tercet.agents.access.broker import Credentials, own_credentials
from tercet.agents.doctor.broker import check_reachable, check_rights, check_tls
from tercet.agents.doctor.finding import Finding, Outcome, fail
from tercet.agents.doctor.local import (
    check_clock,
    check_identity,
    check_partners_keys,
    check_state,
    check_tables,
    fingerprints,
)
from tercet.agents.doctor.page import check_page
from tercet.agents.doctor.partners import check_agents
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings, read_settings


async def examine(path: Path) -> AsyncIterator[Finding]:
    """Make every finding, and yield it at once."""
    try:
        settings = read_settings(path)
    except Invalid as problem:
        yield fail("settings", str(problem), "correct the file; docs/operations.md lists every field")
        return
    found, identity = check_identity(settings)
    keys = check_partners_keys(settings, None if identity is None else identity.public)
    yield keys
    yield found
    if keys.outcome is not Outcome.FAIL:
        for finding in fingerprints(settings):
            yield finding
    needed = 0
    for finding, takes in check_tables(settings):
        needed = max(needed, takes)
        yield finding
    for finding in check_state(settings.state, needed):
        yield finding
    yield check_clock()
    async for finding in check_page(settings, dt.datetime.now(dt.UTC)):
        yield finding
    async for finding in _at_the_broker(settings, identity):
        yield finding


async def _at_the_broker(settings: Settings, identity: Identity | None) -> AsyncIterator[Finding]:
    reachable = await check_reachable(settings.broker)
    yield reachable
    if reachable.outcome is Outcome.FAIL:
        return
    async for finding in check_tls(settings.broker, dt.datetime.now(dt.UTC)):
        yield finding
        if finding.outcome is Outcome.FAIL:
            return
    try:
        login: Credentials | None = own_credentials(settings.broker)
    except (Invalid, KeyProblem) as problem:
        yield fail("login", str(problem), "mend the file that [broker] credentials names; mode 600, your own")
        return
    async for finding in check_rights(settings, login):
        yield finding
        if finding.outcome is Outcome.FAIL:
            return
    if identity is not None:
        for finding in await check_agents(settings, identity, login):
            yield finding
