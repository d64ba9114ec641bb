"""Identities: sealed messages open for one receiver, from one sender, unchanged; key files stay private."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tercet.broker.sealing.identity import (
    _SUITE,
    Forged,
    Identity,
    _public_text,
    load_identity,
    parse_public,
    require_private,
    save_identity,
)
from tercet.broker.sealing.key_problem import KeyProblem

BANK, CARD, MALLORY = Identity.generate(), Identity.generate(), Identity.generate()


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_a_sealed_message_opens_for_its_receiver(body: bytes, associated: bytes) -> None:
    """And is as it was."""
    assert CARD.open(BANK.seal(body, CARD.public, associated), BANK.public, associated) == body


@given(st.data())
def test_a_changed_cut_or_lengthened_message_does_not_open(data: st.DataObject) -> None:
    """Whichever byte it is."""
    sealed = bytearray(BANK.seal(b"a job", CARD.public, b"address"))
    place, change = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(1, 255))
    changed = bytes([*sealed[:place], sealed[place] ^ change, *sealed[place + 1 :]])
    for wrong in (changed, bytes(sealed[:place]), bytes(sealed) + b"\x00"):
        with pytest.raises(Forged):
            CARD.open(wrong, BANK.public, b"address")


@given(st.binary(max_size=300))
def test_any_bytes_are_forged(data: bytes) -> None:
    """Nothing but the one error comes of them."""
    with pytest.raises(Forged):
        CARD.open(data, BANK.public, b"address")


def test_only_the_receiver_opens_and_only_from_the_sender_under_the_same_address() -> None:
    """Each of the three is bound."""
    sealed = BANK.seal(b"a job", CARD.public, b"address")
    for receiver, sender, associated in (
        (MALLORY, BANK.public, b"address"),
        (BANK, BANK.public, b"address"),
        (CARD, MALLORY.public, b"address"),
        (CARD, CARD.public, b"address"),
        (CARD, BANK.public, b"another"),
    ):
        with pytest.raises(Forged):
            receiver.open(sealed, sender, associated)


def test_a_receiver_cannot_pass_a_message_on_as_if_it_were_meant_for_another() -> None:
    """The receiver's key is signed with it."""
    sealed = BANK.seal(b"a job", CARD.public, b"address")
    signature_and_body = _SUITE.decrypt(sealed, CARD._sealing, info=b"address")
    passed_on = _SUITE.encrypt(signature_and_body, MALLORY.public.sealing, info=b"address")
    with pytest.raises(Forged):
        MALLORY.open(passed_on, BANK.public, b"address")


def test_the_same_message_sealed_twice_looks_different() -> None:
    """The broker cannot tell that a status is repeated."""
    assert BANK.seal(b"a job", CARD.public, b"") != BANK.seal(b"a job", CARD.public, b"")


# --- public keys as text


def test_a_public_key_comes_back_from_its_text() -> None:
    """As `tercet keygen` prints it and an operator pastes it."""
    text = str(BANK.public)
    assert text.startswith("tercet-key-1:")
    assert len(text) == len("tercet-key-1:") + 86
    assert str(parse_public(text)) == text


@given(st.text(max_size=120))
def test_any_text_is_a_key_in_its_one_form_or_a_problem_that_does_not_quote_it(text: str) -> None:
    """It might be a private one, pasted by mistake."""
    for candidate in (text, "tercet-key-1:" + text):
        problem = ""
        try:
            assert str(parse_public(candidate)) == candidate
        except KeyProblem as found:
            problem = str(found)
        assert len(text) < 30 or text not in problem


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t[:-1],
        lambda t: t + "A",
        lambda t: t.replace("1:", "2:"),
        lambda t: t + "=",
        lambda t: " " + t,
        lambda t: t[:-1] + chr(ord(t[-1]) + 1),
    ],
)
def test_a_text_that_is_nearly_a_key_is_none(spoil) -> None:
    """Half a paste must not become another key."""
    with pytest.raises(KeyProblem, match="keygen"):
        parse_public(spoil(str(BANK.public)))


SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_that_nothing_can_be_sealed_for_is_refused_when_it_is_read(point: str) -> None:
    """Not at the first job, where the agent would stumble over it."""
    text = _public_text(BANK.public.signing.public_bytes_raw() + bytes.fromhex(point))
    with pytest.raises(KeyProblem, match="small order"):
        parse_public(text)


# --- key files


def test_a_saved_identity_is_the_same_when_loaded_and_readable_for_its_owner_only(tmp_path: Path) -> None:
    """Folders are made where they are missing."""
    path = tmp_path / "keys" / "bank.pem"
    save_identity(BANK, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(load_identity(path).public) == str(BANK.public)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Partners have pinned the one that is there."""
    path = tmp_path / "bank.pem"
    save_identity(BANK, path)
    with pytest.raises(KeyProblem, match="never overwritten"):
        save_identity(CARD, path)
    assert str(load_identity(path).public) == str(BANK.public)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    """It may have been read already, but the operator should know."""
    path = tmp_path / "bank.pem"
    save_identity(BANK, path)
    path.chmod(mode)
    with pytest.raises(KeyProblem, match=f"chmod 600 {path}"):
        load_identity(path)


def test_a_file_that_is_missing_or_no_key_of_ours_is_refused(tmp_path: Path) -> None:
    """And nothing of what is in it is shown."""
    path = tmp_path / "bank.pem"
    with pytest.raises(KeyProblem, match="tercet keygen"):
        load_identity(path)
    path.touch(0o600)
    for content in (b"", b"hush", b"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(KeyProblem) as caught:
            load_identity(path)
        assert "hush" not in str(caught.value)
    path.write_bytes(
        X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(KeyProblem, match="another kind"):
        load_identity(path)


def test_the_file_that_is_checked_is_the_file_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the folder and is quick must not slip another file in between."""
    path, other = tmp_path / "bank.pem", tmp_path / "mallory.pem"
    save_identity(BANK, path)
    save_identity(MALLORY, other)

    swapped: list[Path] = []

    def swapping(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def swap(*arguments: Any, **options: Any) -> os.stat_result:
            found = look(*arguments, **options)
            if not swapped:
                swapped.append(other.rename(path))
            return found

        return swap

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", swapping(os.fstat))
        patched.setattr(Path, "stat", swapping(Path.stat))
        loaded = load_identity(path)
    assert str(loaded.public) == str(BANK.public)
    assert str(load_identity(path).public) == str(MALLORY.public)


def owned_by(user: int) -> Callable[[int], os.stat_result]:
    """What `fstat` says of any file, but for its owner."""
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[4] = user
        return os.stat_result(found)

    return fstat


def test_a_key_belongs_to_this_user_or_to_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user who owns it may read it, whatever its mode."""
    path, me = tmp_path / "bank.pem", os.geteuid()
    save_identity(BANK, path)
    for owner in (me, 0):
        monkeypatch.setattr(os, "fstat", owned_by(owner))
        load_identity(path)
        monkeypatch.undo()
    monkeypatch.setattr(os, "fstat", owned_by(me + 1))
    for read in (load_identity, lambda path: require_private(path, "")):
        with pytest.raises(KeyProblem, match=f"another user; run: chown {me} {path}"):
            read(path)


def test_what_cannot_be_read_is_a_problem_with_the_key_and_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, a pipe, a file too long, a right that is missing."""
    folder, pipe, long = tmp_path / "folder", tmp_path / "pipe", tmp_path / "long"
    folder.mkdir(0o700)
    os.mkfifo(pipe, 0o600)
    long.touch(0o600)
    long.write_bytes(bytes(10**6))
    for path, words in ((folder, "directory"), (pipe, "no plain file"), (long, "too long")):
        with pytest.raises(KeyProblem, match=words):
            load_identity(path)

    def denied(*_: Any, **__: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(KeyProblem, match="Permission denied; give a file that this user may read"):
        load_identity(long)


def test_a_key_that_is_only_half_written_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next `keygen` would refuse to overwrite it, and nobody could load it."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "bank.pem"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(KeyProblem, match="No space left"):
            save_identity(BANK, path)
    assert not path.exists()
    save_identity(BANK, path)
    load_identity(path)


def test_an_identity_does_not_show_its_private_key() -> None:
    """Not in a log, not in a traceback."""
    private = BANK._signing.private_bytes_raw()
    for text in (repr(BANK), str(BANK), repr(BANK.public), str(BANK.public)):
        assert private.hex() not in text
        assert repr(private) not in text
