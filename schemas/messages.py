"""One model for each kind of message that agents exchange, and for what a console says to its own agent.

A model says what is in a message and who learns what from it; when it is due is the state table's business.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from schemas.address import Round
from schemas.job import MAX_PARTIES, AnyJob, Network, Release
from schemas.strict import JobId, Name, Sentence, Strict
from schemas.tensor import RingTensor
from schemas.trace import StepTrace

PROTOCOL_VERSION = 3

MOST_OUTPUTS = 1000  # classes of a model
MOST_ENCODING = 2**26  # bytes: three times what as many directions as are whitened take


def _whole(size: int) -> Callable[[bytes], bytes]:
    def check(value: bytes) -> bytes:
        if len(value) % size:
            raise ValueError(f"not a whole number of entries of {size} bytes")
        return value

    return check


Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Secret = Annotated[bytes, Field(min_length=32, max_length=32, repr=False)]  # in no log and no traceback
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
Count = Annotated[int, Field(ge=0, lt=2**40)]
Outputs = Annotated[int, Field(ge=1, le=MOST_OUTPUTS)]
Bytes = Annotated[bytes, Field(max_length=2**24, repr=False)]
EncodingText = Annotated[bytes, Field(max_length=MOST_ENCODING, repr=False)]
Hashes = Annotated[Bytes, AfterValidator(_whole(16))]  # of 128 bits each
Elements = Annotated[Bytes, AfterValidator(_whole(32))]  # of ristretto255, 32 bytes each
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
    description: AnyJob
    members: tuple[Member, ...]
    submitter: Name


class Accept(Message):
    """A party's own policy allows the job, and its agent is at work on it."""

    kind = "accept"
    item = "accept"
    version: int


class Ready(Message):
    """A party has read its table and declared its queues. It says nothing of how large the table is."""

    kind = "ready"
    item = "ready"


class Start(Message):
    """The label party has every `ready`: whatever is sent from now on finds a queue."""

    kind = "start"
    item = "start"
    attempt: int


class Sizes(Message):
    """What a data party brings after alignment; the counts go to every party in `Terms`.

    `rows` to train on (or to score) and `held_out` are the same at all data parties. Only the label party knows how
    many `outputs` its label asks for, the classes of a softmax model; the others say 1. `model` tells parts of one
    trained model from those of another, in prediction.
    """

    kind = "sizes"
    item = "sizes"
    rows: Count
    held_out: Count
    columns: Count
    outputs: Outputs = 1
    model: Digest | None = None


class ScoringTerms(Strict):
    """What is known of the model that a prediction job applies."""

    model: str = Field(max_length=32)
    release: Release
    fx: int = Field(ge=1, le=32)
    f: int = Field(ge=1, le=62)
    network: Network | None = None
    alpha: float = Field(default=1.0, gt=0, le=1)  # which the helper needs below a hidden layer


class Terms(Message):
    """The label party has everybody's sizes; each party makes the plan anew from this and compares the digest."""

    kind = "terms"
    item = "terms"
    rows: Count
    held_out: Count
    columns: tuple[Count, ...]
    outputs: Outputs = 1
    plan: Digest
    scoring: ScoringTerms | None = None


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
    """A party has what the job gives it on its disk; the job is done when every party has said so."""

    kind = "released"
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


# --- training: sealed by the attempt's keys; several outputs stand in the secret order of their batch, but in release


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
    round = Round.MASKED_INPUTS
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


# --- networks: what a step has beside a linear model's, sealed by the attempt's keys; all of it uniform to its receiver


class MaskOpenings(Message):
    """What leads from masks of hidden activations in secret order to masks in place, with the masked inputs."""

    kind = "mask openings"
    round = Round.MASKED_INPUTS
    item = "mask-openings"
    words: RingTensor  # (1, elements of all hidden layers)


class DealtShares(Message):
    """What the helper deals one data party for a step: its gradient share and, at one party, products of masks."""

    kind = "dealt shares"
    round = Round.DEALT
    item = "step"
    words: RingTensor  # (1, all of them)


class HiddenShare(Message):
    """A data party's share of a hidden layer, to the helper: in secret order, with secret signs and a zero share.

    Its step counts hidden layers: position in the epoch times their number, plus which of them.
    """

    kind = "hidden share"
    round = Round.PREACTIVATIONS
    item = "hidden"
    words: RingTensor  # (1, elements), f_z fractional bits


class HiddenAnswer(Message):
    """A hidden layer's activations and slopes minus masks that the data parties know in shares only, for all of them.

    Its step counts as that of `HiddenShare`.
    """

    kind = "hidden answer"
    round = Round.ACTIVATIONS
    item = "hidden"
    words: RingTensor  # (2 or 3, elements)


class WeightOpening(Message):
    """A share of the weights above hidden layers, under masks: for the way up, and to truncate them."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "weights"
    words: RingTensor  # (1, twice the weights)


class NarrowOpening(Message):
    """A share of the same weights truncated, under masks, for the way back."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "narrow-weights"
    words: RingTensor  # (1, weights), 20 fractional bits


class TruncationOpening(Message):
    """A share of a hidden layer's error under a truncation's mask. Its step counts layers, from the output down."""

    kind = "error opening"
    round = Round.OPENINGS
    item = "error"
    words: RingTensor  # (1, elements)


class SlopeOpening(Message):
    """The same once slopes with fractional bits are multiplied on. Its step counts as that of `TruncationOpening`."""

    kind = "error opening"
    round = Round.OPENINGS
    item = "sloped-error"
    words: RingTensor  # (1, elements)


class ErrorOpening(Message):
    """A share of a hidden layer's error under a mask, for the layer below. Its step counts as the two before."""

    kind = "error opening"
    round = Round.OPENINGS
    item = "layer-error"
    words: RingTensor  # (batch, units), F fractional bits


class MaskedError(Message):
    """A share of the first layer's error minus s, for the receiver's own block of weights."""

    kind = "masked error"
    round = Round.OPENINGS
    item = "first-error"
    words: RingTensor  # (batch, units), F fractional bits


class ScoringMaskOpenings(Message):
    """As `MaskOpenings`, for rows that are scored."""

    kind = "mask openings"
    round = Round.MASKED_INPUTS
    item = "scoring-mask-openings"
    words: RingTensor  # (1, elements of all hidden layers)


class ScoringDealtShares(Message):
    """As `DealtShares`, for rows that are scored: products of masks, to one data party."""

    kind = "dealt shares"
    round = Round.DEALT
    item = "scoring"
    words: RingTensor  # (1, all of them)


class ScoringHiddenShare(Message):
    """As `HiddenShare`, of rows that are scored."""

    kind = "hidden share"
    round = Round.PREACTIVATIONS
    item = "scoring-hidden"
    words: RingTensor  # (1, elements), f_z fractional bits


class ScoringHiddenAnswer(Message):
    """As `HiddenAnswer`, of rows that are scored, without slopes."""

    kind = "hidden answer"
    round = Round.ACTIVATIONS
    item = "scoring-hidden"
    words: RingTensor  # (1 or 2, elements)


class ScoringWeightOpening(Message):
    """As `WeightOpening`, for the way up only."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "scoring-weights"
    words: RingTensor  # (1, weights), f_w fractional bits


class UpperShare(Message):
    """The sender's share of all layers above the first and of all biases, at the end, to whom they are opened."""

    kind = "weight share"
    round = Round.RELEASE
    item = "upper"
    words: RingTensor  # (1, all of them), f_w fractional bits


# --- metrics: the loss of an epoch, scores of rows, and whether to go on


class MaskedLossLabels(Message):
    """The label party's signed labels minus a mask, for the loss, with its masked inputs. Uniform."""

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "loss-labels"
    words: RingTensor  # (batch, outputs)


class LossTerms(Message):
    """What the label party computes its share of the loss from, with its masked activation. Uniform."""

    kind = "loss terms"
    round = Round.ACTIVATIONS
    item = "loss"
    words: RingTensor  # p, (batch, outputs), and below it g, (1, outputs)


class LossShare(Message):
    """A data party's share of an epoch's summed loss; only all shares together say anything."""

    kind = "loss share"
    round = Round.METRICS
    item = "loss"
    words: RingTensor  # (1, 1)


class EpochDecision(Message):
    """The label party has looked at an epoch: whether its model is the best so far, and whether to go on."""

    kind = "epoch decision"
    round = Round.METRICS
    item = "decision"
    best: bool
    go_on: bool


class ScoringInputs(Message):
    """As `MaskedInputs`, for rows that are scored and not trained on. Uniform."""

    kind = "masked inputs"
    round = Round.MASKED_INPUTS
    item = "scoring-features"
    words: RingTensor  # (batch, columns of the sender), f_x fractional bits


class ScoringWeights(Message):
    """As `MaskedWeights`, for scoring. Uniform."""

    kind = "masked weights"
    round = Round.MASKED_INPUTS
    item = "scoring-weights"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class ScoringShare(Message):
    """As `PreactivationShare`, of rows that are scored."""

    kind = "pre-activation share"
    round = Round.PREACTIVATIONS
    item = "scoring-output"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class Scores(Message):
    """The pre-activations of scored rows, in secret order, from the helper to the label party, which may know them.

    Rounded: from all bits of them the label party could solve for narrow columns of the others.
    """

    kind = "scores"
    round = Round.METRICS
    item = "scores"
    words: RingTensor  # (batch, outputs), 16 fractional bits


class PartialScores(Message):
    """What a party's columns add to the scores of some rows, under a zero share, to the label party."""

    kind = "partial scores"
    round = Round.METRICS
    item = "partial"
    words: RingTensor  # (rows, outputs), 16 fractional bits


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


class ModelShare(Message):
    """The sender's share of the whole model at the end, to the label party, under release = "label" alone.

    With all of them the label party has every weight, and so an equation in everybody's columns for each row that is
    ever scored.
    """

    kind = "weight share"
    round = Round.RELEASE
    item = "model"
    words: RingTensor  # (1, all of it), f_w fractional bits


class ColumnEncoding(Message):
    """How the sender's columns become numbers, to the label party, under release = "label" alone.

    It names columns and categories and has means and deviations of the rows that were trained on, but no row's value.
    In JSON, since it may have more entries than a body: a `tables.encoding.Encoding`, which is for the reader to check.
    """

    kind = "column encoding"
    round = Round.RELEASE
    item = "encoding"
    encoding: EncodingText


# --- a console and its own agent


class Submit(Message):
    """Run this job, or tell its state if it is known."""

    kind = "submit"
    item = "request"
    description: AnyJob


class Query(Message):
    """Tell the state of one job, or of all; with `trace` also what one of its steps was spent on at this party."""

    kind = "query"
    item = "request"
    job: JobId | None = None
    cancel: bool = False
    trace: bool = False


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
    kind: str
    model: str
    label: str
    helper: str
    parties: tuple[PartyStatus, ...]
    submitted: str  # ISO 8601, by the agent's clock
    table_rows: int = 0  # of our own table, before alignment
    rows: int = 0
    held_out: int = 0
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
    stage_seconds: dict[str, float] = {}
    metrics: dict[str, float] = {}  # of the held-out rows, where this party may know them
    loss: float | None = None  # of the last epoch, where this party may know it
    release: str = ""  # who holds what of the model, in words
    model_part: str | None = None
    report: str | None = None
    scores: str | None = None


class Status(Message):
    """An agent's answer to its own console."""

    kind = "status"
    item = "answer"
    jobs: tuple[JobStatus, ...] = ()
    trace: StepTrace | None = None
    problem: Sentence | None = None
