"""Keeps dead letters: messages that a party has refused, with the reason.

They lie in a queue of the party's own that a person can read.

It keeps of a body its size and digest only: a body opens for nobody any more, and a flood of large ones would become
one here. What came in a letter is cut and cleaned before it is kept, since a terminal will show it.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

import structlog
from pydantic import Field, StringConstraints

from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError, Envelope, Lane
from tercet.broker.interface.rate_limiter import RateLimiter
from tercet.schemas.core.strict import Strict
from tercet.schemas.core.visible import escape_invisible

BURST: Final = 64  # letters of one sender at once; then one in EVERY_SECONDS, and the rest are counted
EVERY_SECONDS: Final = 10.0
PUBLISH_SECONDS: Final = 5.0
KEEP_SECONDS: Final = (
    30 * 86400.0
)  # for brokers that were set up without the policies of broker/rabbitmq/definitions.py
KIND: Final = "dead letter"
_TEXT: Final = 255
_REASON: Final = 500

Text = Annotated[str, StringConstraints(max_length=_TEXT)]

log = structlog.get_logger(__name__)


class DeadLetter(Strict):
    """Describes a message that was refused.

    Everything but reason, time, exchange and size is what its sender claimed.
    """

    reason: Annotated[str, StringConstraints(max_length=_REASON)]
    time: str = Field(max_length=32)
    exchange: Text  # which tells the sender: nobody else may write to it
    routing_key: Text
    kind: Text
    address: Text
    job: Text
    sender: Text
    size: int = Field(ge=0)  # bytes
    digest: str = Field(max_length=64)  # SHA-256 of the body
    withheld: int = Field(default=0, ge=0)  # letters of the same sender before it that were not kept


def clean_text(text: str, most: int = _TEXT) -> str:
    """Make a stranger's text fit for a terminal: visible, and no longer than `most`."""
    return escape_invisible(text[:most])[:most]


def make_letter(envelope: Envelope, reason: str, time: datetime, withheld: int = 0) -> DeadLetter:
    """Make the dead letter of an envelope that was refused."""
    return DeadLetter(
        reason=clean_text(reason, _REASON),
        time=time.astimezone(UTC).isoformat(timespec="seconds"),
        exchange=clean_text(envelope.exchange),
        routing_key=clean_text(envelope.routing_key),
        kind=clean_text(envelope.kind),
        address=clean_text(envelope.address),
        job=clean_text(envelope.job),
        sender=clean_text(envelope.sender),
        size=len(envelope.body),
        digest=hashlib.sha256(envelope.body).hexdigest(),
        withheld=withheld,
    )


def parse_letter(envelope: Envelope, reason: str, time: datetime) -> DeadLetter:
    """Read a message of a dead letter queue.

    It is a letter of the party's own, or else RabbitMQ has put it there itself.
    """
    if envelope.kind == KIND:
        try:
            return DeadLetter.model_validate_json(envelope.body)
        except ValueError:
            pass
    return make_letter(envelope, reason, time)


def _now() -> datetime:
    return datetime.now(UTC)


class DeadLetterWriter:
    """Puts one party's dead letters into its queue.

    The queue is declared when the first one comes.
    """

    def __init__(
        self, broker: Broker, party: str, allowance: RateLimiter | None = None, now: Callable[[], datetime] = _now
    ) -> None:
        self._broker, self._party, self._now = broker, party, now
        self._limiter = allowance or RateLimiter(BURST, EVERY_SECONDS)
        self._declared = False
        self.written = 0

    async def write(self, envelope: Envelope, reason: str) -> bool:
        """Write a letter; tell whether the envelope may be forgotten.

        It may also be forgotten if its sender has had enough letters.
        """
        withheld = self._limiter.admit(envelope.exchange)
        if withheld is None:
            return True
        letter = make_letter(envelope, reason, self._now(), withheld)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publish(letter)
        except (BrokerError, TimeoutError) as error:
            self._declared = False
            log.warning("a dead letter could not be kept", why=str(error), kind=letter.kind, address=letter.address)
            return False
        self.written += 1
        return True

    async def _publish(self, letter: DeadLetter) -> None:
        if not self._declared:
            await self._broker.declare(topology.dead_letter_queue(self._party))
            self._declared = True
        await self._broker.publish(self._envelope(letter), Lane.ONLINE)

    def _envelope(self, letter: DeadLetter) -> Envelope:
        return Envelope(
            exchange=topology.exchange(self._party),
            routing_key=topology.dead_key(self._party),
            body=letter.model_dump_json().encode(),
            kind=KIND,
            address=f"dead/{letter.digest}",
            job="",
            sender=self._party,
            persistent=True,
            expires=KEEP_SECONDS,
        )
