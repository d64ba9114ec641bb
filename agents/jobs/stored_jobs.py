"""Reads job records from the disk, when the agent cannot be asked.

It only reads, and tells no more than an agent would; a job that ran may have gone on since.
"""

from tercet.agents.jobs.records import Records
from tercet.agents.jobs.registry import MOST_LISTED
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Status


def recall_status(settings: Settings, job: str | None = None) -> Status | None:
    """Recall jobs' states from records, the latest first; None if they are unreadable."""
    folder = settings.state / "jobs"
    records, _ = Records(folder).read_all()
    if not records:
        return None
    known = sorted((record.status for record in records), key=lambda status: status.submitted, reverse=True)
    listed = (status.without_history() for status in known) if job is None else iter(known)
    jobs = tuple(status for status in listed if job in {None, status.job})[:MOST_LISTED]
    return Status(jobs=jobs, problem=None if jobs else f"{settings.party} has no record of a job {job}")
