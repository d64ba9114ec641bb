"""Checks that each pinned key can be a partner's own, and not this party's.

It looks at public keys only.
"""

from tercet.broker.sealing.identity import PublicIdentity, parse_public
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.settings import Settings


def check_partner_keys(settings: Settings, own: PublicIdentity | None = None) -> None:
    """Refuse keys that no `keygen` printed, or that two parties share, even in part.

    `own` is among the keys compared.

    Found at the first job, it would end the agent then, or let one party speak for two.

    Raises:
        KeyProblem: names the partners.
    """
    holders: dict[bytes, str] = {}
    if own is not None:
        holders = dict.fromkeys(_halves(own), settings.party)
    for name, partner in settings.partners.items():
        try:
            halves = _halves(parse_public(partner.key))
        except KeyProblem as problem:
            raise KeyProblem(f"[partners.{name}] key: {problem}") from None
        for half in halves:
            if (other := holders.setdefault(half, name)) != name:
                raise _shared(name, other, own=other == settings.party)


def _halves(key: PublicIdentity) -> tuple[bytes, bytes]:
    return b"signs" + key.signing.public_bytes_raw(), b"opens" + key.sealing.public_bytes_raw()


def _shared(name: str, other: str, *, own: bool) -> KeyProblem:
    if own:
        return KeyProblem(
            f"[partners.{name}] key: it is {other}'s own key; write the one that `tercet keygen` printed at {name}"
        )
    return KeyProblem(
        f"[partners.{name}] key: {other} has the same; each party has a key of its own, so ask both again, by telephone"
    )
