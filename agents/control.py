"""Control messages outside any job's own queues: announcements of jobs, and what a console and its agent say.

All are sealed by long-lived identities; this module knows how they are addressed and opened, and decides nothing.
"""

from broker import topology
from broker.base import Parcel
from broker.identity import Identity, PublicIdentity
from broker.seal import associated_data
from schemas.address import Address, parse_address
from schemas.codec import MalformedMessage, decode, encode
from schemas.messages import Message


def control_parcel(
    message: Message,
    address: Address,
    identity: Identity,
    receiver: PublicIdentity,
    *,
    routing_key: str,
    expires: float | None = None,
) -> Parcel:
    """A sealed control message, ready to be published."""
    associated = associated_data(str(address), message.kind)
    return Parcel(
        exchange=topology.exchange(address.sender),
        routing_key=routing_key,
        body=identity.seal(encode(message), receiver, associated),
        kind=message.kind,
        address=str(address),
        job=address.job,
        sender=address.sender,
        persistent=True,
        expires=expires,
    )


def open_control(parcel: Parcel, identity: Identity, sender: PublicIdentity) -> Message:
    """What is in a control message.

    Raises:
        Forged: the sender did not seal it for this identity.
        MalformedMessage: it is no message.
    """
    message = decode(identity.open(parcel.body, sender, associated_data(parcel.address, parcel.kind)))
    address = parse_address(parcel.address)
    if (message.kind, message.round, message.item) != (parcel.kind, address.round, address.item):
        raise MalformedMessage("its address belongs to another kind of message")
    return message
