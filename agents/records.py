"""The jobs an agent has known, one JSON file each, so that a restarted agent can answer for them.

Holds descriptions, public keys and states; never a key, a share or a row.
"""

import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from schemas.messages import Job, JobStatus
from schemas.strict import Strict


class Record(Strict):
    """One job, with its submitter's signature."""

    job: Job
    status: JobStatus
    cleared: bool = False  # no queue of the job is left at the broker
    approved: str = ""  # who has approved the run, where a person was asked


class Records:
    """The folder of records of one agent."""

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

    def forget(self, job: str) -> None:
        """Remove a job's record, if there is one."""
        (self._folder / f"{job}.json").unlink(missing_ok=True)

    def read(self) -> tuple[list[Record], list[Path]]:
        """All records, and the files that are none."""
        records, strange = [], []
        for path in sorted(self._folder.glob("*.json")):
            try:
                records.append(Record.model_validate_json(path.read_bytes()))
            except (ValidationError, OSError):
                strange.append(path)
        return records, strange
