"""What a party's operator says of a job that waits for an answer, and what is shown to decide by.

Only the party's own console gets here; what follows from the answer is the run's business.
"""

from agents.problems import JobProblem
from agents.revelations import revelations
from agents.run import JobRun
from schemas.job import PredictionJob, TrainingJob
from schemas.messages import Decide, Job


def summary(job: Job) -> tuple[str, ...]:
    """What the job is for and would tell whom, a sentence each; a person decides by it."""
    description = job.description
    purpose = description.purpose or "none given"
    tables = ", ".join(f"{table} of {party}{_columns(description, party)}" for party, table in description.tables)
    return (
        f"submitted by {job.submitter}; purpose: {purpose}; tables: {tables}",
        *map(str, revelations(description)),
    )


def _columns(description: TrainingJob | PredictionJob, party: str) -> str:
    named = description.columns_of(party)
    return "" if named is None else f" (its columns {', '.join(named)} alone)"


def decide(me: str, run: JobRun | None, request: Decide) -> str | None:
    """Follow an operator's decision; why it cannot be followed, if it cannot."""
    if run is None or not run.approval.asks or run.approval.given_by:
        return f"{request.job} does not wait for an approval at {me}; `tercet job cancel` ends a job that runs"
    try:
        run.audit.note("approved" if request.approve else "refused", by=request.who, why=request.why)
    except JobProblem as problem:
        return str(problem)
    if request.approve:
        run.approve(request.who)
    else:
        why = f": {request.why}" if request.why else ""
        reason = f"{me}'s operator has refused the job{why}; ask {me} what it would take"
        run.stop(JobProblem("policy.refused", me, reason))
    return None
