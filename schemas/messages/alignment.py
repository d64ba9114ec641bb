"""Defines messages before the first step: handshake, secret order, and matching.

From the alignment on, sealed by the attempt's keys. No message has an id.
"""

from typing import Annotated, Final

from pydantic import Field

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import (
    MOST_BINNED,
    MOST_OUTPUTS,
    Bytes,
    Count,
    Digest,
    Elements,
    Hashes,
    Message,
    Secret,
    Signature,
)

MOST_COLUMN_BINS: Final = 1002  # of one column: a thousand levels, rare and missing

# --- handshake and secret order


class Handshake(Message):
    """Carries an attempt's ephemeral X25519 key and its signature.

    Job digest, attempt, name and role are signed with it.
    """

    kind = "handshake"
    round = Round.HANDSHAKE
    item = "key"
    key: Digest
    signature: Signature


class Transcript(Message):
    """Carries a signature of the hash of all `Handshake`s: everybody has seen the same keys."""

    kind = "handshake"
    round = Round.HANDSHAKE
    item = "transcript"
    signature: Signature


class OrderCommitment(Message):
    """Carries the hash that binds a data party to its `OrderContribution`.

    Nobody opens one before it has everybody's.
    """

    kind = "order commitment"
    round = Round.ALIGNMENT
    item = "commitment"
    commitment: Digest


class OrderContribution(Message):
    """Carries a data party's 32 random bytes of the order key.

    The helper has no part in it.
    """

    kind = "order contribution"
    round = Round.ALIGNMENT
    item = "contribution"
    secret: Secret


class OrderConfirmation(Message):
    """Proves that the sender has the same order key, and holds out the same rows.

    The key covers sizes and plan.
    """

    kind = "order contribution"
    round = Round.ALIGNMENT
    item = "confirmation"
    confirmation: Digest


class SplitKey(Message):
    """Proves which key of the job's named split the sender has, in this run only.

    `agreed` says whether it is of an earlier job; else all may make a new one.
    """

    kind = "split key"
    round = Round.ALIGNMENT
    item = "proof"
    agreed: bool
    proof: Digest


# --- alignment: sealed by the attempt's keys


class Pseudonyms(Message):
    """Carries keyed hashes of some of a data party's ids, to the helper.

    They are the next ones in ascending order.

    The helper has no part in the key, so that it can neither guess an id nor test a guess.
    """

    kind = "pseudonyms"
    round = Round.ALIGNMENT
    item = "pseudonyms"
    pseudonyms: Hashes
    last: bool


class Presence(Message):
    """Answers `Pseudonyms`, from the helper: one bit for each.

    A bit is set where every data party has it; 0 fills a byte.
    """

    kind = "presence"
    round = Round.ALIGNMENT
    item = "presence"
    bits: Bytes


class BlindedIds(Message):
    """Carries some of a data party's ids as group elements, in secret order (ECDH).

    They are under the sender's own secret exponent.
    """

    kind = "blinded ids"
    round = Round.ALIGNMENT
    item = "blinded"
    elements: Elements
    last: bool


class TwiceBlindedIds(Message):
    """Carries the receiver's own `BlindedIds` under the sender's exponent too (ECDH).

    They are hashed, in the same order.
    """

    kind = "twice blinded ids"
    round = Round.ALIGNMENT
    item = "twice-blinded"
    hashes: Hashes


class HeldOutRows(Message):
    """Tells the other data parties which common rows a column of the label party holds out.

    There is a bit for each row, in the common order; 0 fills a byte.
    """

    kind = "held-out rows"
    round = Round.ALIGNMENT
    item = "held-out"
    bits: Bytes


class AlignedRows(Message):
    """Carries the number of common rows, and a keyed digest of their ids in order."""

    kind = "aligned rows"
    round = Round.ALIGNMENT
    item = "rows"
    rows: Count
    ids: Digest


class BinCounts(Message):
    """Tells everybody how a data party's columns are binned in a statistics job; all plan by it.

    `bins` has the number of each column's bins, and `numeric` the places of those columns that are correlated. The
    label party's `classes` are those of its label, or 0 of a count or an amount; the others say 0.
    """

    kind = "bin counts"
    round = Round.ALIGNMENT
    item = "bins"
    bins: tuple[Annotated[int, Field(ge=1, le=MOST_COLUMN_BINS)], ...] = Field(max_length=MOST_BINNED)
    numeric: tuple[Count, ...] = Field(max_length=MOST_BINNED)
    classes: Annotated[int, Field(ge=0, le=MOST_OUTPUTS)] = 0
