"""Pings partners' agents for the party's own console, and answers partners' pings.

It tells versions, role and time, and nothing of any job. Strangers have been refused before.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import structlog

from tercet.agents.messaging.control import control_envelope, publish_patiently
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError
from tercet.broker.interface.clock import loop_time
from tercet.broker.sealing.identity import Identity, parse_public
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import LOWEST_VERSION, PROTOCOL_VERSION, Message, PartnerAnswer, Ping, Pong

ANSWER_SECONDS = 3.0  # well below the console's own patience
MOST_ANSWERS: Final = 10  # to one partner, in RENEWED seconds: a person asks, not a machine
RENEWED: Final = 10.0

Spawn = Callable[[Coroutine[Any, Any, None]], None]


@dataclass(slots=True)
class _PingRound:
    """Collects the answers to one console's question."""

    since: float = field(default_factory=loop_time)
    sent: float = field(default_factory=time.time)
    answers: dict[str, PartnerAnswer] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Pinger:
    """Sends and answers one agent's pings."""

    def __init__(self, settings: Settings, identity: Identity, broker: Broker, spawn: Spawn) -> None:
        self._settings, self._identity, self._broker, self._spawn = settings, identity, broker, spawn
        self._rounds: dict[str, _PingRound] = {}
        self._answer_times: dict[str, deque[float]] = {}
        self._changed = asyncio.Event()
        self._log = structlog.get_logger()

    # --- asking

    def use_settings(self, settings: Settings) -> None:
        """Speak to these settings' partners from now on."""
        self._settings = settings

    async def ping_partners(self) -> tuple[PartnerAnswer, ...]:
        """Ping every partner: what came, a few seconds later at most."""
        token, partners = f"ping-{secrets.token_hex(8)}", tuple(self._settings.partners)
        ping_round = self._rounds[token] = _PingRound()
        try:
            for party in partners:
                self._spawn(self._send_ping(token, party))
            await self._await_answers(ping_round, len(partners))
        finally:
            del self._rounds[token]
        return tuple(self._answer_of(ping_round, party) for party in partners)

    async def _await_answers(self, ping_round: _PingRound, partners: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while len(ping_round.answers) < partners:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _answer_of(self, ping_round: _PingRound, party: str) -> PartnerAnswer:
        silent = PartnerAnswer(party=party, answered=False, why=ping_round.failures.get(party, "")[:500])
        return ping_round.answers.get(party, silent)

    async def _send_ping(self, token: str, party: str) -> None:
        ping = Ping(lowest=LOWEST_VERSION, highest=PROTOCOL_VERSION, release=version("tercet"))
        why = await self._publish(ping, token, party)
        if why and token in self._rounds:
            self._rounds[token].failures[party] = why

    # --- hearing

    def handle_message(self, address: Address, message: Ping | Pong) -> None:
        """Take a partner's ping, or its answer to ours."""
        if isinstance(message, Ping):
            if self._may_be_answered(address.sender):
                self._spawn(self._send_pong(address))
        elif address.job in self._rounds:
            self._note_pong(self._rounds[address.job], address.sender, message)

    def _may_be_answered(self, partner: str) -> bool:
        """Tell whether it asked seldom enough; answers to a flood would fill its queue."""
        answered, now = self._answer_times.setdefault(partner, deque(maxlen=MOST_ANSWERS)), loop_time()
        if len(answered) == MOST_ANSWERS and now - answered[0] < RENEWED:
            return False
        answered.append(now)
        return True

    def _note_pong(self, ping_round: _PingRound, party: str, pong: Pong) -> None:
        if party in ping_round.answers:
            return
        seconds = loop_time() - ping_round.since
        ping_round.answers[party] = PartnerAnswer(
            party=party,
            answered=True,
            lowest=pong.lowest,
            highest=pong.highest,
            release=pong.release,
            role=pong.role,
            clock=pong.time - (ping_round.sent + seconds / 2),  # it answered half way, give or take
            seconds=seconds,
        )
        self._changed.set()

    async def _send_pong(self, ping: Address) -> None:
        pong = Pong(
            lowest=LOWEST_VERSION,
            highest=PROTOCOL_VERSION,
            release=version("tercet"),
            role=self._settings.role,
            time=time.time(),
        )
        await self._publish(pong, ping.job, ping.sender)

    async def _publish(self, message: Message, token: str, party: str) -> str:
        """Publish once; why it cannot be, in words."""
        if party not in self._settings.partners:
            return "it is no partner any more"
        envelope = control_envelope(
            message,
            Address(token, 0, Round.CONTROL, message.item, 0, 0, self._settings.party, party),
            self._identity,
            parse_public(self._settings.partners[party].key),
            routing_key=topology.announce_key(token, party),  # late it does no harm; expired, it would be a dead letter
        )
        try:
            return "" if await publish_patiently(self._broker, envelope) else "its agent has no queue at the broker"
        except BrokerError as error:
            self._log.info("a partner could not be reached", partner=party, kind=message.kind, why=str(error))
            return str(error)
