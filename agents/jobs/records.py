"""Keeps one JSON file for each known job, so that a restarted agent can answer for it.

Holds descriptions, public keys and states; never a key, a share or a row.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.machine.recovery import Attempts, SavedRun
from tercet.agents.runs.run import JobRun
from tercet.schemas.core.strict import Strict
from tercet.schemas.messages.kinds import LOWEST_VERSION, PROTOCOL_VERSION, Job, JobStatus

OLDEST_PROTOCOL = 5  # whose records did not name it


class Record(Strict):
    """Holds one job's state, with its submitter's signature."""

    job: Job
    status: JobStatus
    cleared: bool = False  # no queue of the job is left at the broker
    approved: str = ""  # who has approved the run, where a person was asked
    page_approvers: tuple[str, ...] = ()  # those of `status.approvals` who may be gone from the page's users
    attempt: int = 1  # that counts, and below what `recovery.Attempts` keeps with it
    helper: str = ""
    gained: int = 1
    furthest: int = 0
    released: bool = False  # what the job gives this party is in its hidden folder
    life: int = 0  # of the agent with this run
    protocol: int = OLDEST_PROTOCOL  # the latest version that the agent spoke

    @classmethod
    def of(cls, run: JobRun) -> Self:
        """Make the record of a run, for when the agent has forgotten it."""
        attempts = run.attempts
        return cls(
            job=run.job,
            status=run.status().model_copy(update={"report_due": False}),  # a later life writes none
            cleared=run.queues_deleted,
            approved=run.approval.approved_by,
            page_approvers=run.approval.page_approvers,
            attempt=attempts.number,
            helper=attempts.helper,
            gained=attempts.gained,
            furthest=attempts.furthest,
            released=run.released,
            life=run.life,
            protocol=PROTOCOL_VERSION,
        )

    def version_problem(self, me: str) -> JobProblem | None:
        """Say why a run of another version cannot go on, if it cannot.

        The job may mean another training now.
        """
        if LOWEST_VERSION <= self.protocol <= PROTOCOL_VERSION:
            return None
        reason = (
            f"{self.job.id} began at {me} with version {self.protocol} of the protocol, and {me}'s agent now speaks "
            f"{PROTOCOL_VERSION}, by which the job may train in another way: submit it with --again"
        )
        return JobProblem("party.version", me, reason)

    def saved_run(self, state: State) -> SavedRun:
        """Make the facts from which the run goes on, in this state."""
        helper = self.helper or self.job.description.helper
        attempts = Attempts(self.attempt, helper, self.gained, self.furthest)
        return SavedRun(
            state, attempts, self.released, self.approved, self.life, self.status, page_approvers=self.page_approvers
        )

    def resumed_run(self) -> SavedRun:
        """Make the facts from which a failed run goes on."""
        saved = self.saved_run(State.RECOVERING)
        if saved.attempts is not None:
            saved.attempts.reset_count()
        return saved


class Records:
    """Reads and writes the folder of one agent's records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: Record) -> None:
        """Replace a job's record in one step.

        Raises:
            OSError: the disk does not take it; the record is as it was before.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")  # readable for the owner only
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(record.model_dump_json())
            Path(temporary).replace(self._folder / f"{record.job.id}.json")
        finally:
            Path(temporary).unlink(missing_ok=True)  # a disk that is full is not filled further

    def find(self, job: str) -> Record | None:
        """Find a job's record, if there is one."""
        try:
            return Record.model_validate_json((self._folder / f"{job}.json").read_bytes())
        except (ValidationError, OSError):
            return None

    def last_change(self, job: str) -> float:
        """Time of the record's last write, in seconds since 1970; now, if it has gone."""
        try:
            return (self._folder / f"{job}.json").stat().st_mtime
        except FileNotFoundError:
            return time.time()

    def forget(self, job: str) -> None:
        """Remove a job's record, if there is one."""
        (self._folder / f"{job}.json").unlink(missing_ok=True)

    def read_all(self) -> tuple[list[Record], list[Path]]:
        """Read all records; list the files that are none."""
        records, unreadable = [], []
        for path in sorted(self._folder.glob("*.json")):
            try:
                records.append(Record.model_validate_json(path.read_bytes()))
            except (ValidationError, OSError):
                unreadable.append(path)
        return records, unreadable
