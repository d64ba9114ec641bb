"""Names every exchange, queue, routing key and binding, once.

The management page reads as a status page.

Nothing here talks to a broker, and no name depends on a step: queues depend on jobs and parties only.
"""

from collections.abc import Iterable
from typing import Final

from tercet.broker.interface.base import Lane, Queue
from tercet.schemas.messages.address import Round

PREFIX: Final = "tercet"
DEAD_EXCHANGE: Final = f"{PREFIX}.dead"  # for RabbitMQ's own dead letters; no party may write to it
ANNOUNCE: Final = "announce"  # the last but one word of a standing queue's routing keys

# A party that fills a slow line with masked inputs must not hold up an activation, nor a heartbeat.
_BULK_ROUNDS = frozenset(
    {Round.ALIGNMENT, Round.MASKED_INPUTS, Round.DEALT, Round.RELEASE},
)

ROUNDS: Final = {  # the queues that a party of each role has for a job
    "data": tuple(round_ for round_ in Round if round_ != Round.PREACTIVATIONS),
    "helper": (Round.HANDSHAKE, Round.ALIGNMENT, Round.PREACTIVATIONS, Round.METRICS, Round.CONTROL),
}


def exchange(sender: str) -> str:
    """Name the one exchange a party writes to; nobody else may."""
    return f"{PREFIX}.from.{sender}"


def routing_key(job: str, round_: str, receiver: str) -> str:
    """Make the routing key of messages of a job's round."""
    return f"job.{job}.{round_}.to.{receiver}"


def announce_key(job: str, receiver: str) -> str:
    """Make the routing key of a message whose receiver may not know the job yet."""
    return routing_key(job, ANNOUNCE, receiver)


def console_key(token: str, party: str) -> str:
    """Make the routing key by which an agent answers its own console."""
    return f"console.{token}.to.{party}"


def dead_key(party: str) -> str:
    """Make the routing key of a party's dead letters."""
    return f"dead.to.{party}"


def lane(round_: str) -> Lane:
    """Return the connection that a round travels on."""
    return Lane.BULK if round_ in _BULK_ROUNDS else Lane.ONLINE


def job_queue(party: str, job: str, round_: Round, senders: Iterable[str]) -> Queue:
    """Return a party's queue for one round of one job, bound to every other party's exchange."""
    key = routing_key(job, round_, party)
    return Queue(job_queue_name(party, job, round_), tuple((exchange(sender), key) for sender in senders))


def job_queue_name(party: str, job: str, round_: Round) -> str:
    """Name the queue by party, job and round."""
    return f"{PREFIX}.{party}.{job}.{round_}"


def standing_queue(party: str, partners: Iterable[str]) -> Queue:
    """Return a party's queue for jobs it does not know yet and for its own console."""
    bindings = tuple((exchange(sender), announce_key("*", party)) for sender in (party, *partners))
    return Queue(f"{PREFIX}.{party}.jobs", bindings)


def dead_letter_queue(party: str) -> Queue:
    """Describe the queue in which refused messages wait for a person."""
    return Queue(f"{PREFIX}.{party}.dead-letters", ((exchange(party), dead_key(party)),))


def console_queue(party: str, token: str) -> Queue:
    """Return a console's queue for answers; gone with its connection."""
    return Queue(f"{PREFIX}.{party}.console.{token}", ((exchange(party), console_key(token, party)),), private=True)
