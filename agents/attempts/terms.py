"""Collects everybody's sizes at the label party, and makes terms and plan from them.

Each party makes the plan anew from the sizes and compares; nothing of a table but its sizes is here.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

from tercet.agents.attempts.memory_limits import check_memory_limits
from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.agents.session.plan_warnings import warnings_of
from tercet.agents.session.training_defaults import resolve_defaults, series_of_job
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.plan import Plan, PlanRefused, Request
from tercet.mpc.plan.planner import make_plan
from tercet.schemas.files.job import TrainingJob, canonical_digest
from tercet.schemas.messages.kinds import ScoringTerms, Sizes, Terms

MOST_ROWS = 2**32


class Tables(NamedTuple):
    """Holds the data parties' column numbers, in the job's order."""

    columns: tuple[int, ...]
    bits: tuple[float, ...]
    record_bits: tuple[float, ...]
    spreads: tuple[float, ...]

    @classmethod
    def of(cls, sizes: Iterable[Sizes]) -> Self:
        """Collect what each party said."""
        said = ((one.columns, one.bits, one.record_bits, one.spread) for one in sizes)
        columns, bits, record_bits, spreads = zip(*said, strict=True)
        return cls(columns, bits, record_bits, spreads)


async def agree_on_terms(context: JobContext, mine: Sizes | None, scoring: ScoringTerms | None) -> None:
    """Send this party's sizes, and set `context.terms`, in training also the plan.

    `mine` is None at the helper. `scoring` is what a data party's own part says of the model that a prediction applies.

    Raises:
        JobProblem: sizes or plans differ, or the planner refuses.
    """
    label = context.description.label
    if context.is_label_party:
        assert mine is not None
        tables = await _collect(context, mine)
        terms = await _make_terms(context, mine, tables, scoring)
        await context.mailbox.send(terms, context.others, context.deadline("terms"))
    else:
        if mine is not None:
            await context.mailbox.send(mine, [label], context.deadline("fit"))
        terms = (await context.mailbox.receive(Terms, [label], context.deadline("terms")))[label]
        await _check(context, terms, mine, scoring)
    _note_terms(context, terms, mine)
    check_memory_limits(context, terms)


async def _collect(context: JobContext, mine: Sizes) -> Tables:
    """Collect at the label party what everybody has."""
    sizes = await context.mailbox.receive(Sizes, context.partners, context.deadline("fit"))
    for party, theirs in sizes.items():
        if (theirs.rows, theirs.held_out) != (mine.rows, mine.held_out):
            raise _strange_terms(context, party)
        if theirs.model != mine.model:
            raise JobProblem(
                "model.differs",
                party,
                f"{party}'s model part and {context.me}'s are not of one training run; let both have the parts of one",
            )
    sizes[context.me] = mine
    return Tables.of(sizes[party] for party in context.description.data_parties)


async def _make_terms(context: JobContext, sizes: Sizes | Terms, tables: Tables, scoring: ScoringTerms | None) -> Terms:
    """Make terms from the label party's sizes and all tables; set the plan of a training."""
    if isinstance(context.description, TrainingJob):
        plan = context.plan = await context.compute(_plan, context, sizes, tables)
        digest = canonical_digest("tercet plan", plan.canonical())
    else:
        assert scoring is not None
        digest = canonical_digest("tercet scoring", scoring.model_dump())
    return Terms(
        rows=sizes.rows,
        held_out=sizes.held_out,
        columns=tables.columns,
        bits=tables.bits,
        record_bits=tables.record_bits,
        spreads=tables.spreads,
        outputs=sizes.outputs,
        plan=digest,
        scoring=scoring,
    )


def _plan(context: JobContext, sizes: Sizes | Terms, tables: Tables) -> Plan:
    """Make the plan of fixed point and schedule, which every party makes for itself.

    Raises:
        JobProblem: the planner refuses; whoever wrote the job can mend it.
    """
    job = context.training
    training = resolve_defaults(job, sizes.rows, tables.spreads)
    request = Request(
        model=job.link,
        rows=sizes.rows,
        held_out=sizes.held_out,
        outputs=sizes.outputs,
        scorings=job.scorings,
        whole=job.release == "label",
        label=context.number(job.label),
        names=job.data_parties,
        columns=tables.columns,
        bits=tables.bits,
        record_bits=tables.record_bits,
        accept_narrow=job.accept_narrow,
        checks=job.privacy.checks,
        checked=job.privacy.checked if job.is_blind else 0.0,
        blind=series_of_job(job),
        network=None if job.network is None else Network(job.network.hidden, job.network.activation),
        **training.model_dump(),
    )
    try:
        return make_plan(request)
    except PlanRefused as refused:
        raise JobProblem("job.plan", context.job.submitter, f"the planner refuses the job: {refused}") from None


async def _check(context: JobContext, terms: Terms, mine: Sizes | None, scoring: ScoringTerms | None) -> None:
    parties, label = context.description.data_parties, context.description.label
    partners = [count for party, count in zip(parties, terms.columns, strict=False) if party != label]
    if terms.rows + terms.held_out > MOST_ROWS or min([terms.rows, *partners]) < 1:  # before any is counted through
        raise _strange_terms(context, label)
    if _strange_outputs(context, terms, mine):
        raise _strange_terms(context, label)
    tables = Tables(terms.columns, terms.bits, terms.record_bits, terms.spreads)
    if {len(each) for each in tables} != {len(parties)} or (terms.scoring is None) == (
        context.description.kind == "prediction"
    ):
        raise _strange_terms(context, label)
    if mine is not None:
        own = (terms.rows, terms.held_out, *(each[context.number(context.me)] for each in tables))
        if own != (mine.rows, mine.held_out, mine.columns, mine.bits, mine.record_bits, mine.spread):
            raise _strange_terms(context, label)
    # A helper has no model part to compare with, and takes a prediction's numbers as they are.
    if terms != await _make_terms(context, terms, tables, scoring or terms.scoring):
        raise _strange_terms(context, label)


def _strange_outputs(context: JobContext, terms: Terms, mine: Sizes | None) -> bool:
    """Tell whether the model cannot have so many; only the label party knows its classes."""
    if isinstance(context.description, TrainingJob):
        return terms.outputs > 1 and not LINKS[context.description.link].classes
    return mine is not None and mine.outputs != terms.outputs  # of a trained model every part says how many


def _strange_terms(context: JobContext, party: str) -> JobProblem:
    return JobProblem(
        "job.terms",
        party,
        f"{party} announced sizes or a plan that {context.me} does not find again; do both run the same version?",
    )


def _note_terms(context: JobContext, terms: Terms, mine: Sizes | None) -> None:
    context.terms = terms
    statistics, plan = context.statistics, context.plan
    statistics.rows, statistics.held_out = terms.rows, terms.held_out
    statistics.columns = 0 if mine is None else mine.columns
    statistics.steps = 0 if plan is None else plan.steps_total
    for note in () if plan is None else (*plan.notes, *warnings_of(context)):
        context.log.info("plan", note=note)
