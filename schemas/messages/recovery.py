"""What parties say to go on after a fault: which checkpoints they hold, where to go on, and how a job has ended.

Nothing here is made of a row or a weight.
"""

from typing import Annotated

from pydantic import Field

from tercet.schemas.core.strict import JobId, Name, Strict
from tercet.schemas.messages.control import Failure
from tercet.schemas.messages.message import Count, Digest, Message

MOST_HELD = 4  # checkpoints that a party may hold of one job


class HeldCheckpoint(Strict):
    """A checkpoint that a data party has. Those of one lineage and step, of all data parties, belong together."""

    lineage: Digest
    steps: Count  # done
    over: bool  # nothing is left to train


class Checkpoints(Message):
    """A data party tells the label party what it could go on from; nothing, in most first attempts."""

    kind = "checkpoints"
    item = "checkpoints"
    held: Annotated[tuple[HeldCheckpoint, ...], Field(max_length=MOST_HELD)] = ()


class GoOn(Message):
    """The label party says where this attempt begins: at the last checkpoint that all data parties have, or at 0."""

    kind = "go on"
    item = "go-on"
    begin: HeldCheckpoint | None
    kept: Count = 0  # steps of the best epoch's model so far, where the job stops early; the helper needs it


class Inquiry(Message):
    """A party that was away asks another one's agent what has become of a run."""

    kind = "inquiry"
    item = "inquiry"
    id: JobId
    run: Digest


class Outcome(Message):
    """The answer, where the run is over at the party that was asked."""

    kind = "outcome"
    item = "outcome"
    state: str = Field(max_length=32)
    failure: Failure | None = None
    attempt: Count = 0  # with which it was over
    cancelled_by: Name | None = None  # at which party, where that is known


class Resumption(Message):
    """A party asks the others to take up a failed run again; it counts for a few minutes, by the clock of who asks."""

    kind = "resumption"
    item = "resumption"
    id: JobId
    run: Digest
    issued: Count  # seconds since 1970, UTC
