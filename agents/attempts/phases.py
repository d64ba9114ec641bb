"""Takes a job from received to done, the same at every party; roles do the rest.

Nothing here knows the mathematics or the transport. The label party leads: it collects, decides and says `start`.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from tercet.agents.attempts.acceptance import Accepted, accept_job, after_approval, check_version
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.session.agreed import AgreedContext, Session
from tercet.agents.session.context import JobContext
from tercet.broker.sealing.handshake import HandshakeParty, HandshakeState, SmallOrderKey
from tercet.broker.sealing.identity import Forged, parse_public
from tercet.broker.sealing.seal import SessionSeal
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.messages.kinds import (
    Handshake,
    Profile,
    Ready,
    Released,
    Start,
    Transcript,
)

T = TypeVar("T")
EnterState = Callable[[State, object], None]
"""Called with each state that the job comes to, and what the phase before it has returned."""


class HasContext(Protocol):
    """Holds a job's means as all have agreed on them."""

    @property
    def context(self) -> AgreedContext:
        """With terms."""
        ...


Table = TypeVar("Table")
Rows = TypeVar("Rows")
Setup = TypeVar("Setup")
Result = TypeVar("Result", bound=HasContext)


class Role(Protocol[Table, Rows, Setup, Result]):
    """Does the work of a data party or a helper; each phase hands its result to the next."""

    working: State  # training or scoring

    async def prepare(self) -> Table:
        """Read what is needed; nothing of it has been sent when this returns."""
        ...

    async def align(self, table: Table, /) -> Rows:
        """Find out which rows all data parties have; the keys of the attempt are there."""
        ...

    async def set_up(self, rows: Rows, session: Session, /) -> Setup:
        """Fit what encodes the rows, agree on terms and on the secret order, and encode the rows."""
        ...

    async def run_steps(self, setup: Setup, /) -> Result:
        """Run all steps."""
        ...

    async def release(self, result: Result, /) -> None:
        """Open what the job says to whom it says; write this party's part to its hidden folder."""
        ...


async def run_phases(
    context: JobContext, role: Role[Table, Rows, Setup, Result], profile: Profile | None, enter: EnterState
) -> None:
    """Take a job from received to released; `profile` is what may be told of this party's table.

    Raises:
        JobProblem: it cannot go on, and whose fault that is.
        Overdue: a deadline has passed.
    """
    stage = context.statistics.enter_stage
    stage("reading")
    accepted = await accept_job(context, profile)
    enter(State.ACCEPTED, accepted)
    table = await role.prepare()
    enter(State.READY, table)
    session = await _run_handshake(context, await _start(context, accepted))
    stage("alignment")
    context.audit.note_revelations("alignment")
    rows = await role.align(table)
    enter(State.ALIGNED, rows)
    stage("fitting")
    setup = await role.set_up(rows, session)
    enter(role.working, setup)
    stage(role.working)
    context.statistics.start_steps()
    result = await role.run_steps(setup)
    context.statistics.stop_steps()
    stage("release")
    context.audit.note_revelations("release", result.context.terms)
    await role.release(result)
    enter(State.RELEASED, result)
    await _await_releases(context)
    stage(None)


async def _start(context: JobContext, accepted: Accepted) -> int:
    """Wait until all are ready; return the protocol's version that all speak."""
    label, version = context.label, accepted.version
    if context.is_label_party:
        await context.mailbox.receive(Ready, context.others, context.deadline("ready"))
        context.audit.note_start(context.attempt, version)
        await context.mailbox.send(
            Start(attempt=context.attempt, version=version), context.others, context.deadline("start")
        )
        return version
    await context.mailbox.send(Ready(), [label], context.deadline("ready"))
    deadline = after_approval(context, accepted.approvers, "start")
    start = (await context.mailbox.receive(Start, [label], deadline))[label]
    if start.attempt != context.attempt:
        reason = f"{label} started attempt {start.attempt}, and {context.me} {context.attempt}"
        raise JobProblem("job.terms", label, reason)
    check_version(context, start.version)
    context.audit.note_start(context.attempt, start.version)
    return start.version


async def _run_handshake(context: JobContext, version: int) -> Session:
    present = context.description.parties  # without helpers that stand by
    parties = [HandshakeParty(m.name, m.role, parse_public(m.key)) for m in context.job.members if m.name in present]
    digest = _run_digest(context, version)
    state = HandshakeState(context.identity, context.me, parties, digest, context.attempt)
    deadline = context.deadline("handshake")
    await context.mailbox.send(state.hello(), context.others, deadline)
    for sender, hello in (await context.mailbox.receive(Handshake, context.others, deadline)).items():
        _or_blame(sender, state.receive, hello)
    await context.mailbox.send(state.transcript(), context.others, deadline)
    for sender, seen in (await context.mailbox.receive(Transcript, context.others, deadline)).items():
        _or_blame(sender, state.confirm, seen)
    try:
        session = Session(version, digest, state.secrets())
    except SmallOrderKey as error:
        raise JobProblem("handshake.key", error.party, str(error)) from None
    await context.mailbox.establish(SessionSeal(session.secrets, context.me))
    return session


def _run_digest(context: JobContext, version: int) -> bytes:
    members, described = [member.model_dump() for member in context.job.members], context.job.description.model_dump()
    return canonical_digest("tercet run", [context.job.id, context.job.run, members, described, version])


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


async def _await_releases(context: JobContext) -> None:
    # A party whose disk is full at the last moment still fails the job for all. In a prediction some have nothing left
    # to do, the helper from the beginning, while others still score their rows.
    deadline = context.deadline("release" if context.description.kind == "training" else "fit")
    await context.mailbox.send(Released(), context.others, deadline)
    await context.mailbox.receive(Released, context.others, deadline)
