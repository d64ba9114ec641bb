"""Shakes hands for one attempt.

Each agent signs an ephemeral key, and everybody signs a hash of them all.

What it yields is a secret for each pair of agents. Ephemeral private keys live here only, in memory, and are dropped
with the attempt.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tercet.broker.sealing.identity import Forged, Identity, PublicIdentity
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.messages.kinds import Handshake, Transcript

HANDSHAKE_DOMAIN = "tercet handshake key"
TRANSCRIPT_DOMAIN = "tercet handshake transcript"


class SmallOrder(Forged):
    """A party sent an ephemeral key that would make the secret public."""

    def __init__(self, party: str) -> None:
        super().__init__(f"{party} sent an ephemeral key of small order")
        self.party = party


@dataclass(frozen=True, slots=True)
class HandshakeParty:
    """Describes a member of the attempt as the job digest fixes it."""

    name: str
    role: str
    identity: PublicIdentity


@dataclass(frozen=True, slots=True, repr=False)
class SessionSecrets:
    """Holds one agent's secrets with the others, and the transcript's hash."""

    transcript: bytes
    pairs: Mapping[str, bytes]

    def key(self, partner: str, *info: str | int | bytes) -> bytes:
        """Return a 256-bit key for one purpose with one partner: HKDF with the transcript as salt."""
        packed = canonical_digest("tercet session key", info)
        return HKDF(SHA256(), 32, salt=self.transcript, info=packed).derive(self.pairs[partner])


class HandshakeState:
    """Runs one agent's side.

    Give it every other party's messages in any order, then ask for the secrets.
    """

    def __init__(
        self, identity: Identity, me: str, parties: Iterable[HandshakeParty], job_digest: bytes, attempt: int
    ) -> None:
        self._parties = {party.name: party for party in parties}
        self._identity, self._me = identity, me
        self._context = (job_digest, attempt)
        self._ephemeral = X25519PrivateKey.generate()
        self._keys = {me: self._ephemeral.public_key().public_bytes_raw()}

    def hello(self) -> Handshake:
        """Return this agent's ephemeral key, signed with the context it is for."""
        key = self._keys[self._me]
        return Handshake(key=key, signature=self._identity.sign(self._statement(self._me, key)))

    def receive(self, sender: str, message: Handshake) -> None:
        """Take another agent's key.

        Raises:
            Forged: it is not signed by the identity that the job names, for this job and attempt.
        """
        statement = self._statement(sender, message.key)
        self._parties[sender].identity.verify(message.signature, statement)
        self._keys[sender] = message.key

    def transcript(self) -> Transcript:
        """Return this agent's signature of all keys; every `receive` comes before."""
        return Transcript(signature=self._identity.sign(self._transcript_hash()))

    def confirm(self, sender: str, message: Transcript) -> None:
        """Check that another agent has seen the same keys.

        Raises:
            Forged: it has not.
        """
        self._parties[sender].identity.verify(message.signature, self._transcript_hash())

    def secrets(self) -> SessionSecrets:
        """Return the pair secrets; every `confirm` comes before.

        Raises:
            SmallOrder: a party sent a key of small order.
        """
        pairs = {name: self._exchange(name) for name in self._keys if name != self._me}
        return SessionSecrets(self._transcript_hash(), pairs)

    def _exchange(self, partner: str) -> bytes:
        try:
            return self._ephemeral.exchange(X25519PublicKey.from_public_bytes(self._keys[partner]))
        except ValueError:  # an all-zero result
            raise SmallOrder(partner) from None

    def _statement(self, name: str, key: bytes) -> bytes:
        return canonical_digest(HANDSHAKE_DOMAIN, [*self._context, name, self._parties[name].role, key])

    def _transcript_hash(self) -> bytes:
        keys = [[name, self._parties[name].role, self._keys[name]] for name in sorted(self._parties)]
        return canonical_digest(TRANSCRIPT_DOMAIN, [*self._context, keys])
