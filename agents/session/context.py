"""Gathers one job's means at one party: description, mailbox, deadlines, maths thread.

Roles and phases read it; nothing here decides.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tercet.agents.messaging.inbox import Deadline
from tercet.agents.messaging.mailbox import Mailbox
from tercet.agents.messaging.trace import Trace
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.session.findings import Findings
from tercet.agents.session.fixed_randomness import FixedRandomness
from tercet.agents.session.history import History
from tercet.agents.session.statistics import Statistics
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.broker.sealing.identity import Identity
from tercet.mpc.plan.schedule import Step
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import AnyJob, TrainingJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.files.statistics import CountedRows
from tercet.schemas.messages.kinds import LOWEST_VERSION, PROTOCOL_VERSION, Job
from tercet.tables.encoding.woe import WoeByColumn

P = ParamSpec("P")
T = TypeVar("T")

LIGHT_WORDS = 2**18  # of features in a batch, all parties together: the longest call takes about 1 ms
HANDOVER_ROUNDS = 3  # rounds of the event loop until a message that was sent is in the hands of the operating system

Evidence = tuple[WoeByColumn, CountedRows]


def no_statistics(_state: Path, job: str, _label: str) -> Evidence:
    """Refuse to read weights of evidence where no job has left any."""
    raise Invalid(f"no statistics of {job} are here")


def system_randomness() -> bytes:
    """Draw a contribution to the order key; only tests that compare runs pass another source."""
    return secrets.token_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """Holds the means of one job at one party, from the attempt's beginning on."""

    job: Job
    description: AnyJob  # with this attempt's helper; all agreed to `job.description`
    settings: Settings
    identity: Identity
    mailbox: Mailbox
    executor: Executor
    log: Any
    randomness: FixedRandomness  # what this party adds to the secret order, and first weights
    common_checkpoint: Callable[[], int]  # steps done at the last checkpoint of all data parties; -1 if they differ
    attempt: int
    approval: Approval
    audit: JobAudit
    snapshots: SnapshotStore  # of this party, as the run's first attempt found it
    read_woe: Callable[[Path, str, str], Evidence] = no_statistics  # by state folder, statistics job, label party
    versions: tuple[int, int] = (LOWEST_VERSION, PROTOCOL_VERSION)  # of the protocol that this agent speaks
    fold: int | None = None  # which is held out, from 1; None where the model is the job's
    statistics: Statistics = field(default_factory=Statistics)
    history: History = field(default_factory=History)
    findings: Findings = field(default_factory=Findings)  # for this party's operator; for nobody else
    files: ExitStack = field(default_factory=ExitStack)  # closes working files when the attempt has ended
    writing: set[asyncio.Task[None]] = field(default_factory=set)  # what the attempt's end waits for

    @property
    def me(self) -> str:
        """This party."""
        return self.settings.party

    @property
    def noise_attempt(self) -> int:
        """The attempt whose noise is added to what the helper sees.

        Its own where a network's roundings are drawn anew, since old noise would cancel in what the helper sees twice;
        else the first one's, as the values under it are the same.
        """
        job = self.description
        return self.attempt if isinstance(job, TrainingJob) and job.network is not None else 1

    @property
    def work_folder(self) -> Path:
        """Folder for this job's files while it runs; gone with the job."""
        return work_folder(self.settings) / self.job.id

    @property
    def others(self) -> tuple[str, ...]:
        """Every other party, the helper included."""
        return tuple(party for party in self.description.parties if party != self.me)

    @property
    def partners(self) -> tuple[str, ...]:
        """The other data parties."""
        return tuple(party for party in self.description.data_parties if party != self.me)

    @property
    def label(self) -> str:
        """The label party."""
        return self.description.label

    @property
    def is_label_party(self) -> bool:
        """Tell whether this is the label party."""
        return self.description.label == self.me

    def number(self, party: str) -> int:
        """Give a data party's number in the protocol."""
        return self.description.data_parties.index(party)

    def deadline(self, name: str) -> Deadline:
        """Make a named deadline; the helper's step is half as long, so it notices first.

        After a fault, whoever does not answer at once may come back.
        """
        if name == "accept" and self.attempt > 1:
            name = "recover"
        seconds: float = getattr(self.settings.deadlines, name)
        if name == "start" and self.attempt > 1:
            seconds += self.settings.deadlines.recover
        if name == "step" and self.settings.role == "helper":
            seconds /= 2
        return Deadline(name, seconds)

    def note(self, text: str) -> None:
        """Tell this party's operator something about its own table: in log, status and report."""
        self.log.warning("table", note=text)
        self.findings.notes.append(text)

    @property
    def trace(self) -> Trace:
        """Trace of this party's last steps."""
        return self.mailbox.trace

    def note_finished_step(self, step: Step, first: Step | None = None) -> None:
        """Note that a step is done at this party."""
        self.statistics.note_step(step.epoch, step.index)
        self.trace.note_finished_step(step.index, None if first is None else first.index)

    async def let_messages_leave(self) -> None:
        """Let sent messages leave before maths in place holds up the event loop."""
        for _ in range(HANDOVER_ROUNDS):
            await asyncio.sleep(0)

    async def compute(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run maths in a thread: the event loop that sends heartbeats is never held up by it."""
        since, call = time.perf_counter(), partial(function, *args, **kwargs)
        call = partial(copy_context().run, call)  # what is logged there is this job's
        result = await asyncio.get_running_loop().run_in_executor(self.executor, call)
        self._trace_maths(function, args, since, "thread")
        return result

    async def compute_if_heavy(self, words: int, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run maths over so many words of features, in place where they are few."""
        if words > LIGHT_WORDS:
            return await self.compute(function, *args, **kwargs)
        since = time.perf_counter()
        result = function(*args, **kwargs)
        self._trace_maths(function, args, since, "in place")
        return result

    def _trace_maths(self, function: Callable[..., Any], args: tuple[Any, ...], since: float, where: str) -> None:
        """Trace maths under the function's name, and the step that is its first argument."""
        name = getattr(function, "__name__", "maths").strip("_").replace("_", " ")
        step = args[0].index if args and isinstance(args[0], Step) else -1
        self.trace.note("maths", name, since, step=step, where=where)


def work_folder(settings: Settings) -> Path:
    """Name the folder where an agent's jobs leave files while they run."""
    return settings.state / "work"
