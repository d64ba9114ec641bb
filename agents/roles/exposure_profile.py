"""Profiles a party's table by its first rows, before persons are asked and ids matched.

Of a table in a database the columns alone are looked at, and in a prediction there is no profile. What is wrong is
told; of what is right a number of columns and two entropies, up to whole bits. That is for some sets of columns
alone: entropies of many would tell how frequent values are. The same is judged again, of the rows in common, once these
are known.
"""

import math
from collections.abc import Mapping, Sequence

from tercet.agents.alignment.first_rows import look_at_table
from tercet.agents.alignment.own_table import Reading
from tercet.agents.alignment.table_problems import report_label
from tercet.agents.core.problems import JobProblem, collect_problem
from tercet.agents.policy.job import accepts_exposure
from tercet.agents.roles.applied_part import check_parties, read_manifest
from tercet.agents.roles.continued_part import continued_manifest
from tercet.agents.session.context import JobContext
from tercet.agents.session.training_defaults import resolve_defaults, series_of_job
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.plan import PlanRefused, Request, refuse_all
from tercet.mpc.plan.planner import exposure_refusals, nonsense_refusals
from tercet.schemas.files.job import PredictionJob, StatisticsJob, TrainingJob
from tercet.schemas.messages.kinds import Profile
from tercet.tables.core.table import Kind
from tercet.tables.encoding.two_classes import check_two_classes
from tercet.tables.snapshot.preview import PreviewResult

LEAST_CLASSES = 3
TWO_CLASSES = "logistic"  # the link whose labels are two classes, which become 0 and 1


def label_kind(job: TrainingJob | StatisticsJob) -> Kind:
    """Give the kind of a job's label: number or class."""
    if isinstance(job, StatisticsJob):
        return "categorical" if job.counts_classes else "numeric"
    return "categorical" if LINKS[job.link].classes or job.link == TWO_CLASSES else "numeric"


async def own_profile(context: JobContext) -> tuple[Profile | None, list[JobProblem]]:
    """Profile the first rows of this party's table in a training or statistics, if it is a file.

    Returns:
        What the others are told of it, and all for which it refuses the job.
    """
    job = context.description
    if context.me not in job.data_parties:
        return None, []
    if isinstance(job, PredictionJob):
        return None, await context.compute(_prediction_problems, context, job) if context.attempt == 1 else []
    start, unfit = None, list[JobProblem]()
    if isinstance(job, TrainingJob):
        start, unfit = await context.compute(continued_manifest, context, job)
    if not context.is_label_party and not context.audit.may_judge(job.columns_of(context.me)):
        return None, unfit
    reading = Reading(context.is_label_party, label_kind(job), None if start is None else start.encoding.kinds)
    read, problems = await context.compute(_look, context, reading)
    problems = [*unfit, *problems]
    if context.attempt > 1:  # rows that the run began with may be kept, whatever the table is now
        problems = []
    if read is None or read.preview is None:
        return None, problems
    first = read.preview
    context.findings.own_columns = first.names
    if isinstance(job, StatisticsJob):  # which exposes no record
        return None, problems
    problems += collect_problem(context.audit.bound_score_bits, first.bits.record)
    if job.scorings:
        problems += collect_problem(check_numbers, context, has_numbers=first.has_numbers)
    bits, record_bits = map(round_up, first.bits)
    return Profile(columns=first.columns, bits=bits, record_bits=record_bits), problems


def round_up(bits: float) -> float:
    """Round an entropy up to a whole bit, and 0 to 1: nobody has been asked yet."""
    return max(1.0, float(math.ceil(bits)))


def _prediction_problems(context: JobContext, job: PredictionJob) -> list[JobProblem]:
    """List all for which this party refuses a prediction, by its part and its first rows."""
    try:
        part = read_manifest(context, job.of)
    except JobProblem as problem:
        return [problem]
    problems = collect_problem(check_parties, context, job, part)
    problems += collect_problem(check_numbers, context, has_numbers=part.encoding.has_numbers)
    return problems + _look(context, Reading(expected=part.encoding.kinds, beside=part.columns_beside))[1]


def _look(context: JobContext, reading: Reading) -> tuple[PreviewResult | None, list[JobProblem]]:
    name = context.description.table_of(context.me)
    try:
        read = look_at_table(context, reading)
    except JobProblem as problem:
        return None, [problem]
    if read is None or read.rows is None:
        return read, []
    classes = collect_problem(check_label_classes, context, read.classes, read.positive, name)
    return read, collect_problem(_check_rows, context, read.rows) + classes


def _check_rows(context: JobContext, rows: int) -> None:
    limit = "min_scored_rows" if isinstance(context.description, PredictionJob) else "min_rows"
    least, me = getattr(context.settings.limits, limit), context.me
    if rows < least:
        raise JobProblem(
            "alignment.few",
            me,
            f"{me}'s whole table has fewer rows than {me} asks for in common: bring more rows, or let {me} lower "
            f"[limits] {limit}",
            f"{rows} rows are in the table, and [limits] {limit} is {least}",
        )


def check_label_classes(context: JobContext, classes: tuple[str, ...], positive: str | None, table: str) -> None:
    """Check labels of two classes as soon as the table is read.

    Raises:
        JobProblem: the label party's table has other classes; this party is named.
    """
    job = context.description
    if not isinstance(job, PredictionJob) and job.link == TWO_CLASSES and context.is_label_party:
        with report_label(context, job.link):
            check_two_classes(classes, positive, table)


def check_numbers(context: JobContext, *, has_numbers: bool) -> None:
    """Check that rows have numbers: few scores would reveal categories alone.

    Raises:
        JobProblem: they may not; this party is named.
    """
    me, settings = context.me, context.settings
    if has_numbers or context.is_label_party or settings.policy.narrow or accepts_exposure(context.job, settings):
        return
    raise JobProblem(
        "policy.narrow",
        me,
        f"{me} has no numeric column, so that scores could give its rows away, and lets none be scored: use "
        f"holdout = 0, or add a numeric column, or, if {me} wants that, write narrow = true under [policy] in {me}'s "
        f"settings",
    )


def check_profiles(context: JobContext, profiles: Mapping[str, Profile | None]) -> None:
    """Refuse at the label party tables too narrow for the planner, before matching.

    Where one party's table has no profile, what depends on all of them is left for then.

    Raises:
        JobProblem: saying what would be exposed; whoever wrote the job can mend it.
    """
    job = context.description
    known = [profile for party in job.data_parties if (profile := profiles.get(party)) is not None]
    if not isinstance(job, TrainingJob) or len(known) < len(job.data_parties):
        return
    _refusal(context, exposure_refusals(_request(context, job, known)))


def check_sense(context: JobContext) -> None:
    """Refuse at the label party what the planner would refuse whatever the tables hold.

    Raises:
        JobProblem: saying what makes no sense; whoever wrote the job can mend it.
    """
    job, anything = context.description, Profile(columns=1, bits=1.0, record_bits=1.0)
    if isinstance(job, TrainingJob):
        _refusal(context, nonsense_refusals(_request(context, job, [anything] * len(job.data_parties))))


def _request(context: JobContext, job: TrainingJob, profiles: Sequence[Profile]) -> Request:
    """Make a plan request while rows are unknown; "auto" becomes the smallest batch."""
    training = resolve_defaults(job, 0, (), ()).of_steps()
    return Request(
        model=job.link,
        rows=training["batch"],
        columns=tuple(profile.columns for profile in profiles),
        **training,
        weighted=job.weighs_errors,
        accept_narrow=job.accept_narrow,
        scorings=job.scorings,
        label=context.number(job.label),
        names=job.data_parties,
        outputs=LEAST_CLASSES if LINKS[job.link].classes else 1,
        whole=job.release == "label",
        network=None if job.network is None else Network(job.network.hidden, job.network.activation),
        blind=series_of_job(job),
        bits=tuple(profile.bits for profile in profiles),
        record_bits=tuple(profile.record_bits for profile in profiles),
    )


def _refusal(context: JobContext, refusals: Sequence[PlanRefused]) -> None:
    try:
        refuse_all(refusals)
    except PlanRefused as refused:
        raise JobProblem("job.plan", context.job.submitter, f"the planner refuses the job: {refused}") from None
