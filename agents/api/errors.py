"""Turns how a job ended into exceptions and warnings."""

from tercet.agents.core.error_codes import all_codes
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.schemas.core.error import TercetError
from tercet.schemas.messages.console import JobStatus


class JobFailed(TercetError, RuntimeError):
    """Reports a job that failed or was cancelled.

    Attributes:
        code, party, stage, hint: as in `TercetError`; the code is empty where the job was cancelled.
        reason: what every party of the job is told.
        detail: what only this party may read about it, or None.
        job: its id.
    """

    def __init__(
        self, job: str, code: str, party: str, reason: str, *, stage: str = "", detail: str | None = None
    ) -> None:
        what = ": ".join(filter(None, (code, party, reason)))
        super().__init__(f"{job}: {what}{f' ({detail})' if detail else ''}")
        self.job, self.code, self.party, self.reason, self.stage, self.detail = job, code, party, reason, stage, detail
        self.hint = all_codes()[code].remedy if code in all_codes() else ""

    @classmethod
    def of_problem(cls, job: str, problem: JobProblem) -> "JobFailed":
        """Make one of what ended a job before any other party heard of it."""
        return cls(job, problem.code, problem.culprit, problem.reason, detail=problem.detail)


class WorthlessModel(UserWarning):
    """Warns of a model that is no better than a constant."""


def raise_if_failed(status: JobStatus, detail: str | None = None) -> None:
    """Return if a job has not failed; `detail` is of another party, where its own is known.

    Raises:
        JobFailed: it has failed, or was cancelled.
    """
    failure = status.failure
    if status.state == State.CANCELLED:
        raise JobFailed(status.job, "", status.cancelled_by, "it was cancelled")
    if failure is not None:
        more = detail or status.detail
        raise JobFailed(status.job, failure.code, failure.culprit, failure.reason, stage=failure.stage, detail=more)
