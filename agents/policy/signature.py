"""Checks that a submitter signed a job, and that it is still valid, before all else.

It trusts the keys in the settings alone. It allows for clocks that differ by a few minutes.
"""

from tercet.agents.core.problems import JobProblem
from tercet.broker.sealing.identity import Forged, Identity, PublicIdentity, parse_public
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job

VALID_SECONDS = 3600  # of a job that is submitted here; it is announced sooner, and from then on its record counts
TOLERANCE_SECONDS = 300  # by which the clocks of two parties may differ


def sign(job: Job, identity: Identity, now: float) -> Job:
    """Sign the job, as its submitter announces it from now on."""
    dated = job.model_copy(update={"issued": int(now), "expires": int(now) + VALID_SECONDS})
    return dated.model_copy(update={"signature": identity.sign(dated.statement)})


def signature_problem(job: Job, settings: Settings, identity: Identity, now: float) -> JobProblem | None:
    """Give the reason against an announcement; None if it is complete, signed and in time."""
    if job.submitter != settings.party and job.submitter not in settings.partners:
        return _forged(job, settings, f"{job.submitter} is no partner of {settings.party}")
    if job.id != job.description.id:
        return _forged(job, settings, "its id is not the one of its description")
    try:
        _key_of(job, settings, identity).verify(job.signature, job.statement)
    except Forged:
        return _forged(job, settings, f"its signature is missing, or not by the key that is pinned for {job.submitter}")
    return _untimely(job, settings, now)


def _key_of(job: Job, settings: Settings, identity: Identity) -> PublicIdentity:
    own = job.submitter == settings.party
    return identity.public if own else parse_public(settings.partners[job.submitter].key)


def _forged(job: Job, settings: Settings, why: str) -> JobProblem:
    return JobProblem(
        "job.signature",
        job.submitter,
        f"{settings.party} takes no job that {job.submitter} has not signed as it stands: {why}; submit it again, with "
        f"the same release of tercet at both, and compare the keys in the settings",
    )


def _untimely(job: Job, settings: Settings, now: float) -> JobProblem | None:
    me, most = settings.party, settings.policy.job_seconds
    if job.expires - job.issued > most:
        why = f"is valid for longer than {most} seconds, which is what {me} takes ([policy] job_seconds)"
    elif job.issued > now + TOLERANCE_SECONDS:
        why = "was issued in the future"
    elif now > job.expires:
        why = "has expired"
    else:
        return None
    return JobProblem(
        "job.expired",
        job.submitter,
        f"the job that {job.submitter} announced {why}: submit it again, and compare the clocks of {job.submitter} and "
        f"{me}",
    )
