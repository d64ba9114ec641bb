"""Shows an operator a job that waits for approval, and takes the answer.

Only the party's own console gets here; what follows from the answer is the run's business.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from tercet.agents.core.problems import JobProblem
from tercet.agents.jobs.columns_used import column_sentences, columns_used, own_model_part
from tercet.agents.models.manifest import ModelPart
from tercet.agents.policy.disclosures import Revelation, revelations
from tercet.agents.policy.known_job import AppliedModel
from tercet.agents.runs.run import JobRun
from tercet.agents.session.findings import NO_FINDINGS, Findings
from tercet.broker.sealing.identity import parse_public
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Decide, Failure, Job, JobStatus

PageUsers = Callable[[], Collection[str]]


class Summary(NamedTuple):
    """Describes a job to the person who decides on it.

    Attributes:
        submitter, purpose: of the job.
        columns: a sentence about each data party's columns.
        revelations: who learns what, in the order of the stages.
        fingerprints: of each party's key, to compare by telephone.
    """

    submitter: str
    purpose: str
    columns: tuple[str, ...]
    revelations: tuple[Revelation, ...]
    fingerprints: dict[str, str]


def basis_of(run: JobRun | None, settings: Settings) -> tuple[Settings, Findings]:
    """Give what a job's summary rests on: a run keeps the settings with which it began."""
    return (settings, NO_FINDINGS) if run is None else (run.context.settings, run.context.findings)


def summarize_job(job: Job, settings: Settings, findings: Findings = NO_FINDINGS) -> Summary:
    """Describe a job; `findings` are of a run under way. The further that is, the more is known."""
    description, part = job.description, own_model_part(job, settings)
    used, facts = columns_used(job, settings, findings, part), findings.facts
    known = facts._replace(columns=used.counts, model=facts.model or _applied_model(description.kind, part))
    known = known._replace(serving=_serves(description.label, settings))
    return Summary(
        job.submitter,
        description.purpose,
        tuple(column_sentences(description, used)),
        revelations(description, known),
        {member.name: _fingerprint(member.key) for member in job.members},
    )


def summarize_revelations(job: Job, settings: Settings, findings: Findings = NO_FINDINGS) -> tuple[str, ...]:
    """Describe a job in sentences: purpose, columns, and who learns what."""
    summary = summarize_job(job, settings, findings)
    return (
        f"submitted by {summary.submitter}; purpose: {summary.purpose or 'none given'}",
        *summary.columns,
        *map(str, summary.revelations),
        "fingerprints of the parties' keys, to compare by telephone: "
        + "; ".join(f"{name} {fingerprint}" for name, fingerprint in summary.fingerprints.items()),
    )


def _serves(label: str, settings: Settings) -> bool:
    """Tell whether this party lets a label party have single rows scored."""
    partner = settings.partners.get(label)
    return partner is not None and partner.serving_table is not None


def _fingerprint(key: str) -> str:
    try:
        return parse_public(key).fingerprint
    except KeyProblem:
        return "none, since its key is no key"


def _applied_model(kind: str, part: ModelPart | None) -> AppliedModel | None:
    if part is None or kind == "training":
        return None
    return AppliedModel(part.link, part.release, part.network is not None, part.is_blind)


def decide_approval(
    me: str, run: JobRun | None, status: JobStatus | None, request: Decide, *, on_page: bool, page_users: PageUsers
) -> str | None:
    """Follow an operator's decision on a job of this `status`, or say why not.

    `page_users` names who may approve on the page by now: the words of others there count no more.
    """
    if run is None or not run.approval.is_required or run.approval.approved_by:
        return _nothing_to_decide(me, status, request.job)
    if run.approval.refused_by:
        return f"{request.job} was refused already by {run.approval.refused_by}, and is ending"
    run.approval.forget_gone(page_users())
    if request.approve and request.who in run.approval.approvers:
        return f"{request.who} has approved {request.job} already; [policy] approvals wants another person, too"
    try:
        run.audit.write_event("approved" if request.approve else "refused", by=request.who, why=request.why)
    except JobProblem as problem:
        return str(problem)
    if request.approve:
        run.approve(request.who, on_page=on_page)
    else:
        why = f": {request.why}" if request.why else ""
        reason = f"{me}'s operator has refused the job{why}; ask {me} what it would take"
        run.refuse(request.who, JobProblem("policy.refused", me, reason))
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
