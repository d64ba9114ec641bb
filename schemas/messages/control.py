"""Defines messages about a job at its begin, beside its steps and at its end.

The agents' long-lived identities seal them.

Nothing here is made of a row, but for how many there are.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tercet.schemas.core.strict import JobId, Name, Sentence, Strict
from tercet.schemas.files.job import MAX_PARTIES, AnyJob, Network, OmitUnset, Release, canonical_digest
from tercet.schemas.messages.message import Code, Count, Digest, Exponent, Message, Outputs, Version

Bits = Annotated[float, Field(ge=0, le=2**20)]
Spread = Annotated[float, Field(ge=1, le=2**20)]


class Member(Strict):
    """Describes a party of a job as its submitter knows it.

    Every party compares the key with the one it has pinned.
    """

    name: Name
    role: Literal["data", "helper"]
    key: str = Field(max_length=256)


class Job(Message):
    """Announces a job to every party it names, signed by whoever submitted it.

    The signature is the submitter's, of `statement`; it lasts where the seal of the message does not, in the record of
    each party. `issued` and `expires` are seconds since 1970, UTC, by the submitter's clock.
    """

    kind = "job"
    item = "announcement"
    id: JobId
    run: Digest  # random: two runs of one description share no key
    description: AnyJob
    members: tuple[Member, ...]
    submitter: Name
    issued: Count = 0
    expires: Count = 0
    signature: bytes = Field(default=b"", max_length=64)

    @property
    def statement(self) -> bytes:
        """The bytes that the submitter signs: a digest of everything else in the message."""
        return canonical_digest("tercet signed job", self.model_dump(exclude={"signature"}))


class Profile(Strict):
    """Describes a party's columns by the first rows of its table; see `Sizes`.

    Nobody has been asked yet.
    """

    columns: Count
    bits: Bits
    record_bits: Bits


class Received(Message):
    """Tells that a party's agent is at work on the job, which its policy allows.

    It says the versions it speaks, and whether it asks a person.

    With `asks` a person there decides whether the job is accepted, which may take days. A data party adds the `profile`
    of its table where that is a file, so that a job which would be refused for exposure is refused now.
    """

    kind = "received"
    item = "received"
    lowest: Version
    highest: Version
    asks: bool
    profile: Profile | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError("the lowest version is above the highest")
        return self


class Approvers(Message):
    """Names the parties that ask a person; everybody waits for them.

    The label party has every `received`.
    """

    kind = "approvers"
    item = "approvers"
    parties: tuple[Name, ...] = Field(max_length=MAX_PARTIES + 1)


class Accept(Message):
    """Tells that a party takes part.

    Its own policy allows the job, and so does the person who is asked there, if one is.
    """

    kind = "accept"
    item = "accept"


class Ready(Message):
    """Tells that a party has read its table and declared its queues.

    It says nothing of how large the table is.
    """

    kind = "ready"
    item = "ready"


class Start(Message):
    """Starts an attempt: the label party has every `ready`.

    Whatever is sent from now on finds a queue.

    `version` of the protocol is the highest that all parties speak.
    """

    kind = "start"
    item = "start"
    attempt: int
    version: Version


class Sizes(Message):
    """Carries a data party's sizes after alignment.

    The counts go to every party in `Terms`.

    `rows` to train on (or to score) and `held_out` are the same at all data parties. Only the label party knows how
    many `outputs` its label asks for, the classes of a softmax model; the others say 1. Of its rows to train on a party
    tells two entropies, to a quarter of a bit, by which exposed data is refused: `bits` that keep two rows apart, and
    `record_bits` that there are to learn of one. `spread` is the variance of its columns in any direction, at most: 1
    where they are whitened or no automatic rate needs it, else how many there are before they are encoded. `model`
    tells parts of one trained model from those of another, in prediction.
    """

    kind = "sizes"
    item = "sizes"
    rows: Count
    held_out: Count
    columns: Count
    bits: Bits = 0.0
    record_bits: Bits = 0.0
    spread: Spread = 1.0
    outputs: Outputs = 1
    model: Digest | None = None


class ScoringTerms(OmitUnset):
    """Carries what is known of the model that a prediction job applies."""

    added = frozenset({"blind", "series"})

    model: str = Field(max_length=32)
    release: Release
    fx: int = Field(ge=1, le=32)
    f: int = Field(ge=1, le=62)
    network: Network | None = None
    noise_bits: int = Field(ge=0, le=32)
    alpha: float = Field(default=1.0, gt=0, le=1)
    exponent: Exponent  # no score may be beyond two to this
    blind: bool = False  # the helper sees no score
    series: tuple[Count, Count, Count, Count] | None = None  # `plan.Blind`, of a network that was trained so
    seeds: tuple[Digest, ...] = Field(default=(), max_length=MAX_PARTIES)  # commitments to those of masks of weights


class Terms(Message):
    """Carries everybody's sizes, from the label party.

    Each party makes the plan anew from this and compares the digest.
    """

    kind = "terms"
    item = "terms"
    rows: Count
    held_out: Count
    columns: tuple[Count, ...]
    bits: tuple[Bits, ...] = ()
    record_bits: tuple[Bits, ...] = ()
    spreads: tuple[Spread, ...] = ()
    outputs: Outputs = 1
    plan: Digest
    scoring: ScoringTerms | None = None


class Progress(Message):
    """Tells where a party is and whom it waits for, as a heartbeat.

    So every party can tell whose turn it is.

    The attempt that counts is the one in the address of the label party's, and `helper` there says who helps in it.
    """

    kind = "progress"
    item = "progress"
    state: str = Field(max_length=32)
    epoch: Count
    step: Count
    steps: Count
    stage: str = Field(max_length=64)
    waits_for: tuple[Name, ...] = Field(max_length=MAX_PARTIES + 1)
    interval: float = Field(gt=0, le=3600)  # seconds until the next heartbeat
    overdue: str | None = Field(default=None, max_length=32)  # the name of a deadline that has passed
    checkpoint: Count = 0  # steps that were done at the last one that is on the disk
    helper: Name
    lost: bool = False  # the sender can't go on with the attempt in the address, and waits for another one


class Released(Message):
    """Tells that a party has what the job gives it on its disk.

    The job is done when every party has said so.
    """

    kind = "released"
    item = "released"


class Failure(Message):
    """Says why a job is off, in words that any party may read.

    A verdict is the label party's and final.
    """

    kind = "failure"
    item = "failure"
    code: Code
    stage: str = Field(max_length=64)
    culprit: Name
    reason: Sentence
    verdict: bool = False


class Cancel(Message):
    """Tells that a person ended the job at one party; it ends at all.

    Whoever passes it on says at which: `by`.
    """

    kind = "cancel"
    item = "cancel"
    by: Name | None = None  # None stands for the sender
