"""Makes RabbitMQ's definitions for a set of parties.

They have users with the least rights, exchanges, dead letters, limits and policies.

Pure functions that make a document; they talk to no broker and keep no password, only its salted hash.

Of a party `bank` among others the broker lets it
- create, consume, empty and delete its own queues, `tercet.bank.…`, and bind them;
- write to its own exchange, `tercet.from.bank`, which is there already, and to no other, not the default one either;
- bind its queues to the exchanges of the parties listed, by keys that end in `.to.bank` and by no others. Such a key
  has its last two words in full, so a wildcard before them takes nothing that is meant for somebody else.

All patterns are anchored at both ends here, since RabbitMQ anchors none.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tercet.broker.interface import topology
from tercet.schemas.core.names import NAME_PATTERN, RESERVED

HASHING: Final = "rabbit_password_hashing_sha256"
SALT_BYTES: Final = 4  # RabbitMQ's own
NO_PASSWORD: Final = ""  # of a user who logs in by certificate
ADMINISTRATOR: Final = "administrator"

EXPIRY_SECONDS: Final = 7 * 86400  # of a job's queue that nobody uses: longer than any job waits for a party
QUEUE_BYTES: Final = 256 * 2**20  # what one queue holds until senders have to wait; four times in_flight_mib
DEAD_BYTES: Final = 16 * 2**20
DEAD_LETTERS: Final = 10_000
CONNECTIONS: Final = 32  # of one party: two for its agent, two for each console
CHANNELS: Final = 2048  # of one party: a few lasting ones, and one for each declaration while jobs begin
QUEUES: Final = 640  # for each party: 64 jobs, or 16 with room for what earlier ones have left


class NoName(ValueError):
    """A word that no party can be called."""


def password_hash(password: str) -> str:
    """Hash a password as RabbitMQ keeps it."""
    salt = secrets.token_bytes(SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(hashes: Mapping[str, str], vhost: str, *, operators: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the document that `rabbitmqctl import_definitions` and `load_definitions` take.

    Args:
        hashes: each party's `password_hash`, or NO_PASSWORD.
        vhost: the virtual host that the parties share, with nobody else.
        operators: users of the management page, who may do everything there; likewise with their hashes.

    Raises:
        NoName: a party cannot be called that.
    """
    parties = sorted(hashes)
    for party in parties:
        check_name(party)
    operators = operators or {}
    return {
        "vhosts": [{"name": vhost}],
        "users": [*(_party(party, hashes[party]) for party in parties), *_operators(operators)],
        "permissions": [{"vhost": vhost, **permission} for permission in _permissions(parties, operators)],
        "topic_permissions": [
            {"user": party, "vhost": vhost, "exchange": topology.exchange(sender), **topic_rights(party, sender)}
            for party in parties
            for sender in parties
        ],
        "parameters": [
            {
                "component": "vhost-limits",
                "name": "limits",
                "vhost": vhost,
                "value": {"max-connections": CONNECTIONS * len(parties), "max-queues": QUEUES * len(parties)},
            }
        ],
        "policies": [{"vhost": vhost, **policy} for party in parties for policy in policies(party)],
        "exchanges": [
            *(_exchange(topology.exchange(party), vhost, "topic") for party in parties),
            _exchange(topology.DEAD_EXCHANGE, vhost, "direct", internal=True),
        ],
        "queues": [_dead_letters(party, vhost) for party in parties],
        "bindings": [binding for party in parties for binding in _bindings(party, vhost)],
    }


def check_name(party: str) -> None:
    """Refuse a name that no party can have.

    Raises NoName.
    """
    if party in RESERVED or re.fullmatch(NAME_PATTERN, party) is None:
        raise NoName(f"{party[:40]!r} is no name of a party: small letters, digits and dashes, at most 32")


def rights(party: str, parties: Iterable[str]) -> dict[str, str]:
    """Return what a party may create, write and read, by patterns of whole names.

    Writing to a queue is binding it. A party that is not among `parties` has nothing to be read: for exchanges without
    a topic permission RabbitMQ asks for none.
    """
    # Ended by \z, since $ lets a newline follow.
    own = rf"{topology.PREFIX}\.{party}\.[a-z0-9.-]+"
    senders = "|".join(sorted({*parties, party}))
    return {
        "configure": rf"^{own}\z",
        "write": rf"^({own}|{topology.PREFIX}\.from\.{party})\z",
        "read": rf"^({own}|{topology.PREFIX}\.from\.({senders}))\z",
    }


def topic_rights(party: str, sender: str) -> dict[str, str]:
    """Return by which keys a party may write to an exchange, and bind to it."""
    return {"write": ".*" if party == sender else r"^\z", "read": rf"\.to\.{party}\z"}


def policies(party: str) -> list[dict[str, Any]]:
    """Return policies of a party's queues: dead letters, expiry and bounds.

    The one of the highest priority holds for a queue.

    No queue that a party may create is without bounds, whatever it is called.
    """
    # Ended by \z, since $ lets a newline follow.
    own = rf"^{topology.PREFIX}\.{party}"
    dead = {"dead-letter-exchange": topology.DEAD_EXCHANGE, "dead-letter-routing-key": party}
    full = {"max-length-bytes": QUEUE_BYTES, "overflow": "reject-publish"}  # the sender's outbox tries again
    dead_bounds = {"max-length": DEAD_LETTERS, "max-length-bytes": DEAD_BYTES, "overflow": "drop-head"}
    return [
        _policy(party, "dead-letters", rf"{own}\.dead-letters\z", dead_bounds),
        _policy(party, "standing", rf"{own}\.jobs\z", dead | full),
        _policy(party, "jobs", rf"{own}\.", dead | full | {"expires": EXPIRY_SECONDS * 1000}, priority=0),
    ]


def _policy(party: str, what: str, pattern: str, definition: dict[str, Any], priority: int = 1) -> dict[str, Any]:
    name = f"{topology.PREFIX}-{party}-{what}"
    return {"name": name, "pattern": pattern, "apply-to": "queues", "priority": priority, "definition": definition}


def _party(name: str, hashed: str) -> dict[str, Any]:
    limits = {"max-connections": CONNECTIONS, "max-channels": CHANNELS}
    return {"name": name, "password_hash": hashed, "hashing_algorithm": HASHING, "tags": "", "limits": limits}


def _operators(hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    tags = {"hashing_algorithm": HASHING, "tags": ADMINISTRATOR}
    return [{"name": name, "password_hash": hashed, **tags} for name, hashed in hashes.items()]


def _permissions(parties: Iterable[str], operators: Iterable[str]) -> Iterator[dict[str, str]]:
    parties = tuple(parties)
    for party in parties:
        yield {"user": party, **rights(party, parties)}
    for name in operators:
        yield {"user": name, **dict.fromkeys(("configure", "write", "read"), ".*")}


def _exchange(name: str, vhost: str, kind: str, *, internal: bool = False) -> dict[str, Any]:
    fixed = {"durable": True, "auto_delete": False, "arguments": {}}
    return {"name": name, "vhost": vhost, "type": kind, "internal": internal, **fixed}


def _dead_letters(party: str, vhost: str) -> dict[str, Any]:
    arguments = {"x-queue-type": "classic"}  # as the agent declares it
    name = topology.dead_letter_queue(party).name
    return {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": arguments}


def _bindings(party: str, vhost: str) -> list[dict[str, Any]]:
    queue = topology.dead_letter_queue(party)
    return [
        {
            "source": source,
            "vhost": vhost,
            "destination": queue.name,
            "destination_type": "queue",
            "routing_key": key,
            "arguments": {},
        }
        for source, key in (*queue.bindings, (topology.DEAD_EXCHANGE, party))
    ]
