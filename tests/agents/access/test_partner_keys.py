"""A party's key is its own: neither another partner's, nor ours, nor half of one; it is told before anything begins."""

import base64
from pathlib import Path

import pytest

from tercet.agents.access.partner_keys import check_partner_keys
from tercet.agents.doctor.finding import Outcome
from tercet.agents.doctor.local import check_partners_keys
from tercet.broker.sealing.identity import PUBLIC_PREFIX, Identity, parse_public
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.settings import Partner, Settings

BANK, CARD, TELCO = (Identity.generate() for _ in range(3))


def settings_of(**keys: str) -> Settings:
    """The bank's, with these partners."""
    partners = {name: Partner(key=key) for name, key in keys.items()}
    return Settings(party="bank", identity=Path("bank.key"), state=Path("state"), partners=partners)


def halves(key: Identity) -> list[bytes]:
    """What signs, and what opens."""
    text = str(key.public).removeprefix(PUBLIC_PREFIX)
    raw = base64.urlsafe_b64decode(text + "==")
    return [raw[:32], raw[32:]]


def joined(signs: Identity, opens: Identity) -> str:
    """A key that no `keygen` made."""
    raw = halves(signs)[0] + halves(opens)[1]
    text = PUBLIC_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert str(parse_public(text)) == text
    return text


def test_keys_that_differ_are_taken() -> None:
    """Also where one's own is not known."""
    settings = settings_of(card=str(CARD.public), telco=str(TELCO.public))
    check_partner_keys(settings)
    check_partner_keys(settings, BANK.public)


@pytest.mark.parametrize(
    ("card", "telco", "words"),
    [
        (BANK, None, r"\[partners.card\] key: it is bank's own key"),
        (joined(BANK, CARD), None, r"\[partners.card\] key: it is bank's own key"),
        (joined(CARD, BANK), None, r"\[partners.card\] key: it is bank's own key"),
        (CARD, joined(CARD, TELCO), r"\[partners.telco\] key: card has the same"),
        (CARD, joined(TELCO, CARD), r"\[partners.telco\] key: card has the same"),
        (CARD, "tercet-key-1:abc", r"\[partners.telco\] key: a public key is"),
    ],
    ids=["ours", "half of ours", "the other half", "half of another's", "its other half", "no key"],
)
def test_a_key_that_two_share_is_refused(card: Identity | str, telco: Identity | str | None, words: str) -> None:
    """With the names of both; the doctor says the same, and what to do."""
    keys = {"card": card, "telco": telco or TELCO}
    settings = settings_of(**{name: key if isinstance(key, str) else str(key.public) for name, key in keys.items()})
    with pytest.raises(KeyProblem, match=words):
        check_partner_keys(settings, BANK.public)
    found = check_partners_keys(settings, BANK.public)
    assert (found.outcome, found.check) == (Outcome.FAIL, "settings")
    assert "keygen" in found.hint
