"""Takes a job from received to done, the same at every party; roles do the rest.

Nothing here knows the mathematics or the transport. The label party leads: it collects, decides and says `start`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from tercet.agents.attempts.acceptance import accept_job, after_approval, check_version
from tercet.agents.attempts.terms import agree_on_terms
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.session.context import JobContext
from tercet.broker.sealing.handshake import HandshakeParty, HandshakeState, SmallOrderKey
from tercet.broker.sealing.identity import Forged, parse_public
from tercet.broker.sealing.seal import SessionSeal
from tercet.schemas.messages.kinds import (
    Handshake,
    Ready,
    Released,
    ScoringTerms,
    Sizes,
    Start,
    Transcript,
)

T = TypeVar("T")
EnterState = Callable[[State], None]


class Role(Protocol):
    """Does the work of a data party or a helper, in training or prediction."""

    working: State  # training or scoring
    scoring: ScoringTerms | None  # in prediction at a data party: what its part says of the model

    async def prepare(self) -> None:
        """Read what is needed; nothing of it has been sent when this returns."""
        ...

    async def align(self) -> None:
        """Find out which rows all data parties have; the keys of the attempt are there."""
        ...

    async def fit(self) -> Sizes | None:
        """Split the rows and fit what encodes them: what this party brings; None at the helper."""
        ...

    async def set_up(self) -> None:
        """Agree on the secret order, and encode the rows."""
        ...

    async def run_steps(self) -> None:
        """Run all steps."""
        ...

    async def release(self) -> Path | None:
        """Open what the job says to whom it says; the hidden folder with what this party gets."""
        ...

    def close(self) -> None:
        """Let go of files; the role is not used again."""
        ...


async def run_phases(context: JobContext, role: Role, enter: EnterState) -> Path | None:
    """Take a job from received to released; return the hidden folder of the result, if any.

    Raises:
        JobProblem: it cannot go on, and whose fault that is.
        Overdue: a deadline has passed.
    """
    stage = context.statistics.enter_stage
    stage("reading")
    await accept_job(context)
    enter(State.ACCEPTED)
    await role.prepare()
    enter(State.READY)
    await _start(context)
    await _run_handshake(context)
    stage("alignment")
    context.audit.note_revelations("alignment")
    await role.align()
    enter(State.ALIGNED)
    stage("fitting")
    await agree_on_terms(context, await role.fit(), role.scoring)
    context.audit.note_revelations(role.working, context.terms)
    await role.set_up()
    enter(role.working)
    stage(role.working)
    context.statistics.start_steps()
    await role.run_steps()
    context.statistics.stop_steps()
    stage("release")
    context.audit.note_revelations("release", context.terms)
    folder = await role.release()
    enter(State.RELEASED)
    await _await_releases(context)
    stage(None)
    return folder


async def _start(context: JobContext) -> None:
    label = context.description.label
    if context.is_label_party:
        await context.mailbox.receive(Ready, context.others, context.deadline("ready"))
        context.audit.note_start(context.attempt, context.version)
        start = Start(attempt=context.attempt, version=context.version)
        await context.mailbox.send(start, context.others, context.deadline("start"))
        return
    await context.mailbox.send(Ready(), [label], context.deadline("ready"))
    start = (await context.mailbox.receive(Start, [label], after_approval(context, "start")))[label]
    if start.attempt != context.attempt:
        reason = f"{label} started attempt {start.attempt}, and {context.me} {context.attempt}"
        raise JobProblem("job.terms", label, reason)
    check_version(context, start.version)
    context.version = start.version
    context.audit.note_start(context.attempt, context.version)


async def _run_handshake(context: JobContext) -> None:
    present = context.description.parties  # without helpers that stand by
    parties = [HandshakeParty(m.name, m.role, parse_public(m.key)) for m in context.job.members if m.name in present]
    state = HandshakeState(context.identity, context.me, parties, context.run_digest, context.attempt)
    deadline = context.deadline("handshake")
    await context.mailbox.send(state.hello(), context.others, deadline)
    for sender, hello in (await context.mailbox.receive(Handshake, context.others, deadline)).items():
        _or_blame(sender, state.receive, hello)
    await context.mailbox.send(state.transcript(), context.others, deadline)
    for sender, seen in (await context.mailbox.receive(Transcript, context.others, deadline)).items():
        _or_blame(sender, state.confirm, seen)
    try:
        context.secrets = state.secrets()
    except SmallOrderKey as error:
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


async def _await_releases(context: JobContext) -> None:
    # A party whose disk is full at the last moment still fails the job for all. In a prediction some have nothing left
    # to do, the helper from the beginning, while others still score their rows.
    deadline = context.deadline("release" if context.description.kind == "training" else "fit")
    await context.mailbox.send(Released(), context.others, deadline)
    await context.mailbox.receive(Released, context.others, deadline)
