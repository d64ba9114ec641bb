"""Seals from agent to agent by AES-256-GCM.

Each ordered pair of agents has a key of its own in each attempt.

The whole address, the kind, the run and the schema version are authenticated. The broker sees those and the length.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tercet.broker.sealing.handshake import SessionSecrets
from tercet.broker.sealing.identity import Forged
from tercet.schemas.messages.kinds import BODY_VERSION

NONCE_BYTES = 12


def associated_data(address: str, kind: str, run: bytes = b"") -> bytes:
    """Make the data that a seal authenticates beside the body.

    Messages of a job name its run, which their address does not.
    """
    return f"tercet {BODY_VERSION} {kind} {address} {run.hex()}".encode()


class SessionSeal:
    """Seals to and opens from the other agents of one attempt."""

    def __init__(self, secrets: SessionSecrets, me: str) -> None:
        self._seals = {name: _sealer(secrets.key(name, "seal", me, name)) for name in secrets.pairs}
        self._opens = {name: AESGCM(secrets.key(name, "seal", name, me)) for name in secrets.pairs}

    def seal(self, receiver: str, plaintext: bytes | memoryview, associated: bytes) -> bytes:
        """Return nonce and ciphertext.

        Seal a body once and resend these bytes: a nonce is never used twice.
        """
        return self._seals[receiver](plaintext, associated)

    def open(self, sender: str, sealed: bytes, associated: bytes) -> bytes:
        """Return the plaintext that `sender` sealed under this associated data.

        Raises:
            Forged: it did not, or a byte has changed on the way.
        """
        try:
            return self._opens[sender].decrypt(sealed[:NONCE_BYTES], memoryview(sealed)[NONCE_BYTES:], associated)
        except (InvalidTag, ValueError):
            raise Forged("a sealed message does not open") from None


def _sealer(key: bytes) -> Callable[[bytes | memoryview, bytes], bytes]:
    cipher, counter = AESGCM(key), 0

    def seal(plaintext: bytes | memoryview, associated: bytes) -> bytes:
        nonlocal counter
        nonce = counter.to_bytes(NONCE_BYTES, "big")
        counter += 1
        return nonce + cipher.encrypt(nonce, plaintext, associated)

    return seal
