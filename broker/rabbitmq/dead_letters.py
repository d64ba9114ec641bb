"""Reads and removes the messages of a party's dead letter queue at RabbitMQ.

It shows letters and no body, and touches no other queue.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from tercet.broker.interface import topology
from tercet.broker.interface.base import Refused
from tercet.broker.interface.dead_letters import DeadLetter, clean_text, parse_letter
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.consumer import envelope_of
from tercet.broker.rabbitmq.link import RPC_SECONDS

UNKNOWN: Final = "RabbitMQ does not say why it is here"


class DeadLetterPage(NamedTuple):
    """Holds the oldest letters, and how many more there are."""

    letters: list[DeadLetter]
    more: int


async def read_dead_letters(broker: RabbitBroker, party: str, limit: int, *, remove: bool = False) -> DeadLetterPage:
    """Read the oldest `limit` dead letters of a party.

    With `remove` they are gone afterwards, else they stay as they are.

    Raises:
        BrokerError: the broker refuses, or is away.
    """
    name = topology.dead_letter_queue(party).name
    try:
        return await broker.ask(f"reading {name}", lambda channel: _read(channel, name, limit, remove=remove))
    except Refused as error:
        if isinstance(error.__cause__, aiormq.ChannelNotFoundEntity):
            return DeadLetterPage([], 0)  # nothing has been refused yet
        raise


async def _read(channel: aiormq.Channel, name: str, limit: int, *, remove: bool) -> DeadLetterPage:
    letters: list[DeadLetter] = []
    waiting = (await channel.queue_declare(name, passive=True, timeout=RPC_SECONDS)).message_count or 0
    while len(letters) < limit:
        message = await channel.basic_get(name, timeout=RPC_SECONDS)
        if not isinstance(message.delivery, Basic.GetOk):
            break
        letters.append(_letter(message))
        if remove:
            await channel.basic_ack(message.delivery.delivery_tag or 0)
    return DeadLetterPage(letters, max(0, waiting - len(letters)))


def _letter(message: DeliveredMessage) -> DeadLetter:
    headers: dict[str, Any] = dict(message.header.properties.headers or {})
    reason, queue = headers.get("x-first-death-reason"), headers.get("x-first-death-queue")
    why = UNKNOWN if reason is None else f"RabbitMQ: {reason} in {clean_text(str(queue))}"
    return parse_letter(envelope_of(message), why, _time(headers))


def _time(headers: dict[str, Any]) -> datetime:
    match headers.get("x-death"):
        case [{"time": datetime() as time}, *_]:
            return time
    return datetime.fromtimestamp(0, UTC)
