"""Opens messages in an agent's standing queue, and answers its console.

It decides nothing about jobs; `requests` does.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from tercet.agents.access.console_client import Request
from tercet.agents.daemon.ping import Pinger
from tercet.agents.messaging.control import control_envelope, open_control, publish_patiently
from tercet.agents.serving.serving import Serving
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError, Delivery, Envelope
from tercet.broker.interface.dead_letters import BURST, EVERY_SECONDS, clean_text
from tercet.broker.interface.rate_limiter import RateLimiter
from tercet.broker.sealing.identity import Forged, Identity, PublicIdentity, parse_public
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address, MalformedAddress, parse_address
from tercet.schemas.messages.codec import MalformedMessage
from tercet.schemas.messages.kinds import (
    Decide,
    Inquiry,
    Job,
    Message,
    Ping,
    Pong,
    Prune,
    Query,
    Resumption,
    ScoreAnswer,
    ScoreRefusal,
    ScoreRequest,
    Status,
    Submit,
)


class StandingQueue:
    """Handles the deliveries of one agent's standing queue."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        broker: Broker,
        handle_partner: Callable[[Job | Inquiry | Resumption, str], None],
        answer: Callable[[Request], Awaitable[Status]],
        *,
        pinger: Pinger,
        serving: Serving,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """Set up; `handle_partner` gets partners' messages, `answer` the console's requests."""
        self._settings, self._identity, self._broker = settings, identity, broker
        self._handle_partner, self._answer, self._spawn = handle_partner, answer, spawn
        self._pinger, self._serving = pinger, serving
        self._complaints = RateLimiter(BURST, EVERY_SECONDS)
        self.refused: Counter[str] = Counter()  # messages, by the name of the error
        self._log = structlog.get_logger()

    def use_settings(self, settings: Settings) -> None:
        """Open letters of these settings' partners from now on."""
        self._settings = settings

    async def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the broker and settle it."""
        envelope = delivery.envelope
        try:
            address = parse_address(envelope.address)
            message = open_control(envelope, self._identity, self._key_of(address, envelope.exchange))
        except (MalformedAddress, MalformedMessage, Forged) as error:
            self.refused[type(error).__name__] += 1
            self._log_refusal(envelope, str(error))
            await delivery.reject(str(error))
            return
        await delivery.ack()
        if not await self._dispatch(address, message):
            self._log_refusal(envelope, "not for the standing queue")

    def _log_refusal(self, envelope: Envelope, why: str) -> None:
        withheld = self._complaints.admit(envelope.exchange)
        if withheld is not None:
            exchange, sender, kind = (
                clean_text(envelope.exchange),
                clean_text(envelope.sender, 32),
                clean_text(envelope.kind, 32),
            )
            self._log.warning(
                "message refused", why=why, exchange=exchange, sender=sender, kind=kind, withheld=withheld
            )

    def _key_of(self, address: Address, exchange: str) -> PublicIdentity:
        me = self._settings.party
        if address.receiver != me:
            raise Forged("it is addressed to another party")
        if exchange != topology.exchange(address.sender):  # which nobody else may write to
            raise Forged(f"it says that it is from {address.sender}, and came through another party's exchange")
        if address.sender == me:
            return self._identity.public
        if address.sender not in self._settings.partners:
            raise Forged(f"{address.sender} is no partner in these settings")
        return parse_public(self._settings.partners[address.sender].key)

    async def _dispatch(self, address: Address, message: Message) -> bool:
        """Hand a message to its handler; tell whether it has one."""
        me = self._settings.party
        match message:
            case Job() if me not in {address.sender, message.submitter}:  # who has a job may pass it on: it is signed
                self._handle_partner(message, address.sender)
            case Inquiry() | Resumption() if address.sender != me:
                self._handle_partner(message, address.sender)
            case Ping() | Pong() if address.sender != me:
                self._pinger.handle_message(address, message)
            case ScoreRequest() | ScoreAnswer() | ScoreRefusal() if address.sender != me:
                self._serving.handle_message(address, message)
            case Query(partners=True) | Prune() if address.sender == me:  # which may take seconds
                self._spawn(self._answer_console(address, message))
            case Submit() | Query() | Decide() if address.sender == me:
                await self._answer_console(address, message)
            case _:
                return False
        return True

    async def _answer_console(self, request: Address, message: Request) -> None:
        status, me = await self._answer(message), self._settings.party
        envelope = control_envelope(
            status,
            request._replace(item=status.item, sender=me, receiver=me),
            self._identity,
            self._identity.public,
            routing_key=topology.console_key(request.job, me),
        )
        try:
            await publish_patiently(self._broker, envelope)  # a console that has gone needs no answer
        except BrokerError as error:
            self._log.warning("a console could not be answered", why=str(error))
