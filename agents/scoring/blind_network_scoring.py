"""Scores rows by a network that was trained blind, and narrows its weights before that.

The helper deals, and receives nothing. What a batch is made of is in `mpc.scoring.blind_network`.
"""

from collections.abc import Sequence

import numpy as np

from tercet.agents.protocol.script_driver import Kinds, ScriptDriver
from tercet.agents.protocol.shares import AnyShares
from tercet.agents.scoring.linear_scoring import note_scored_step, range_problem
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.dealing.narrowing import deal_narrowing, narrow
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.blind_network import BlindNetworkScorer, BlindNetworkScoringHelper
from tercet.mpc.scoring.openings import Openings
from tercet.schemas.messages.kinds import (
    MaskedScores,
    NarrowingDealtShares,
    NarrowingOpening,
    ScoringDealtShares,
    ScoringHiddenOpening,
    ScoringInputs,
    ScoringScoreOpening,
)

NARROWING = "narrowing"  # the purpose of its masks
KINDS: Kinds = {
    "masked inputs": ScoringInputs,
    "dealt": ScoringDealtShares,
    "score opening": ScoringScoreOpening,
    "hidden opening": ScoringHiddenOpening,
    "masked scores": MaskedScores,
}
NARROWING_KINDS: Kinds = {"weight opening": NarrowingOpening, "dealt": NarrowingDealtShares}


async def narrow_shares(context: JobContext, shares: AnyShares, epoch: int) -> AnyShares:
    """Truncate upper weights as rows are scored by them, and as they are kept.

    A linear model has none.

    `epoch` is the address: the one before a pass, and the number of epochs for the model that is kept.
    """
    plan = context.ready_plan
    if not (plan.is_blind and isinstance(shares, NetworkShares)):
        return shares
    step, masks = narrowing_step(epoch), context.masks(context.description.helper, NARROWING)
    scripts = ScriptDriver(context, NARROWING_KINDS, BlindLayout(plan), 1)
    return await scripts.run(narrow(context.number(context.me), plan, shares, masks, step), step)


async def deal_narrow_shares(context: JobContext, epoch: int) -> None:
    """Play the helper in a narrowing."""
    plan = context.ready_plan
    if not plan.is_blind or plan.network is None:
        return
    step, scripts = narrowing_step(epoch), ScriptDriver(context, NARROWING_KINDS, BlindLayout(plan), 1)
    await scripts.run(deal_narrowing(plan, context.data_party_masks(NARROWING), step), step)


def narrowing_step(epoch: int) -> Step:
    """Make the address of a narrowing's masks."""
    return Step(0, epoch, 0, 0, 1, 1.0, 1.0, 1.0)


async def score_blind_network(
    context: JobContext, scorer: BlindNetworkScorer, order: Order, steps: Sequence[Step], openings: Openings
) -> Floats | None:
    """Score some rows; give the label party the scores (rows, outputs), in row order.

    Raises:
        JobProblem: a tensor of a wrong shape came, or a score is beyond the limit.
    """
    scripts = ScriptDriver(context, KINDS, scorer.layout, max(step.rows for step in steps))
    await context.compute(order.permutation, steps[0].epoch)  # sorting many rows takes long
    scores = np.empty((steps[-1].stop, scorer.layout.widths[-1]))
    for step in steps:
        try:
            found = await scripts.run(scorer.script(step, openings), step)
        except Diverged as diverged:
            raise range_problem(context, diverged) from None
        if found is not None:
            scores[order.rows(step)] = found
        note_scored_step(context, step)
    return scores if context.is_label_party else None


async def deal_blind_scores(
    context: JobContext, helper: BlindNetworkScoringHelper, steps: Sequence[Step], first: str = "step"
) -> None:
    """Play the helper in one pass; `first` names the first batch's deadline."""
    scripts = ScriptDriver(context, KINDS, helper.layout, max(step.rows for step in steps))
    for step in steps:
        await scripts.run(helper.script(step), step, context.deadline(first if step.index == 0 else "step"))
        note_scored_step(context, step)
