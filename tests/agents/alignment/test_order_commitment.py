"""Nobody chooses the split and the order: a contribution is fixed before its sender can know any other one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.alignment import aligned_table
from tercet.agents.alignment.aligned_table import Contributions
from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.mailbox import Mailbox
from tercet.agents.session.context import JobContext, system_randomness
from tercet.agents.session.fixed_randomness import Draws
from tercet.mpc.randomness import secret_order
from tercet.schemas.messages.kinds import Message, OrderCommitment, OrderContribution
from tests.agents.recovering import long_job, recovering
from tests.agents.scenes import BANK, CARD, NOTARY, nothing_left, off, scene, three
from tests.agents.scenes import job as job_of

M = TypeVar("M", bound=Message)
ROWS = b"r" * 32
HONEST = aligned_table._contribute


async def chooses(context: JobContext, draws: Draws) -> Contributions:
    """The last sender's way: it waits for what the others open, and picks its own of many then."""
    mailbox, partners, deadline = context.mailbox, context.partners, context.deadline("alignment")
    bound = secret_order.commitment(context.job.run, context.me, draws())
    await mailbox.send(OrderCommitment(commitment=bound), partners, deadline)
    await mailbox.receive(OrderCommitment, partners, deadline)
    opened = await mailbox.receive(OrderContribution, partners, deadline)
    others = {party: message.secret for party, message in opened.items()}
    mine = max(
        (system_randomness() for _ in range(64)),
        key=lambda one: secret_order.alignment_key(ROWS, {context.me: one, **others}),
    )
    await mailbox.send(OrderContribution(secret=mine), partners, deadline)
    return Contributions({context.me: mine, **others}, bytes(32))


def at(party: str, other: Callable[[JobContext, Draws], Any]) -> Callable[[JobContext, Draws], Any]:
    """One party deviates, the others go by the protocol."""
    return lambda context, draws: (other if context.me == party else HONEST)(context, draws)


async def test_a_party_that_picks_its_contribution_after_the_others_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name, at every party, before an id is matched."""
    monkeypatch.setattr(aligned_table, "_contribute", at(CARD, chooses))
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job_of())
        assert "had committed to" in off(ended, "order.commitment", CARD)
        nothing_left(stage)


async def withdraws(context: JobContext, draws: Draws) -> Contributions:
    """Sees what the others open, and has its agent end before it opens its own; then it would choose another."""
    mailbox, partners, deadline = context.mailbox, context.partners, context.deadline("alignment")
    if context.attempt > 1:
        draws._change(draws=(system_randomness(),))
        return await HONEST(context, draws)
    bound = secret_order.commitment(context.job.run, context.me, draws())
    await mailbox.send(OrderCommitment(commitment=bound), partners, deadline)
    await mailbox.receive(OrderContribution, partners, deadline)
    raise JobProblem("agent.stopped", context.me, "as it would say of itself")


async def test_a_party_that_withdraws_once_it_has_seen_the_others_cannot_choose_in_a_later_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had committed to counts for all attempts of the run."""
    monkeypatch.setattr(aligned_table, "_contribute", at(CARD, withdraws))
    async with recovering(tmp_path) as stage:
        stage.draws = lambda _: system_randomness
        await stage.start()
        name = stage.submit(long_job())
        off(await stage.ended(name), "table.changed", CARD)
        assert stage.runs[BANK, name].attempts.number == 2


async def test_nobody_opens_before_everybody_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to one partner nor to another; what is received is on the disk by then."""
    held: dict[str, set[str]] = {}
    remember, send = aligned_table._note_commitment, Mailbox.send

    def spy(context: JobContext, draws: Draws, party: str, commitment: bytes) -> None:
        remember(context, draws, party, commitment)
        stored = context.randomness._read()
        assert stored is not None
        assert stored.partners[party] == commitment
        held.setdefault(context.me, set()).add(party)

    async def watched(self: Mailbox, message: Message, to: Sequence[str], *more: Any, **named: Any) -> None:
        if isinstance(message, OrderContribution):
            me = self._template.sender
            assert held[me] == {BANK, CARD} - {me}
        await send(self, message, to, *more, **named)

    monkeypatch.setattr(aligned_table, "_note_commitment", spy)
    monkeypatch.setattr(Mailbox, "send", watched)
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job_of())
        assert {status.state for status in ended.values()} == {"done"}
    assert held == {BANK: {CARD}, CARD: {BANK}}
    assert NOTARY not in held


@given(st.binary(min_size=32, max_size=32), st.sampled_from("ab"), st.binary(min_size=32, max_size=32))
def test_a_commitment_is_its_runs_its_partys_and_its_contributions(run: bytes, name: str, secret: bytes) -> None:
    """One that is copied from another party, or from an earlier run, opens nothing."""
    bound = secret_order.commitment(run, name, secret)
    assert len(bound) == 32
    assert bound == secret_order.commitment(run, name, secret)
    other = bytes([secret[0] ^ 1]) + secret[1:]
    assert bound != secret_order.commitment(run, name, other)
    assert bound != secret_order.commitment(run, name + "c", secret)
    assert bound != secret_order.commitment(bytes([run[0] ^ 1]) + run[1:], name, secret)
