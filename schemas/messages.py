"""One model for each kind of message that agents exchange, and for what a console says to its own agent.

A model says what is in a message and who learns what from it; when it is due is the state table's business.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.address import Round
from schemas.job import MAX_PARTIES, JobDescription
from schemas.strict import JobId, Name, Sentence, Strict
from schemas.tensor import RingTensor

PROTOCOL_VERSION = 1

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Secret = Annotated[bytes, Field(min_length=32, max_length=32, repr=False)]  # in no log and no traceback
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
Count = Annotated[int, Field(ge=0, lt=2**40)]
Code = Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z-]+)+$", max_length=64)]


class Message(Strict):
    """Anything said. `kind` is the AMQP type, `round` the queue it goes to, `item` its name within the round."""

    kind: ClassVar[str]
    round: ClassVar[Round] = Round.CONTROL
    item: ClassVar[str]


# --- jobs and control: sealed by the agents' long-lived identities


class Member(Strict):
    """A party of a job as its submitter knows it; every party compares the key with the one it has pinned."""

    name: Name
    role: Literal["data", "helper"]
    key: str = Field(max_length=256)


class Job(Message):
    """A job is announced to every party it names."""

    kind = "job"
    item = "announcement"
    id: JobId
    run: Digest  # random: two runs of one description share no key
    description: JobDescription
    members: tuple[Member, ...]
    submitter: Name


class Accept(Message):
    """A party's own policy allows the job, and its agent is at work on it."""

    kind = "accept"
    item = "accept"
    version: int


class Ready(Message):
    """A party has read its table and declared its queues. The counts go to every party in `Start`."""

    kind = "ready"
    item = "ready"
    rows: Count
    columns: Count


class Start(Message):
    """The label party has every `ready`; each party makes the plan anew from this and compares the digest."""

    kind = "start"
    item = "start"
    attempt: int
    rows: Count
    columns: tuple[Count, ...]
    plan: Digest


class Progress(Message):
    """A heartbeat: where a party is and whom it waits for, so that every party can tell whose turn it is."""

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


class Released(Message):
    """A party has its model part on its disk; the job is done when every party has said so."""

    kind = "progress"
    item = "released"


class Failure(Message):
    """Why a job is off, in words that any party may read. A verdict is the label party's and final."""

    kind = "failure"
    item = "failure"
    code: Code
    stage: str = Field(max_length=64)
    culprit: Name
    reason: Sentence
    verdict: bool = False


class Cancel(Message):
    """A person ended the job at one party; it ends at all."""

    kind = "cancel"
    item = "cancel"


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


class OrderContribution(Message):
    """A data party's 32 random bytes of the order key; the helper has no part in it."""

    kind = "order contribution"
    round = Round.ALIGNMENT
    item = "contribution"
    secret: Secret


class OrderConfirmation(Message):
    """Proof of the same order key, and a digest of the row ids under a key derived from it."""

    kind = "order contribution"
    round = Round.ALIGNMENT
    item = "confirmation"
    confirmation: Digest
    ids: Digest


# --- training: sealed by the attempt's keys


class MaskedInputs(Message):
    """E = s X - U for one batch, to every other data party. Uniform: only its owner and the helper know U."""

    kind = "masked inputs"
    round = Round.MASKED_INPUTS
    item = "features"
    words: RingTensor  # (batch, columns of the sender), f_x fractional bits


class MaskedLabels(Message):
    """The label party's scaled labels minus m_y, to every other data party. Uniform."""

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "labels"
    words: RingTensor  # (batch, outputs), F fractional bits


class MaskedWeights(Message):
    """The sender's share of the receiver's block of weights minus v. Uniform."""

    kind = "masked weights"
    round = Round.MASKED_WEIGHTS
    item = "weights"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class GradientShare(Message):
    """The helper's correction of the receiver's gradient, dealt ahead of time. Uniform: it carries r."""

    kind = "gradient share"
    round = Round.ACTIVATIONS
    item = "gradient"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class PreactivationShare(Message):
    """One data party's share of z = X w for one batch, to the helper.

    Uniform on its own by the zero share; the pre-activations only in sum with every other party's.
    """

    kind = "pre-activation share"
    round = Round.PREACTIVATIONS
    item = "output"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class MaskedActivation(Message):
    """The scaled activation minus the masks of the receiver's partners. Uniform."""

    kind = "masked activation"
    round = Round.ACTIVATIONS
    item = "output"
    words: RingTensor  # (batch, outputs), F fractional bits


class WeightShare(Message):
    """The sender's share of the receiver's block at the end, under release = "owners": the block is opened to it."""

    kind = "weight share"
    round = Round.RELEASE
    item = "block"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class InterceptShare(Message):
    """The sender's share of the intercept at the end, to the label party."""

    kind = "weight share"
    round = Round.RELEASE
    item = "intercept"
    words: RingTensor  # (1, outputs), f_w fractional bits


# --- a console and its own agent


class Submit(Message):
    """Run this job, or tell its state if it is known."""

    kind = "submit"
    item = "request"
    description: JobDescription


class Query(Message):
    """Tell the state of one job, or of all."""

    kind = "query"
    item = "request"
    job: JobId | None = None
    cancel: bool = False


class PartyStatus(Strict):
    """What one party last said of itself."""

    party: Name
    state: str
    stage: str
    epoch: int
    step: int
    waits_for: tuple[str, ...]
    heard: float  # seconds ago


class JobStatus(Strict):
    """One job as one agent sees it."""

    job: JobId
    state: str
    model: str
    label: str
    helper: str
    parties: tuple[PartyStatus, ...]
    submitted: str  # ISO 8601, by the agent's clock
    rows: int = 0
    columns: int = 0
    epoch: int = 0
    step: int = 0
    steps: int = 0
    seconds_per_step: float | None = None
    processor_seconds: float | None = None
    sent_bytes: dict[str, int] = {}
    sent_messages: dict[str, int] = {}
    waits_for: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    detail: str | None = None  # more than other parties may read
    model_part: str | None = None


class Status(Message):
    """An agent's answer to its own console."""

    kind = "status"
    item = "answer"
    jobs: tuple[JobStatus, ...] = ()
    problem: Sentence | None = None
