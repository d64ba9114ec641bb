"""What a job would expose, judged before persons are asked and ids are matched, from the first rows of each table.

A party tells two entropies and a number of columns. The same is judged again, of the rows in common, once these are
known.
"""

from collections.abc import Mapping

from agents.automatic import resolved
from agents.context import JobContext
from agents.policy_job import accepts_exposure
from agents.policy_table import narrowed
from agents.problems import JobProblem
from mpc.activations import ACTIVATIONS
from mpc.network import Network
from mpc.plan import PlanRefused, Request, refuse_all
from mpc.planner import exposure_refusals
from schemas.job import TrainingJob
from schemas.messages import Profile
from tables.preview import Preview, preview
from tables.problem import TableProblem

LEAST_CLASSES = 3


async def own_profile(context: JobContext) -> Profile | None:
    """Look at the first rows of this party's own table in a training, if it has one that is a file.

    Raises:
        JobProblem: this party refuses that its rows are scored, since it has no numeric column, or as scores would tell
            more of them than they hold.
    """
    job = context.description
    if not isinstance(job, TrainingJob) or context.me in job.helpers:
        return None
    found = await context.compute(_preview, context)
    if found is None:
        return None
    context.own_columns = found.names
    context.audit.bound_scores(found.bits.record)
    if job.scorings:
        check_numbers(context, has_numbers=found.has_numbers)
    return Profile(columns=found.columns, bits=found.bits.collision, record_bits=found.bits.record)


def _preview(context: JobContext) -> Preview | None:
    """What cannot be read is told when the job reads all of it."""
    name = context.description.table_of(context.me)
    settings = narrowed(context.settings.tables[name], context.description.columns_of(context.me))
    if settings.path is None:
        return None
    try:
        return preview(name, settings, with_label=context.leads)
    except TableProblem:
        return None


def check_numbers(context: JobContext, *, has_numbers: bool) -> None:
    """Return if this party's rows may be scored: records of categories alone can be solved for from few scores.

    Raises:
        JobProblem: they may not; this party is named.
    """
    me, settings = context.me, context.settings
    if has_numbers or context.leads or settings.policy.narrow or accepts_exposure(context.job, settings):
        return
    raise JobProblem(
        "policy.narrow",
        me,
        f"{me} has no numeric column, so that scores could give its rows away, and lets none be scored: use "
        f"holdout = 0, or add a numeric column, or, if {me} wants that, write narrow = true under [policy] in {me}'s "
        f"settings",
    )


def check_profiles(context: JobContext, profiles: Mapping[str, Profile | None]) -> None:
    """Refuse at the label party what the planner would refuse for exposure once rows are matched.

    Where one party's table has no profile, what depends on all of them is left for then.

    Raises:
        JobProblem: saying what would be exposed; whoever wrote the job can mend it.
    """
    job = context.description
    found = [profile for party in job.data_parties if (profile := profiles.get(party)) is not None]
    if not isinstance(job, TrainingJob) or len(found) < len(job.data_parties):
        return
    # Rows are not known yet: of "auto" the smallest batch, so that nothing is refused wrongly.
    training = resolved(job, 0, ()).model_dump()
    request = Request(
        model=job.link,
        rows=training["batch"],
        columns=tuple(profile.columns for profile in found),
        **training,
        accept_narrow=job.accept_narrow,
        scorings=job.scorings,
        label=context.number(job.label),
        outputs=LEAST_CLASSES if ACTIVATIONS[job.link].classes else 1,
        whole=job.release == "label",
        network=None if job.network is None else Network(job.network.hidden, job.network.activation),
        bits=tuple(profile.bits for profile in found),
        record_bits=tuple(profile.record_bits for profile in found),
    )
    try:
        refuse_all(exposure_refusals(request))
    except PlanRefused as refused:
        raise JobProblem("job.plan", context.job.submitter, f"the planner refuses the job: {refused}") from None
