"""Defines messages of partners' agents outside any job.

They ask who is there, of which release, and at what time; and for scores of single rows, while a customer waits.

Nothing here names a table or a third party; a stranger is not answered at all. Rows are named by keyed hashes, and a
partner noises its part of a score.
"""

from typing import Annotated, Literal

from pydantic import Field

from tercet.schemas.core.strict import JobId, Name, Sentence, Strict
from tercet.schemas.messages.message import Code, Digest, Hashes, Message, Version
from tercet.schemas.messages.tensor import RingTensor

MOST_SERVED = 100  # rows in one request

ReleaseName = Annotated[str, Field(max_length=64)]
Purpose = Annotated[str, Field(max_length=200)]


class Ping(Message):
    """Asks whether an agent is there.

    It says the versions of the protocol that the asking agent speaks.
    """

    kind = "ping"
    item = "ping"
    lowest: Version
    highest: Version
    release: ReleaseName


class Pong(Message):
    """Answers the ping of the same address: here I am."""

    kind = "pong"
    item = "pong"
    lowest: Version
    highest: Version
    release: ReleaseName
    role: Literal["data", "helper"]
    time: float = Field(ge=0, lt=2**40)  # seconds since 1970, UTC, by the answering machine's clock


class PartnerAnswer(Strict):
    """Tells a console about a partner that its agent has pinged.

    The defaults stand for no answer.
    """

    party: Name
    answered: bool
    lowest: Version = 0
    highest: Version = 0
    release: ReleaseName = ""
    role: str = Field(default="", max_length=16)
    clock: float | None = None  # by how many seconds its clock is ahead of ours
    seconds: float | None = None  # from the ping to its answer
    why: str = Field(default="", max_length=500)  # what kept the ping from leaving


class ScoreRequest(Message):
    """Asks a partner for its part of rows' scores; without rows, whether it can answer.

    `rows` are keyed hashes of ids, by a key that the two parties share. `issued` is in seconds since 1970, UTC.
    """

    kind = "score request"
    item = "score-request"
    model: JobId
    digest: Digest  # of the model, the same at all its parties
    purpose: Purpose
    issued: float = Field(ge=0, lt=2**40)
    rows: Annotated[Hashes, Field(max_length=16 * MOST_SERVED)]


class ScoreAnswer(Message):
    """Answers with a partner's share of each row's scores, and of whether there are any.

    (rows, outputs + 1). Only the sum over all partners says something: the last column is 0 where all of them can. The
    label party learns the scores and that, as by a prediction.
    """

    kind = "score answer"
    item = "score-answer"
    words: RingTensor


class ScoreRefusal(Message):
    """Says why a partner scores no row at all, or not now."""

    kind = "score refusal"
    item = "score-refusal"
    code: Code
    culprit: Name
    reason: Sentence
