"""Collects everybody's sizes at the label party, and makes terms and plan from them.

Each party makes the plan anew from the sizes and compares; nothing of a table but its sizes is here.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Self, TypeVar

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.known_job import JobFacts, rankers, together
from tercet.agents.roles.memory_limits import check_scoring_memory, check_training_memory
from tercet.agents.session.agreed import ScoringContext, Session, TrainingContext, extend
from tercet.agents.session.context import JobContext
from tercet.agents.session.training_defaults import resolve_defaults, series_of_job, with_planned_numbers
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.functions.links import LINKS
from tercet.mpc.network.continued import Gain
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Begin, Plan, PlanRefused, Request
from tercet.mpc.plan.planner import exposure_refusals, make_plan
from tercet.mpc.scoring.linear import Numbers
from tercet.schemas.files.job import PredictionJob, TrainingJob, canonical_digest
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


T = TypeVar("T")  # a plan, or what a prediction's parts say of the model
Make = Callable[[Sizes | Terms, Tables], Awaitable[tuple[Terms, T]]]


async def agree_on_plan(
    context: JobContext, job: TrainingJob, session: Session, mine: Sizes | None, start: ScoringTerms | None = None
) -> TrainingContext:
    """Send this party's sizes, and make the plan of a training; `mine` is None at the helper.

    `start` is what this party's part says of the model that the training begins at; a helper takes that as it is.

    Raises:
        JobProblem: sizes, parts or plans differ, the planner refuses, or the model does not fit its plan.
    """

    async def make(sizes: Sizes | Terms, tables: Tables) -> tuple[Terms, Plan]:
        said = sizes.scoring if mine is None and isinstance(sizes, Terms) else start
        if (said is None) != (job.start is None):
            raise strange_terms(context, context.label)
        plan = await context.compute(_plan, context, job, sizes, tables, said)
        return make_terms(sizes, tables, canonical_digest("tercet plan", plan.canonical()), said), plan

    terms, plan = await agree(context, mine, make)
    context.findings.facts = JobFacts.of(job, terms)._replace(exposed=_narrow_exposure(plan))
    context.findings.training = with_planned_numbers(job, plan).training
    context.findings.warnings = _warnings(job, plan, terms.columns)
    context.statistics.steps = plan.steps_total
    for note in (*plan.notes, *context.findings.warnings):
        context.log.info("plan", note=note)
    agreed = extend(context, TrainingContext, session=session, terms=terms, plan=plan)
    check_training_memory(agreed)
    context.audit.note_revelations("training", terms)
    return agreed


async def agree_on_scoring(
    context: JobContext, job: PredictionJob, session: Session, mine: Sizes | None, scoring: ScoringTerms | None
) -> ScoringContext:
    """Send this party's sizes, and agree on what the parts say of the applied model.

    `mine` and `scoring`, of this party's own part, are None at the helper.

    Raises:
        JobProblem: sizes or parts differ.
    """

    async def make(sizes: Sizes | Terms, tables: Tables) -> tuple[Terms, ScoringTerms]:
        # A helper has no model part to compare with, and takes a prediction's numbers as they are.
        said = scoring or (sizes.scoring if isinstance(sizes, Terms) else None)
        if said is None:
            raise strange_terms(context, context.label)
        return make_terms(sizes, tables, canonical_digest("tercet scoring", said.model_dump()), said), said

    terms, said = await agree(context, mine, make)
    context.findings.facts = JobFacts.of(job, terms)
    numbers = scoring_numbers(context, terms, said)
    agreed = extend(context, ScoringContext, session=session, terms=terms, scoring=said, numbers=numbers)
    check_scoring_memory(agreed, numbers, terms.rows)
    context.audit.note_revelations("scoring", terms)
    return agreed


async def agree(context: JobContext, mine: Sizes | None, make: Make[T]) -> tuple[Terms, T]:
    """Make the terms at the label party; elsewhere receive them, and make them anew to compare."""
    label = context.label
    if mine is not None and context.is_label_party:
        terms, made = await make(mine, await _collect(context, mine))
        await context.mailbox.send(terms, context.others, context.deadline("terms"))
    else:
        if mine is not None:
            await context.mailbox.send(mine, [label], context.deadline("fit"))
        terms = (await context.mailbox.receive(Terms, [label], context.deadline("terms")))[label]
        again, made = await make(terms, _checked_tables(context, terms, mine))
        if terms != again:
            raise strange_terms(context, label)
    statistics = context.statistics
    statistics.rows, statistics.held_out = terms.rows, terms.held_out
    statistics.columns = 0 if mine is None else mine.columns
    return terms, made


async def _collect(context: JobContext, mine: Sizes) -> Tables:
    """Collect at the label party what everybody has."""
    sizes = await context.mailbox.receive(Sizes, context.partners, context.deadline("fit"))
    for party, theirs in sizes.items():
        if (theirs.rows, theirs.held_out) != (mine.rows, mine.held_out):
            raise strange_terms(context, party)
        if theirs.model != mine.model:
            raise JobProblem(
                "model.differs",
                party,
                f"{party}'s model part and {context.me}'s are not of one training run; let both have the parts of one",
            )
    sizes[context.me] = mine
    return Tables.of(sizes[party] for party in context.description.data_parties)


def make_terms(sizes: Sizes | Terms, tables: Tables, digest: bytes, scoring: ScoringTerms | None = None) -> Terms:
    """Make terms from the label party's sizes and all tables."""
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


def _plan(
    context: JobContext, job: TrainingJob, sizes: Sizes | Terms, tables: Tables, start: ScoringTerms | None
) -> Plan:
    """Make the plan of fixed point and schedule, which every party makes for itself.

    Raises:
        JobProblem: the planner refuses, or the model to begin at does not fit; whoever wrote the job can mend it.
    """
    training = resolve_defaults(job, sizes.rows, tables.spreads, tables.columns)
    request = Request(
        model=job.link,
        rows=sizes.rows,
        held_out=sizes.held_out,
        outputs=sizes.outputs,
        scorings=job.scorings,
        whole="label" in {job.release, None if start is None else start.release},
        begin=None if start is None else Begin(start.alpha, start.fx + start.f if _stays_shared(start) else 0),
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
        weighted=job.weighs_errors,
        **training.of_steps(),
    )
    try:
        plan = make_plan(request)
    except PlanRefused as refused:
        raise JobProblem("job.plan", context.job.submitter, f"the planner refuses the job: {refused}") from None
    if start is not None:
        _check_start(context, job, start, plan)
    return plan


def _check_start(context: JobContext, job: TrainingJob, start: ScoringTerms, plan: Plan) -> None:
    lost = Gain.between(start.fx, start.f, plan, blind=start.blind).lost(plan)
    if lost and _stays_shared(start):
        raise JobProblem(
            "model.start",
            context.job.submitter,
            f"shares of {job.start} have {lost} fractional bits more than the weights of this job, and shares "
            f"are not rounded: use the batch, rate, l2 and [privacy] of {job.start}, smaller steps or larger batches",
        )


def _stays_shared(start: ScoringTerms) -> bool:
    """Tell whether owners have no full weights of their own, which they could round."""
    return start.release != "owners" or start.network is not None


def _checked_tables(context: JobContext, terms: Terms, mine: Sizes | None) -> Tables:
    """Check that the announced sizes are possible, and that this party's own are among them."""
    parties, label = context.description.data_parties, context.label
    partners = [count for party, count in zip(parties, terms.columns, strict=False) if party != label]
    if terms.rows + terms.held_out > MOST_ROWS or min([terms.rows, *partners]) < 1:  # before any is counted through
        raise strange_terms(context, label)
    tables = Tables(terms.columns, terms.bits, terms.record_bits, terms.spreads)
    if _strange_outputs(context, terms, mine) or {len(each) for each in tables} != {len(parties)}:
        raise strange_terms(context, label)
    if mine is not None:
        own = (terms.rows, terms.held_out, *(each[context.number(context.me)] for each in tables))
        if own != (mine.rows, mine.held_out, mine.columns, mine.bits, mine.record_bits, mine.spread):
            raise strange_terms(context, label)
    return tables


def _strange_outputs(context: JobContext, terms: Terms, mine: Sizes | None) -> bool:
    """Tell whether the model cannot have so many; only the label party knows its classes."""
    if isinstance(context.description, TrainingJob):
        return terms.outputs > 1 and not LINKS[context.description.link].classes
    return mine is not None and mine.outputs != terms.outputs  # of a trained model every part says how many


def strange_terms(context: JobContext, party: str) -> JobProblem:
    """Blame a party for terms that this one does not find again."""
    return JobProblem(
        "job.terms",
        party,
        f"{party} announced sizes or a plan that {context.me} does not find again; do both run the same version?",
    )


def _warnings(job: TrainingJob, plan: Plan, columns: Sequence[int]) -> tuple[str, ...]:
    """Collect the planner's warnings, and what a label party without columns gives away."""
    partners = rankers(job, dict(zip(job.data_parties, columns, strict=True)))
    if not partners:
        return plan.warnings
    caution = (
        f'{job.label} has no columns, so that release = "owners" gives {together(partners)} all weights: customers '
        f'can be ranked without {job.label}; use release = "shared" if that must not be'
    )
    return (*plan.warnings, caution)


def _narrow_exposure(plan: Plan) -> str:
    """Give the planner's reason against a narrow table that the job accepts, if any."""
    return "; ".join(one.reason for one in exposure_refusals(replace(plan.request, accept_narrow=False)))


def scoring_numbers(context: JobContext, terms: Terms, scoring: ScoringTerms) -> Numbers:
    """Make the fixed point from a prediction's terms.

    Raises:
        JobProblem: the announced series is not stored.
    """
    layers = scoring.network
    network = None if layers is None else Network(layers.hidden, layers.activation)
    series = None if scoring.series is None else Blind(*scoring.series)
    numbers = Numbers(
        scoring.model, terms.columns, scoring.fx, scoring.f, terms.outputs, network, scoring.noise_bits,
        scoring.blind, series,
    )  # fmt: skip
    try:
        if numbers.is_blind and network is not None:
            BlindLayout(numbers)
    except ValueError:
        reason = f"{context.label} announced a series of the model that {context.me} does not know"
        raise JobProblem("job.terms", context.label, f"{reason}; do both run the same version?") from None
    return numbers
