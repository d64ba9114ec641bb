"""The handshake of one attempt: everybody ends with the same secrets, or somebody is named."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.broker.sealing.handshake import HandshakeParty, HandshakeState, SessionSecrets
from tercet.broker.sealing.identity import Forged, Identity
from tercet.schemas.messages.kinds import Handshake

NAMES = ("bank", "card", "telco", "notary")
KEYS = {name: Identity.generate() for name in NAMES}
DIGEST = b"d" * 32


def parties(names: Sequence[str]) -> list[HandshakeParty]:
    """The members as the job fixes them."""
    return [HandshakeParty(n, "helper" if n == "notary" else "data", KEYS[n].public) for n in names]


def states(names: Sequence[str] = NAMES, digest: bytes = DIGEST, attempt: int = 1) -> dict[str, HandshakeState]:
    """Everybody's side of one attempt."""
    return {name: HandshakeState(KEYS[name], name, parties(names), digest, attempt) for name in names}


def shake(sides: dict[str, HandshakeState], order: Sequence[tuple[str, str]] | None = None) -> None:
    """Deliver every hello, in some order."""
    hellos = {name: side.hello() for name, side in sides.items()}
    for receiver, sender in order or list(itertools.permutations(sides, 2)):
        sides[receiver].receive(sender, hellos[sender])


def agree(sides: dict[str, HandshakeState]) -> dict[str, SessionSecrets]:
    """The second round, and what each ends with."""
    seen = {name: side.transcript() for name, side in sides.items()}
    for receiver, sender in itertools.permutations(sides, 2):
        sides[receiver].confirm(sender, seen[sender])
    return {name: side.secrets() for name, side in sides.items()}


@settings(max_examples=10)
@given(st.permutations(list(itertools.permutations(NAMES, 2))))
def test_every_pair_ends_with_one_secret_that_no_other_pair_has(order: list[tuple[str, str]]) -> None:
    """In whatever order the hellos come."""
    sides = states()
    shake(sides, order)
    secrets = agree(sides)
    assert len({one.transcript for one in secrets.values()}) == 1
    pairs = {frozenset((a, b)): secrets[a].pairs[b] for a, b in itertools.permutations(NAMES, 2)}
    assert all(secrets[b].pairs[a] == pairs[frozenset((a, b))] for a, b in itertools.permutations(NAMES, 2))
    assert len(set(pairs.values())) == len(pairs)


def test_two_attempts_share_no_secret() -> None:
    """Even of the same job: ephemeral keys are new each time."""
    found = set()
    for attempt in (1, 1, 2):
        sides = states(attempt=attempt)
        shake(sides)
        found.add(agree(sides)["bank"].pairs["card"])
    assert len(found) == 3


def test_a_key_is_for_one_purpose_and_transcript() -> None:
    """Each part of its name counts."""
    sides = states()
    shake(sides)
    secrets = agree(sides)
    keys = {
        secrets["bank"].key("card", "seal", "bank", "card"),
        secrets["bank"].key("card", "seal", "card", "bank"),
        secrets["bank"].key("card", "mask", "bank", "card"),
        secrets["bank"].key("notary", "seal", "bank", "card"),
        secrets["bank"].key("card", "seal", "bankcard", ""),
        SessionSecrets(b"other" * 7, secrets["bank"].pairs).key("card", "seal", "bank", "card"),
    }
    assert len(keys) == 6
    assert secrets["card"].key("bank", "seal", "bank", "card") in keys


@pytest.mark.parametrize(
    "other",
    [
        states(digest=b"e" * 32)["card"].hello(),
        states(attempt=2)["card"].hello(),
        states()["bank"].hello(),
        HandshakeState(Identity.generate(), "card", parties(NAMES), DIGEST, 1).hello(),
        states()["card"].hello().model_copy(update={"key": b"k" * 32}),
        states()["card"].hello().model_copy(update={"signature": b"s" * 64}),
    ],
    ids=["another job", "another attempt", "another party", "another identity", "another key", "no signature"],
)
def test_a_hello_that_is_not_for_this_job_attempt_and_name_is_forged(other: Handshake) -> None:
    """Nothing of an earlier run can be used again."""
    with pytest.raises(Forged):
        states()["bank"].receive("card", other)


def test_a_role_is_signed_too() -> None:
    """A data party's key does not become a helper's."""
    swapped = [HandshakeParty(p.name, "data", p.identity) for p in parties(NAMES)]
    with pytest.raises(Forged):
        states()["bank"].receive("notary", HandshakeState(KEYS["notary"], "notary", swapped, DIGEST, 1).hello())


def test_who_tells_two_parties_two_different_keys_is_found_by_the_transcript() -> None:
    """Both are validly signed; only together they show."""
    sides = states()
    shake(sides)
    twin = HandshakeState(KEYS["card"], "card", parties(NAMES), DIGEST, 1)
    sides["bank"].receive("card", twin.hello())
    with pytest.raises(Forged):
        sides["bank"].confirm("notary", sides["notary"].transcript())


@pytest.mark.parametrize("key", [bytes(32), bytes([1]) + bytes(31)])
def test_a_key_of_small_order_is_refused_with_its_sender_named(key: bytes) -> None:
    """Its secret would be all zero, whatever ours is."""
    sides = states()
    shake(sides)
    card = sides["card"]
    signature = KEYS["card"].sign(card._statement("card", key))
    sides["bank"].receive("card", Handshake(key=key, signature=signature))
    with pytest.raises(Forged, match=r"^card sent an ephemeral key of small order"):
        sides["bank"].secrets()


def test_secrets_do_not_show_in_a_text() -> None:
    """Not even in a traceback that prints locals."""
    sides = states()
    shake(sides)
    secrets = agree(sides)["bank"]
    for secret in secrets.pairs.values():
        assert secret.hex() not in repr(secrets)
        assert repr(secret) not in repr(secrets)
