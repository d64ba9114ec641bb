"""Sealed bodies: each direction has its own key, each message its own nonce, and the address belongs to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.broker.sealing.handshake import SessionSecrets
from tercet.broker.sealing.identity import Forged
from tercet.broker.sealing.seal import NONCE_BYTES, SessionSeal, associated_data
from tercet.schemas.messages.kinds import BODY_VERSION


def seals(transcript: bytes = b"t" * 32) -> tuple[SessionSeal, SessionSeal, SessionSeal]:
    """The bank's, the card processor's and the notary's of one attempt."""
    bank_card, bank_notary, card_notary = b"1" * 32, b"2" * 32, b"3" * 32
    return (
        SessionSeal(SessionSecrets(transcript, {"card": bank_card, "notary": bank_notary}), "bank"),
        SessionSeal(SessionSecrets(transcript, {"bank": bank_card, "notary": card_notary}), "card"),
        SessionSeal(SessionSecrets(transcript, {"bank": bank_notary, "card": card_notary}), "notary"),
    )


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_a_body_opens_at_its_receiver_as_it_was(body: bytes, associated: bytes) -> None:
    """Plain bytes or a view of them."""
    bank, card, _ = seals()
    assert card.open("bank", bank.seal("card", body, associated), associated) == body
    assert bank.open("card", card.seal("bank", memoryview(body), associated), associated) == body


@given(st.data())
def test_a_changed_cut_or_lengthened_body_does_not_open(data: st.DataObject) -> None:
    """Whichever byte it is."""
    bank, card, _ = seals()
    sealed = bank.seal("card", b"words", b"address")
    place, change = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(1, 255))
    changed = bytes([*sealed[:place], sealed[place] ^ change, *sealed[place + 1 :]])
    for wrong in (changed, sealed[:place], sealed + b"\x00"):
        with pytest.raises(Forged):
            card.open("bank", wrong, b"address")


@given(st.binary(max_size=100))
def test_any_bytes_are_forged(data: bytes) -> None:
    """Nothing but the one error comes of them."""
    with pytest.raises(Forged):
        seals()[1].open("bank", data, b"address")


def test_a_body_opens_for_nobody_else_nowhere_else_and_in_no_other_attempt() -> None:
    """Nor when it is sent back to its sender."""
    bank, card, notary = seals()
    sealed = bank.seal("card", b"words", b"address")
    for opens, sender, associated in (
        (card, "bank", b"another"),
        (card, "notary", b"address"),
        (notary, "bank", b"address"),
        (bank, "card", b"address"),
        (seals(b"u" * 32)[1], "bank", b"address"),
    ):
        with pytest.raises(Forged):
            opens.open(sender, sealed, associated)


def test_a_nonce_is_never_used_twice_under_one_key() -> None:
    """The counter goes on, whatever is sealed."""
    bank, _, _ = seals()
    nonces = [bank.seal("card", b"same", b"same")[:NONCE_BYTES] for _ in range(1000)]
    assert len(set(nonces)) == 1000


def test_two_directions_and_two_partners_have_keys_of_their_own() -> None:
    """So their counters may meet."""
    bank, card, notary = seals()
    bodies = {
        seal.seal(to, b"same", b"same")[NONCE_BYTES:]
        for seal, to in ((bank, "card"), (bank, "notary"), (card, "bank"), (card, "notary"), (notary, "bank"))
    }
    assert len(bodies) == 5


def test_what_is_authenticated_names_version_kind_address_and_run() -> None:
    """Kinds are words without a slash, so no two pairs give one text."""
    assert associated_data("job/1/x", "ready", b"\x01\xff") == f"tercet {BODY_VERSION} ready job/1/x 01ff".encode()
    assert associated_data("b", "a") != associated_data("a", "b")
