"""What a party's operator says of a job that waits for an answer, and what is shown to decide by.

Only the party's own console gets here; what follows from the answer is the run's business.
"""

from agents.problems import JobProblem
from agents.revelations import revelations
from agents.run import JobRun
from broker.identity import KeyProblem, parse_public
from schemas.job import PredictionJob, TrainingJob
from schemas.messages import Decide, Failure, Job, JobStatus


def summary(job: Job) -> tuple[str, ...]:
    """What the job is for and would tell whom, a sentence each; a person decides by it."""
    description = job.description
    purpose = description.purpose or "none given"
    tables = ", ".join(f"{table} of {party}{_columns(description, party)}" for party, table in description.tables)
    return (
        f"submitted by {job.submitter}; purpose: {purpose}; tables: {tables}",
        *map(str, revelations(description)),
        "fingerprints of the parties' keys, to compare by telephone: "
        + "; ".join(f"{member.name} {_fingerprint(member.key)}" for member in job.members),
    )


def _fingerprint(key: str) -> str:
    try:
        return parse_public(key).fingerprint
    except KeyProblem:
        return "none, since its key is no key"


def _columns(description: TrainingJob | PredictionJob, party: str) -> str:
    named = description.columns_of(party)
    return "" if named is None else f" (its columns {', '.join(named)} alone)"


def decide(me: str, run: JobRun | None, status: JobStatus | None, request: Decide) -> str | None:
    """Follow an operator's decision; why it cannot be followed, if it cannot. `status` is the job's, if it is known."""
    if run is None or not run.approval.asks or run.approval.given_by:
        return _nothing_to_decide(me, status, request.job)
    if run.approval.refused_by:
        return f"{request.job} was refused already by {run.approval.refused_by}, and is ending"
    try:
        run.audit.note("approved" if request.approve else "refused", by=request.who, why=request.why)
    except JobProblem as problem:
        return str(problem)
    if request.approve:
        run.approve(request.who)
    else:
        why = f": {request.why}" if request.why else ""
        reason = f"{me}'s operator has refused the job{why}; ask {me} what it would take"
        run.approval.refuse(request.who)
        run.stop(JobProblem("policy.refused", me, reason))
    return None


def _nothing_to_decide(me: str, status: JobStatus | None, job: str) -> str:
    match status:
        case None:
            return f"{me} knows no job {job}"
        case JobStatus(failure=Failure() as failure):
            how = "was refused" if failure.code == "policy.refused" else f"has failed, by {failure.code}"
            return f"{job} {how} already: {failure.reason}; `tercet job submit --again` asks anew"
        case JobStatus(state="cancelled" | "done" as state):
            by = f" by {status.cancelled_by}" if status.cancelled_by else ""
            return f"{job} is {state} already{by}; `tercet job submit --again` asks anew"
        case JobStatus(approval=who) if who:
            return f"{job} was approved already by {who}; `tercet job cancel` ends it"
    return f"{job} does not wait for an approval at {me}; `tercet job cancel` ends a job that runs"
