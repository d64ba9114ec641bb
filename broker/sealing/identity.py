"""Holds long-lived identities: a key that signs, and a key that opens control messages.

The first is Ed25519; the second, X25519, is derived from it.

A private key is a file that only its owner may read; nothing here prints, logs or repeats one.
"""

import base64
import hashlib
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.core.key_text import with_checksum

PUBLIC_PREFIX = "tercet-key-1:"
SIGNATURE_BYTES = 64
MAX_FILE_BYTES = 64 * 1024  # no key or credentials file is longer
_RAW = serialization.Encoding.Raw, serialization.PublicFormat.Raw
# Any key finds those of small order: its exchange with one of them, and with no other, is all zero.
_PROBE = X25519PrivateKey.from_private_bytes(bytes(32))
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Forged(ValueError):
    """Bytes that the party they name did not sign or seal, or that were changed."""


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """Holds the public keys that a party's partners pin in their settings."""

    signing: Ed25519PublicKey
    sealing: X25519PublicKey

    def __str__(self) -> str:
        """Return the text that agents compare."""
        return _public_text(self._raw)

    @property
    def _raw(self) -> bytes:
        return self.signing.public_bytes(*_RAW) + self.sealing.public_bytes(*_RAW)

    @property
    def text(self) -> str:
        """The text to give to partners, with a checksum against typos."""
        return with_checksum(str(self))

    @property
    def fingerprint(self) -> str:
        """Return six groups of five digits to be compared aloud.

        Another key with the same takes about 2^99 tries.
        """
        digest = hashlib.sha256(b"tercet key fingerprint" + self._raw).digest()
        digits = f"{int.from_bytes(digest) % 10**30:030d}"
        return " ".join(digits[start : start + 5] for start in range(0, 30, 5))

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises Forged unless this identity signed the data."""
        try:
            self.signing.verify(signature, data)
        except InvalidSignature:
            raise Forged("a signature does not fit the key pinned for its party") from None


def _public_text(raw: bytes) -> str:
    return PUBLIC_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


@lru_cache(maxsize=1024)  # each job reads the keys of its parties anew
def parse_public(text: str) -> PublicIdentity:
    """Read a partner's key as `tercet keygen` printed it.

    Raises:
        KeyProblem: the text is not such a key, or nothing can be sealed for it.
    """
    encoded = text.removeprefix(PUBLIC_PREFIX)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 64 or text != _public_text(raw):  # one spelling only: parties compare keys as texts
        raise KeyProblem(f"a public key is {PUBLIC_PREFIX} and 86 characters, as `tercet keygen` prints it")
    sealing = X25519PublicKey.from_public_bytes(raw[32:])
    try:
        _PROBE.exchange(sealing)
    except ValueError:  # an all-zero result
        raise KeyProblem("a public key that nothing can be sealed for (of small order): ask its owner again") from None
    return PublicIdentity(Ed25519PublicKey.from_public_bytes(raw[:32]), sealing)


class Identity:
    """Holds a party's own long-lived keys."""

    def __init__(self, signing: Ed25519PrivateKey) -> None:
        self._signing = signing
        seed = signing.private_bytes_raw()
        derived = HKDF(SHA256(), 32, salt=None, info=b"tercet identity: sealing key").derive(seed)
        self._sealing = X25519PrivateKey.from_private_bytes(derived)
        self.public = PublicIdentity(signing.public_key(), self._sealing.public_key())

    @classmethod
    def generate(cls) -> "Identity":
        """Return a new identity from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, data: bytes) -> bytes:
        """Return an Ed25519 signature."""
        return self._signing.sign(data)

    def seal(self, plaintext: bytes, receiver: PublicIdentity, associated: bytes) -> bytes:
        """Sign, then encrypt to the receiver (HPKE, RFC 9180); `associated` is bound to both."""
        signature = self.sign(_signed(receiver, associated, plaintext))
        return _SUITE.encrypt(signature + plaintext, receiver.sealing, info=associated)

    def shared_key(self, partner: PublicIdentity, purpose: str) -> bytes:
        """Derive the 32 bytes that this party and a partner share for one purpose.

        They last as long as both keys.
        """
        parties = b"".join(sorted((self.public._raw, partner._raw)))  # noqa: SLF001
        info = b"tercet shared key" + parties + purpose.encode()
        return HKDF(SHA256(), 32, salt=None, info=info).derive(self._sealing.exchange(partner.sealing))

    def open(self, sealed: bytes, sender: PublicIdentity, associated: bytes) -> bytes:
        """Return the plaintext that `sender` sealed for this identity.

        Raises:
            Forged: it did not, or a byte has changed.
        """
        try:
            opened = _SUITE.decrypt(sealed, self._sealing, info=associated)
        except (InvalidTag, ValueError):
            raise Forged("a sealed control message does not open") from None
        signature, plaintext = opened[:SIGNATURE_BYTES], opened[SIGNATURE_BYTES:]
        sender.verify(signature, _signed(self.public, associated, plaintext))
        return plaintext


def _signed(receiver: PublicIdentity, associated: bytes, plaintext: bytes) -> bytes:
    # The receiver's key is signed too, so that an honest receiver cannot pass the message on as meant for another.
    head = b"tercet control message" + str(receiver).encode()
    return head + len(associated).to_bytes(4, "big") + associated + plaintext


def save_identity(identity: Identity, path: Path) -> None:
    """Write a private key to a new file that only its owner may read.

    Raises:
        KeyProblem: the file exists, or it cannot be written; what was written of it is removed.
    """
    pem = identity._signing.private_bytes(  # noqa: SLF001 - the one place where a private key is written
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyProblem(f"{path} exists; a key is never overwritten, choose another path") from None
    except OSError as error:
        raise KeyProblem(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())  # partners pin the public half: the private one must not be lost with the power
    except BaseException as error:
        path.unlink(missing_ok=True)  # half a key would only be in the next one's way
        if isinstance(error, OSError):
            raise KeyProblem(f"{path}: {error.strerror}") from None
        raise


def load_identity(path: Path) -> Identity:
    """Read a private key.

    Raises:
        KeyProblem: as for `read_private`, or it is no Ed25519 key.
    """
    return identity_of(read_private(path, "make one with `tercet keygen`"), str(path))


def identity_of(pem: bytes, where: str) -> Identity:
    """Read the identity of a private key as `save_identity` writes it.

    `where` it was found is for the error.

    Raises:
        KeyProblem: it is no such key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyProblem(f"{where} is no private key that `tercet keygen` wrote") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyProblem(f"{where} holds another kind of key than Ed25519; make one with `tercet keygen`")
    return Identity(key)


def read_private(path: Path, if_missing: str) -> bytes:
    """Read a secret file.

    What is checked is what is read: the file is opened once.

    Raises:
        KeyProblem: it is missing or unreadable, others may read it, or it belongs to another user; with what to do.
    """
    with _opened(path, if_missing) as file:
        try:
            content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise KeyProblem(f"{path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise KeyProblem(f"{path} is too long for a key or a login; give the right file")
    return content


def require_private(path: Path, if_missing: str) -> None:
    """Refuse a secret file as `read_private` does.

    For a library that opens it by its path: call this just before.

    Raises:
        KeyProblem: with what to do.
    """
    _opened(path, if_missing).close()


def _opened(path: Path, if_missing: str) -> BinaryIO:
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - Path.open takes no opener
    except FileNotFoundError as error:
        raise KeyProblem(f"{path}: {error.strerror}; {if_missing}") from None
    except OSError as error:
        raise KeyProblem(f"{path}: {error.strerror}; give a file that this user may read") from None
    try:
        _check_private(path, os.fstat(file.fileno()))
    except KeyProblem:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for somebody to write into it


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyProblem(f"{path} is no plain file")
    if os.name != "posix":
        return
    if found.st_uid not in {os.geteuid(), 0}:
        raise KeyProblem(f"{path} belongs to another user; run: chown {os.geteuid()} {path}")
    if stat.S_IMODE(found.st_mode) & 0o077 and not _lent_by_the_service_manager(path, found):
        raise KeyProblem(f"others may read {path}; run: chmod 600 {path}")


def _lent_by_the_service_manager(path: Path, found: os.stat_result) -> bool:
    """Tell whether systemd has put the file there (LoadCredential=) for this service alone.

    It belongs to root, and one user is let in by an access list, whose mask shows as the group's right to read.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder or path.absolute().parent != Path(folder).absolute() or (found.st_uid, found.st_gid) != (0, 0):
        return False
    return not stat.S_IMODE(found.st_mode) & 0o037 and not stat.S_IMODE(Path(folder).stat().st_mode) & 0o027
