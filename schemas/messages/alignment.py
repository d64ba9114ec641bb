"""What is said before the first step: the handshake, the secret order, and which rows all data parties have.

From the alignment on, sealed by the attempt's keys. No message has an id.
"""

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Bytes, Count, Digest, Elements, Hashes, Message, Secret, Signature

# --- handshake and secret order


class Handshake(Message):
    """An attempt's ephemeral X25519 key, signed together with job digest, attempt, name and role."""

    kind = "handshake"
    round = Round.HANDSHAKE
    item = "key"
    key: Digest
    signature: Signature


class Transcript(Message):
    """A signature of the hash of all `Handshake`s: everybody has seen the same keys."""

    kind = "handshake"
    round = Round.HANDSHAKE
    item = "transcript"
    signature: Signature


class OrderCommitment(Message):
    """The hash that binds a data party to its `OrderContribution`: nobody opens one before it has everybody's."""

    kind = "order commitment"
    round = Round.ALIGNMENT
    item = "commitment"
    commitment: Digest


class OrderContribution(Message):
    """A data party's 32 random bytes of the order key; the helper has no part in it."""

    kind = "order contribution"
    round = Round.ALIGNMENT
    item = "contribution"
    secret: Secret


class OrderConfirmation(Message):
    """Proof of the same order key, which covers sizes and plan."""

    kind = "order contribution"
    round = Round.ALIGNMENT
    item = "confirmation"
    confirmation: Digest


# --- alignment: sealed by the attempt's keys


class Pseudonyms(Message):
    """Keyed hashes of some of a data party's ids, to the helper: the next ones in ascending order.

    The helper has no part in the key, so that it can neither guess an id nor test a guess.
    """

    kind = "pseudonyms"
    round = Round.ALIGNMENT
    item = "pseudonyms"
    pseudonyms: Hashes
    last: bool


class Presence(Message):
    """The helper's answer to `Pseudonyms`: one bit for each, set where every data party has it; 0 to fill a byte."""

    kind = "presence"
    round = Round.ALIGNMENT
    item = "presence"
    bits: Bytes


class BlindedIds(Message):
    """Some of a data party's ids as group elements under its own secret exponent, in secret order (ECDH)."""

    kind = "blinded ids"
    round = Round.ALIGNMENT
    item = "blinded"
    elements: Elements
    last: bool


class TwiceBlindedIds(Message):
    """The receiver's own `BlindedIds` under the sender's exponent too, hashed, in the same order (ECDH)."""

    kind = "twice blinded ids"
    round = Round.ALIGNMENT
    item = "twice-blinded"
    hashes: Hashes


class AlignedRows(Message):
    """How many rows a data party has in common with all others, and a keyed digest of their ids in order."""

    kind = "aligned rows"
    round = Round.ALIGNMENT
    item = "rows"
    rows: Count
    ids: Digest
