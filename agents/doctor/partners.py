"""Checks agents for `tercet doctor`: is its own running, and which versions partners have.

It speaks to the party's own agent only; that one pings the partners.
"""

from collections.abc import Iterator
from typing import Final

from tercet.agents.access.broker import Credentials, connect
from tercet.agents.access.console import BrokerConsole
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.access.settings_digest import differing_fields, is_reloadable, settings_digests
from tercet.agents.doctor.finding import Finding, fail, ok, warn
from tercet.broker.interface.base import BrokerError
from tercet.broker.interface.dead_letters import clean_text
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import LOWEST_VERSION, PROTOCOL_VERSION, PartnerAnswer

APART: Final = 300.0  # seconds between two clocks at which signed jobs are refused
DRIFTING: Final = 10.0  # beside what the ping took


async def check_agents(settings: Settings, identity: Identity, login: Credentials | None) -> Iterator[Finding]:
    """Our own agent, the settings that it runs with, and through it the partners' agents."""
    try:
        broker = await connect(settings, "doctor", login)
        async with BrokerConsole(settings.party, identity, broker) as console:
            answer = await console.partners()
    except (NoAgent, BrokerError) as error:
        start = "start it with `tercet agent` and the same settings file, or look at its log"
        return iter([fail("agent", str(error), start)])
    findings = [ok("agent", f"{settings.party}'s agent answers")]
    if answer.problem is not None:
        findings = [fail("agent", answer.problem, "look at the agent's log")]
    findings += _same_settings(settings, dict(answer.settings))
    return iter([*findings, *(finding for partner in answer.partners for finding in _partner(partner))])


def _same_settings(settings: Settings, running: dict[str, str]) -> Iterator[Finding]:
    """Check that the agent runs with the file's settings; skip one that does not tell."""
    if not running:
        return
    fields = differing_fields(settings_digests(settings), running)
    if not fields:
        yield ok("running settings", "the agent's are those of the file")
        return
    said = f"the agent runs with others than the file has: {', '.join(fields)}"
    again = "send it SIGHUP (`systemctl reload`)"
    hint = again if all(map(is_reloadable, fields)) else "start the agent again, with this file"
    yield warn("running settings", said, hint)


def _partner(answer: PartnerAnswer) -> Iterator[Finding]:
    party, check = answer.party, f"partner {answer.party}"
    if not answer.answered:
        said = f"{party}'s agent does not answer" + (f": {answer.why}" if answer.why else "")
        hint = f"ask {party} whether its agent runs on this broker and virtual host, and compare each other's keys"
        yield warn(check, said, hint)
        return
    said = f"release {clean_text(answer.release)}, protocol {_range(answer.lowest, answer.highest)}, {answer.role}"
    if answer.lowest > PROTOCOL_VERSION or answer.highest < LOWEST_VERSION:
        ours = f"{said}; we speak {_range(LOWEST_VERSION, PROTOCOL_VERSION)}"
        yield fail(check, ours, "install a later release at whoever speaks the earlier versions")
    else:
        yield ok(check, said)
    yield _clock(party, answer.clock or 0.0, answer.seconds or 0.0)


def _range(lowest: int, highest: int) -> str:
    return str(highest) if lowest == highest else f"{lowest} to {highest}"


def _clock(party: str, ahead: float, took: float) -> Finding:
    check = f"clock of {party}"
    said = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    hint = f"let both machines, ours and {party}'s, keep their clocks by NTP"
    if abs(ahead) > APART:
        return fail(check, f"{said}: signed jobs are refused", hint)
    if abs(ahead) > DRIFTING + took:
        return warn(check, said, hint)
    return ok(check, said)
