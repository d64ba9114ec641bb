"""A job's way from accepted to done, the same for every party; what differs between the roles is behind `Role`.

Nothing here knows the mathematics or the transport. The label party leads: it collects, decides and says `start`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import mpc.plan
from agents.context import ATTEMPT, JobContext
from agents.pace import largest_batch
from agents.problems import JobProblem
from agents.states import State
from broker.handshake import HandshakeParty, HandshakeState, SmallOrder
from broker.identity import Forged, parse_public
from broker.seal import SessionSeal
from mpc.plan import Plan, PlanRefused, Request
from schemas.job import canonical_digest
from schemas.messages import PROTOCOL_VERSION, Accept, Handshake, Ready, Released, Start, Transcript

T = TypeVar("T")
Enter = Callable[[State], None]


class Role(Protocol):
    """What a data party and the helper do differently."""

    async def prepare(self) -> tuple[int, int]:
        """Read what is needed; the rows and encoded columns of this party's table (0, 0 for the helper)."""
        ...

    async def align(self) -> None:
        """Agree with the others on order and rows; the keys of the attempt are there."""
        ...

    async def train(self) -> None:
        """All steps."""
        ...

    async def release(self) -> Path | None:
        """Open what the job says to whom it says; where this party's model part was written."""
        ...


async def live(context: JobContext, role: Role, enter: Enter) -> Path | None:
    """Take a job from accepted to done; returns where this party's model part is, if it has one.

    Raises:
        JobProblem: it cannot go on, and whose fault that is.
        Overdue: a deadline has passed.
    """
    await _accept(context)
    sizes = await role.prepare()
    enter(State.READY)
    await _start(context, *sizes)
    await _shake_hands(context)
    await role.align()
    enter(State.ALIGNED)
    enter(State.TRAINING)
    context.statistics.begin(context.ready_plan.steps_total)
    await role.train()
    context.statistics.end()
    part = await role.release()
    enter(State.RELEASED)
    await _everybody_released(context)
    return part


async def _accept(context: JobContext) -> None:
    label, deadline = context.description.label, context.deadline("accept")
    if not context.leads:
        await context.mailbox.send(Accept(version=PROTOCOL_VERSION), [label], deadline)
        return
    accepted = await context.mailbox.receive(Accept, context.others, deadline)
    for party, message in accepted.items():
        if message.version != PROTOCOL_VERSION:
            raise JobProblem(
                "party.version",
                party,
                f"{party} speaks version {message.version} of the protocol and {context.me} version {PROTOCOL_VERSION};"
                f" install the same release of tercet at both",
            )


async def _start(context: JobContext, rows: int, columns: int) -> None:
    label = context.description.label
    if context.leads:
        start = await _collect(context, Ready(rows=rows, columns=columns))
        await context.mailbox.send(start, context.others, context.deadline("start"))
    else:
        await context.mailbox.send(Ready(rows=rows, columns=columns), [label], context.deadline("ready"))
        start = (await context.mailbox.receive(Start, [label], context.deadline("start")))[label]
        if len(start.columns) != len(context.description.data_parties):
            raise _strange_start(context)
        context.plan = await context.compute(make_plan, context, start.rows, start.columns)
        _check_start(context, start, rows, columns)
    _check_size(context)
    context.start = start
    context.statistics.rows, context.statistics.columns = start.rows, columns
    for note in (*context.ready_plan.notes, *context.ready_plan.warnings):
        context.log.info("plan", note=note)


def _check_size(context: JobContext) -> None:
    """Whether what a partner sends of one batch is well within what this party takes in."""
    job, plan = context.description, context.ready_plan
    if context.me == job.helper:
        return
    most, limit = max(plan.request.columns), context.settings.limits.message_mib * 2**20
    if 2 * 8 * largest_batch(plan) * most > limit:
        raise JobProblem(
            "job.batch",
            context.job.submitter,
            f"masked inputs of {largest_batch(plan)} rows and {most} columns are more than {context.me} takes in: use "
            f"smaller batches, or raise [limits] message_mib at {context.me}",
        )


async def _collect(context: JobContext, own: Ready) -> Start:
    """The label party's part: compare everybody's sizes, plan, and tell."""
    readies = await context.mailbox.receive(Ready, context.others, context.deadline("ready"))
    readies[context.me] = own
    helper = context.description.helper
    if (readies[helper].rows, readies[helper].columns) != (0, 0):
        raise JobProblem("party.role", helper, f"{helper} announced a table of its own, and a helper holds none")
    for party in context.partners:
        if readies[party].rows != own.rows:
            raise JobProblem(
                "table.rows",
                party,
                f"{party}'s table has {readies[party].rows} rows and {context.me}'s has {own.rows}: with alignment = "
                f'"aligned" both must hold the same customers in the same order',
            )
    columns = tuple(readies[party].columns for party in context.description.data_parties)
    context.plan = await context.compute(make_plan, context, own.rows, columns)
    return Start(attempt=ATTEMPT, rows=own.rows, columns=columns, plan=plan_digest(context.plan))


def make_plan(context: JobContext, rows: int, columns: tuple[int, ...]) -> Plan:
    """The fixed-point plan and schedule, which every party makes for itself.

    Raises:
        JobProblem: the planner refuses; whoever wrote the job can mend it.
    """
    job = context.description
    request = Request(
        model=job.model, rows=rows, columns=columns, accept_narrow=job.accept_narrow, **job.training.model_dump()
    )
    try:
        return mpc.plan.make_plan(request)
    except PlanRefused as refused:
        raise JobProblem("job.plan", context.job.submitter, f"the planner refuses the job: {refused}") from None


def plan_digest(plan: Plan) -> bytes:
    """What the label party and the others compare."""
    return canonical_digest("tercet plan", plan.canonical())


def _check_start(context: JobContext, start: Start, rows: int, columns: int) -> None:
    parties = context.description.data_parties
    mine = context.me not in parties or (start.rows, start.columns[context.number(context.me)]) == (rows, columns)
    if not mine or start.attempt != ATTEMPT or start.plan != plan_digest(context.ready_plan):
        raise _strange_start(context)


def _strange_start(context: JobContext) -> JobProblem:
    label = context.description.label
    return JobProblem(
        "job.start",
        label,
        f"{label} announced sizes or a plan that {context.me} does not find again; do both run the same version?",
    )


async def _shake_hands(context: JobContext) -> None:
    parties = [HandshakeParty(m.name, m.role, parse_public(m.key)) for m in context.job.members]
    state = HandshakeState(context.identity, context.me, parties, context.job_digest, ATTEMPT)
    deadline = context.deadline("handshake")
    await context.mailbox.send(state.hello(), context.others, deadline)
    for sender, hello in (await context.mailbox.receive(Handshake, context.others, deadline)).items():
        _or_blame(sender, state.receive, hello)
    await context.mailbox.send(state.transcript(), context.others, deadline)
    for sender, seen in (await context.mailbox.receive(Transcript, context.others, deadline)).items():
        _or_blame(sender, state.confirm, seen)
    try:
        context.secrets = state.secrets()
    except SmallOrder as error:
        raise JobProblem("handshake.key", error.party, str(error)) from None
    await context.mailbox.establish(SessionSeal(context.secrets, context.me))


def _or_blame(sender: str, check: Callable[[str, T], None], message: T) -> None:
    try:
        check(sender, message)
    except Forged:
        raise JobProblem(
            "handshake.signature",
            sender,
            f"{sender}'s handshake is not signed for this job by the key in the settings: compare the keys that "
            f"`tercet keygen` printed, and the parties' tables and settings of this job",
        ) from None


async def _everybody_released(context: JobContext) -> None:
    # A party whose disk is full at the last moment still fails the job for all.
    deadline = context.deadline("release")
    await context.mailbox.send(Released(), context.others, deadline)
    await context.mailbox.receive(Released, context.others, deadline)
