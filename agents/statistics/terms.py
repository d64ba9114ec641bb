"""Agrees on the plan of a statistics job: what is counted, and what is told to whom.

Each party makes the plan from what all have announced, and compares; nothing of a table but its bins' number is here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.known_job import JobFacts
from tercet.agents.roles.exposure_profile import LEAST_CLASSES
from tercet.agents.roles.terms import Tables, agree, make_terms, strange_terms
from tercet.agents.session.agreed import AgreedContext, Session, extend
from tercet.agents.session.context import JobContext
from tercet.agents.statistics.limits import check_counted_rows, check_size
from tercet.agents.statistics.own_columns import number_bits
from tercet.agents.statistics.own_targets import label_bits
from tercet.mpc.statistics.plan import StatisticsPlan
from tercet.schemas.files.job import StatisticsJob, canonical_digest
from tercet.schemas.files.statistics import TWO_CLASSES
from tercet.schemas.messages.kinds import BinCounts, Sizes, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsContext(AgreedContext):
    """Holds a statistics job's means: the plan, and each data party's bins."""

    description: StatisticsJob
    plan: StatisticsPlan
    counts: Mapping[str, BinCounts]


async def agree_on_statistics(
    context: JobContext, job: StatisticsJob, session: Session, mine: tuple[BinCounts, Sizes] | None
) -> StatisticsContext:
    """Announce this party's bins, and make the plan; `mine` is None at the helper.

    Raises:
        JobProblem: sizes or plans differ, or the job asks for what few rows would tell too much by.
    """
    counts = await _exchange_counts(context, job, None if mine is None else mine[0])

    async def make(sizes: Sizes | Terms, tables: Tables) -> tuple[Terms, StatisticsPlan]:
        if isinstance(sizes, Terms) and sizes.scoring is not None:
            raise strange_terms(context, context.label)
        plan = _plan(context, job, sizes.rows, counts)
        return make_terms(sizes, tables, canonical_digest("tercet statistics plan", asdict(plan))), plan

    terms, plan = await agree(context, None if mine is None else mine[1], make)
    context.findings.facts = JobFacts.of(job, terms)
    context.statistics.steps = sum(1 for _ in plan.steps())
    return extend(context, StatisticsContext, session=session, terms=terms, plan=plan, counts=counts)


async def _exchange_counts(context: JobContext, job: StatisticsJob, mine: BinCounts | None) -> Mapping[str, BinCounts]:
    """Tell everybody this party's bins, and hear those of all data parties."""
    if mine is not None:
        await context.mailbox.send(mine, context.others, context.deadline("fit"))
    deadline = context.deadline("terms" if mine is None else "fit")
    counts = dict(await context.mailbox.receive(BinCounts, context.partners, deadline))
    if mine is not None:
        counts[context.me] = mine
    for party, one in counts.items():
        ascend = one.numeric == tuple(sorted(set(one.numeric))) and all(place < len(one.bins) for place in one.numeric)
        if not (ascend and _fit_label(job, one.classes, is_label=party == job.label)):
            raise strange_terms(context, party)
    return counts


def _fit_label(job: StatisticsJob, classes: int, *, is_label: bool) -> bool:
    """Tell whether announced classes are those of the job's label.

    As an amount a label of classes could choose few rows.
    """
    if not is_label or not job.counts_classes:
        return classes == 0
    return classes == 2 if job.model == TWO_CLASSES else classes >= LEAST_CLASSES


def _plan(context: JobContext, job: StatisticsJob, rows: int, counts: Mapping[str, BinCounts]) -> StatisticsPlan:
    asked, parties = job.statistics, job.data_parties
    numbers = tuple(len(counts[party].numeric) for party in parties)
    check_counted_rows(context, job, rows, counts)
    try:
        plan = StatisticsPlan(
            rows=rows,
            label=context.number(job.label),
            bins=tuple(counts[party].bins for party in parties),
            classes=counts[job.label].classes,
            numbers=numbers if asked.correlations != "none" else (),
            target_bits=label_bits(job, rows),
            fx=number_bits(rows),
            least=asked.least,
            woe=asked.woe,
            correlations=asked.correlations,
        )
    except ValueError as problem:
        raise JobProblem("job.plan", context.job.submitter, f"the planner refuses the job: {problem}") from None
    check_size(context, job, plan, counts)
    return plan
