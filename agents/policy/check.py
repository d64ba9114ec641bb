"""Checks a job against this party's settings before it takes part.

It compares settings, description and the budget of earlier jobs, before anybody reads the table.
"""

from tercet.agents.core.problems import JobProblem, collect_problem, join_problems
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.job import job_refusals
from tercet.agents.policy.table import table_refusals
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job


def check_policy(job: Job, settings: Settings, identity: Identity, budget: Budget | None = None) -> None:
    """Check that this party may and can take part.

    Raises:
        JobProblem: it may not or cannot; the problem lists all `refusals`, and names who can mend them.
    """
    if problems := refusals(job, settings, identity, budget):
        raise join_problems(problems)


def refusals(job: Job, settings: Settings, identity: Identity, budget: Budget | None = None) -> list[JobProblem]:
    """List all reasons in the job or the settings for which this party does not take part.

    Raises:
        JobProblem: the submitter is unknown, or the job is not for this party; they read no other reason.
    """
    _check_submitter(job, settings)
    _check_members(job, settings)
    _check_keys(job, settings, identity)
    _check_role(job, settings)
    problems = [*table_refusals(job, settings), *job_refusals(job, settings)]
    return problems + collect_problem((budget or Budget()).check, job, settings)


def _check_submitter(job: Job, settings: Settings) -> None:
    me, submitter = settings.party, job.submitter
    partner = settings.partners.get(submitter)
    if submitter != me and not (partner is not None and partner.may_submit):
        raise JobProblem(
            "policy.submitter", submitter, f"{me} does not take jobs from {submitter} (may_submit in {me}'s settings)"
        )


def _check_members(job: Job, settings: Settings) -> None:
    description = job.description
    expected = dict.fromkeys(description.data_parties, "data") | dict.fromkeys(description.helpers, "helper")
    if {member.name: member.role for member in job.members} != expected or len(job.members) != len(expected):
        raise JobProblem(
            "job.members", job.submitter, f"{job.submitter}'s agent announced other parties than the job's"
        )
    if settings.party not in expected:
        raise JobProblem(
            "job.members",
            job.submitter,
            f"{job.submitter}'s agent announced the job to {settings.party}, which has no part in it",
        )
    for name in expected.keys() - settings.partners.keys() - {settings.party}:
        raise JobProblem(
            "policy.partner",
            settings.party,
            f"{settings.party} does not know {name}: add [partners.{name}] with its key to {settings.party}'s settings",
        )


def _check_keys(job: Job, settings: Settings, identity: Identity) -> None:
    for member in job.members:
        own = member.name == settings.party
        if member.key != (str(identity.public) if own else settings.partners[member.name].key):
            raise JobProblem(
                "policy.key",
                job.submitter,
                f"{job.submitter} and {settings.party} hold different keys of {member.name}: compare both settings "
                f"with what `tercet keygen` printed at {member.name}",
            )


def _check_role(job: Job, settings: Settings) -> None:
    me, description = settings.party, job.description
    helps = me in description.helpers
    if helps != (settings.role == "helper"):
        raise JobProblem(
            "policy.role",
            job.submitter,
            f"{me}'s settings say role = \"{settings.role}\", but {job.submitter}'s job names {me} as "
            f"{'a helper' if helps else 'a data party'}: correct `helper`, `standby` or [tables] in the job",
        )
    if helps:
        return
    name = description.table_of(me)
    table = settings.tables.get(name)
    if table is None:
        raise JobProblem(
            "policy.table", me, f"{me}'s settings list no table {name!r}; correct the name in the job, or list it there"
        )
    if description.kind != "prediction" and me == description.label and table.label is None:
        raise JobProblem(
            "policy.label", me, f"{me} is the label party, but its table {name!r} names no label in {me}'s settings"
        )
