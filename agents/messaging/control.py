"""Seals and opens control messages outside any job's queues: announcements and console.

All are sealed by long-lived identities; this module knows how they are addressed and opened, and decides nothing.
"""

import asyncio
from collections.abc import Callable

from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError, Envelope
from tercet.broker.sealing.identity import Identity, PublicIdentity
from tercet.broker.sealing.seal import associated_data
from tercet.schemas.messages.address import Address, Round, parse_address
from tercet.schemas.messages.codec import MalformedMessage, decode, encode
from tercet.schemas.messages.kinds import Message

PUBLISH_SECONDS = 10.0
RETRY_SECONDS = 0.25


def control_envelope(
    message: Message,
    address: Address,
    identity: Identity,
    receiver: PublicIdentity,
    *,
    routing_key: str,
    run: bytes = b"",
    expires: float | None = None,
    persistent: bool = True,
) -> Envelope:
    """Seal a control message for publishing; `run` names the run whose queue it goes to."""
    associated = associated_data(str(address), message.kind, run)
    return Envelope(
        exchange=topology.exchange(address.sender),
        routing_key=routing_key,
        body=identity.seal(encode(message), receiver, associated),
        kind=message.kind,
        address=str(address),
        job=address.job,
        sender=address.sender,
        persistent=persistent,
        expires=expires,
    )


def open_control(envelope: Envelope, identity: Identity, sender: PublicIdentity) -> Message:
    """Open a control message.

    Raises:
        Forged: the sender did not seal it for this identity.
        MalformedMessage: it is no message.
    """
    message = decode(identity.open(envelope.body, sender, associated_data(envelope.address, envelope.kind)))
    address = parse_address(envelope.address)
    if (message.kind, message.round, message.item) != (envelope.kind, address.round, address.item):
        raise MalformedMessage("its address belongs to another kind of message")
    return message


async def publish_patiently(broker: Broker, envelope: Envelope) -> bool:
    """Publish a message; tell whether a queue has it now.

    Raises:
        BrokerError: it never will: the broker refuses.
    """
    try:
        async with asyncio.timeout(PUBLISH_SECONDS):
            await broker.publish(envelope, topology.lane(Round.CONTROL))
    except TimeoutError:  # the broker takes nothing at the moment
        return False
    except BrokerError as error:
        if not error.transient:
            raise
        return False
    return True


async def publish_within(
    broker: Broker, envelope: Envelope, seconds: float, wanted: Callable[[], bool] = lambda: True
) -> None:
    """Publish until a queue has it, or it is unwanted; a starting agent has no queue yet.

    Raises:
        TimeoutError: nobody took it in time.
    """
    async with asyncio.timeout(seconds):
        while wanted():
            if await publish_patiently(broker, envelope):
                return
            await asyncio.sleep(RETRY_SECONDS)
