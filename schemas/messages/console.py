"""Defines the messages between a console and its own agent.

No other party hears it, so that it may hold what those may not know; of rows and weights it holds nothing.
"""

from typing import Annotated, Self

from pydantic import Field

from tercet.schemas.core.strict import JobId, Name, Sentence, Strict
from tercet.schemas.core.trace import StepTrace
from tercet.schemas.files.job import AnyJob
from tercet.schemas.messages.control import Failure
from tercet.schemas.messages.greeting import MOST_SERVED, PartnerAnswer, Purpose
from tercet.schemas.messages.message import Bytes, Message, Outputs


class Submit(Message):
    """Asks to run this job, or to tell its state if it is known."""

    kind = "submit"
    item = "request"
    description: AnyJob
    who: str = Field(default="", max_length=128)  # the name of the person's account


class Query(Message):
    """Asks for the state of one job, or of all.

    With `trace` also what one of its steps was spent on at this party.

    With `reveals` what the job tells whom. With `partners` every partner's agent is pinged first, and what they
    answer is told too. With `settings` which settings the agent runs with, by digests.
    """

    kind = "query"
    item = "request"
    job: JobId | None = None
    cancel: bool = False
    who: str = Field(default="", max_length=128)  # the name of the person's account
    resume: bool = False
    trace: bool = False
    reveals: bool = False
    partners: bool = False
    settings: bool = False


class Decide(Message):
    """Lets a job in that waits for a person, or refuses it.

    `who` is the name of the person's account.
    """

    kind = "decide"
    item = "request"
    job: JobId
    approve: bool
    who: str = Field(max_length=128)
    why: str = Field(default="", max_length=1000)


class Prune(Message):
    """Asks what is left of jobs that ended so many days ago.

    It is removed if `remove` says so.
    """

    kind = "prune"
    item = "request"
    days: float = Field(ge=0)
    models: bool = False  # whether the model parts go, too
    remove: bool = False
    who: str = Field(default="", max_length=128)


class Pruned(Strict):
    """Names a job that is over, and how much is left of it."""

    job: JobId
    state: str
    days: float  # since it last changed
    bytes: int


class PartyStatus(Strict):
    """Carries what one party last said of itself."""

    party: Name
    state: str
    stage: str
    epoch: int
    step: int
    waits_for: tuple[str, ...]
    heard: float  # seconds ago


class EpochStatus(Strict):
    """Describes an epoch that is done, as far as this party may know it."""

    epoch: int  # from 1
    rate: float  # of its first step
    seconds: float  # with its evaluation
    loss: float | None = None  # the mean over its rows
    held_out_loss: float | None = None
    metrics: dict[str, float] = {}  # of the held-out rows, where they were scored after it


class JobStatus(Strict):
    """Describes one job as one agent sees it."""

    job: JobId
    state: str
    kind: str
    model: str
    label: str
    helper: str
    parties: tuple[PartyStatus, ...]
    members: tuple[Name, ...] = ()  # whom the job names, standby too; none in a record of an earlier release
    approval: str = ""  # "approval" while a person here is asked, afterwards who let the job in
    approvals: tuple[str, ...] = ()  # who has approved it, while others are still asked
    approvals_needed: int = 1
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
    intervals: dict[str, tuple[float, float]] = {}  # of some of them, low and high, with a confidence of 95 in 100
    deviations: dict[str, float] = {}  # of the metrics, which then are means over folds
    folds: tuple[dict[str, float], ...] = ()  # metrics of each fold that is scored, where this party may know them
    fold: int = 0  # that is held out while its model is trained, from 1; else 0
    loss: float | None = None  # of the last epoch, where this party may know it
    held_out_loss: float | None = None  # after the last epoch, likewise
    worthless: Sentence | None = None  # why the model is no better than a constant, where this party may know it
    attempt: int = 1
    fault: Failure | None = None  # which ended the attempt before
    checkpoint: int = 0  # steps that were done at the last one on the disk
    release: str = ""  # who holds what of the model, in words; empty where there is none
    cancelled_by: str = ""  # the party at which it was cancelled
    epochs: int | None = None  # at most so many; None of a prediction, and at a record of an earlier release
    batch: int | None = None  # where it is known: "auto" becomes a number once the tables are read
    rate: float | None = None  # of the first step, likewise
    l2: float | None = None
    best_epoch: int | None = None  # whose model is released, from 1, where the job may stop early
    history: tuple[EpochStatus, ...] = ()  # the latest thousand epochs; not in a list of jobs
    description: AnyJob | None = None  # what was asked for; not in a list of jobs
    model_part: str | None = None
    report: str | None = None
    report_due: bool = False  # the job is done, and its page is being written
    scores: str | None = None
    statistics: str | None = None

    def without_history(self) -> Self:
        """Give the same for a list of jobs, which would be long."""
        return self.model_copy(update={"history": (), "description": None})


class Status(Message):
    """Answers an agent's own console."""

    kind = "status"
    item = "answer"
    jobs: tuple[JobStatus, ...] = ()
    trace: StepTrace | None = None
    reveals: tuple[Sentence, ...] = ()
    partners: tuple[PartnerAnswer, ...] = ()
    pruned: tuple[Pruned, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()  # the name and a digest of each field
    problem: Sentence | None = None
    note: Sentence | None = None  # what the person who asked should know beside


class ScoreQuery(Message):
    """Asks this party's own agent for scores of rows, by the ids of its own table."""

    kind = "score query"
    item = "request"
    model: JobId
    table: Name
    purpose: Purpose
    ids: tuple[Annotated[str, Field(max_length=1000)], ...] = Field(max_length=MOST_SERVED)
    who: str = Field(default="", max_length=128)  # the name of the account


class ScoreReply(Message):
    """Answers a `ScoreQuery`.

    `known` has a byte for each id, which is 1 where there is a score. `scores` are float64 (rows, outputs), in the
    label's terms.
    """

    kind = "score reply"
    item = "answer"
    link: str = Field(default="", max_length=32)
    classes: tuple[str, ...] = ()
    outputs: Outputs = 1
    known: Annotated[bytes, Field(max_length=MOST_SERVED)] = b""
    scores: Bytes = b""
    failure: Failure | None = None
