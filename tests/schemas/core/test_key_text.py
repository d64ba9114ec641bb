"""A public key as people write it: a typo is found by its checksum, and keys of before have none."""

import re
import string
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.broker.sealing.identity import Identity, load_identity, parse_public
from tercet.schemas.core.key_text import with_checksum, without_checksum
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Partner, read_settings

KEY = Identity.generate().public
KNOWN = "LDY72Pc7KgEl0xYSFXkGyC7PLvFNDlke13SNmYzjNlbYuT8qfNUBUioUj5ByTPiuTSc9ANGvEoTDBNFzGRZjUw"
KNOWN_FINGERPRINT = ("85725 50279 30973 49191 44801 25377", "omALG2")
LETTERS = string.ascii_letters + string.digits + "-_"


def test_every_single_typo_is_found() -> None:
    """One letter that is another, is missing, or has changed places with the next, wherever it is."""
    text = KEY.text
    for place in range(len(text)):
        other = LETTERS[(LETTERS.find(text[place]) + 1) % len(LETTERS)]
        wrong = [text[:place] + other + text[place + 1 :], text[:place] + text[place + 1 :]]
        swapped = text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
        wrong += [swapped] if swapped != text else []
        for one in wrong:
            with pytest.raises(ValueError, match="key"):  # where the mark is gone, the key itself is none
                parse_public(without_checksum(one))


def test_between_agents_a_key_is_written_as_ever(tmp_path: Path) -> None:
    """Settings with and without the checksum are the same, so that old ones go on and jobs compare keys as texts."""
    assert Partner(key=KEY.text) == Partner(key=str(KEY))
    assert Partner(key=KEY.text).key == str(KEY)
    assert parse_public(without_checksum(with_checksum(str(KEY)))) == parse_public(str(KEY))
    typo = KEY.text[:30] + LETTERS[(LETTERS.index(KEY.text[30]) + 1) % len(LETTERS)] + KEY.text[31:]
    path = tmp_path / "bank.toml"
    path.write_text(f'party = "bank"\nidentity = "k"\nstate = "s"\n[partners.card]\nkey = "{typo}"\n')
    with pytest.raises(Invalid, match=r"partners\.card\.key: a letter of this key is wrong or missing") as caught:
        read_settings(path)
    assert typo[20:40] not in str(caught.value)


def test_keygen_prints_checksum_and_fingerprint(tmp_path: Path) -> None:
    """The fingerprint is the key's own: six groups of five digits, another one for another key."""
    done = CliRunner().invoke(app, ["keygen", str(tmp_path / "bank.key")])
    public = load_identity(tmp_path / "bank.key").public
    assert done.stdout == f"{public.text}\n"
    assert public.fingerprint in done.stderr
    assert re.fullmatch(r"(\d{5} ){5}\d{5}", public.fingerprint)
    assert public.fingerprint != KEY.fingerprint
    assert parse_public(without_checksum(done.stdout.strip())).fingerprint == public.fingerprint


def test_a_fingerprint_does_not_change_between_releases() -> None:
    """Partners compare what two releases print."""
    known = parse_public("tercet-key-1:" + KNOWN)
    assert (known.fingerprint, known.text.partition(".")[2]) == KNOWN_FINGERPRINT
