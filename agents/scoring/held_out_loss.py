"""Opens the mean loss of held-out rows after an epoch, and nothing else.

Nobody learns a score; the number goes to whom the job names. What a batch is made of is in `mpc.scoring.held_out_loss`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tercet.agents.protocol.script_driver import Kinds, ScriptDriver
from tercet.agents.protocol.shares import AnyShares
from tercet.agents.protocol.weight_openings import open_for_pass
from tercet.agents.scoring.batches import range_problem, scoring_batch
from tercet.agents.session.agreed import TrainingContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Script
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.linear.loss import LossNumbers, opened_loss
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.held_out_loss import HeldOutLossHelper, HeldOutLossParty
from tercet.mpc.scoring.linear import NOBODY, Scorer, scoring_steps
from tercet.mpc.scoring.network import NetworkScorer
from tercet.mpc.scoring.openings import Openings, PassMasks
from tercet.schemas.messages.kinds import (
    HeldOutDealtShares,
    HeldOutHiddenAnswer,
    HeldOutHiddenShare,
    HeldOutInputs,
    HeldOutLabels,
    HeldOutLossShare,
    HeldOutMaskOpenings,
    HeldOutShare,
    HeldOutTerms,
    HeldOutWeightOpening,
    HeldOutWeights,
    LossShare,
)
from tercet.schemas.messages.tensor import Words

PURPOSE: Final = "held-out loss"  # of masks, and of the secret order

KINDS: Kinds = {
    "masked inputs": HeldOutInputs,
    "mask openings": HeldOutMaskOpenings,
    "dealt": HeldOutDealtShares,
    "hidden share": HeldOutHiddenShare,
    "hidden answer": HeldOutHiddenAnswer,
    "output share": HeldOutShare,
    "loss labels": HeldOutLabels,
    "loss terms": HeldOutTerms,
}


async def held_out_loss(
    context: TrainingContext, rows: FeatureSource, labels: Floats | None, shares: AnyShares, *, key: bytes, epoch: int
) -> float | None:
    """Play a data party in an epoch's held-out loss; give the mean where it may know it.

    Args:
        context: The job at this party.
        rows: This party's features of the held-out rows, at least one.
        labels: At the label party those rows' centred labels, (rows, outputs); elsewhere None.
        shares: As they are after the epoch.
        key: Of the secret order.
        epoch: By which the addresses of messages and masks go.

    Raises:
        JobProblem: a tensor of a wrong shape came.
    """
    plan, count = context.plan, rows.shape[0]
    alpha = await context.compute(plan.alpha_after, shares.step)
    steps = _steps(plan, count, epoch, alpha)
    order = Order(key, count, PURPOSE, context.noise_attempt)
    await context.compute(order.permutation, epoch)  # sorting many rows takes long
    helper_masks = context.masks(context.description.helper, PURPOSE)
    kinds = HeldOutWeights, HeldOutWeightOpening
    openings = await open_for_pass(context, plan, shares, PassMasks(helper_masks, steps[0]), epoch, kinds)
    scorer = _scorer(context, rows, shares, alpha, openings=openings, order=order, key=key)
    party = HeldOutLossParty(
        context.number(context.me), context.number(context.label), plan, labels, scorer=scorer, openings=openings,
        steps=steps, order=order, helper_masks=helper_masks,
    )  # fmt: skip
    scripts = _scripts(context, steps)
    async with asyncio.TaskGroup() as loops:
        for script in (party.score_batch, party.add_loss):
            loops.create_task(_run_steps(scripts, script, steps))
    return await open_mean_loss(context, HeldOutLossShare, party.share(), party.numbers, epoch)


async def answer_held_out_loss(context: TrainingContext, rows: int, *, epoch: int, done: int) -> None:
    """Play the helper in the loss of so many rows, after so many steps.

    Raises:
        JobProblem: a score left the range, or a share has a wrong shape.
    """
    plan = context.plan
    steps = _steps(plan, rows, epoch, await context.compute(plan.alpha_after, done))
    masks = context.data_party_masks(PURPOSE)
    weight_masks = {number: PassMasks(one, steps[0]) for number, one in masks.items()}
    helper = HeldOutLossHelper(plan, context.number(context.label), masks, weight_masks, steps)
    scripts = _scripts(context, steps)
    try:
        await _run_steps(scripts, helper.script, steps)
    except Diverged as diverged:
        raise range_problem(context, diverged) from None


async def open_mean_loss(
    context: TrainingContext, model: type[LossShare | HeldOutLossShare], share: Words, numbers: LossNumbers, epoch: int
) -> float | None:
    """Send this party's share of a loss; give the mean where this party may know it."""
    deadline, everybody = context.deadline("step"), context.description.evaluation.loss_to == "all"
    knowing = context.description.data_parties if everybody else (context.label,)
    receivers = [party for party in knowing if party != context.me]
    await context.mailbox.send(model(words=share), receivers, deadline, epoch=epoch)
    if context.me not in knowing:
        return None
    letters = await context.mailbox.receive(model, context.partners, deadline, epoch=epoch)
    others = context.mailbox.checked_words(letters, lambda _: (1, 1)).values()
    return opened_loss([share, *others], numbers)


async def _run_steps(scripts: ScriptDriver, script: Callable[[Step], Script[None]], steps: Sequence[Step]) -> None:
    for step in steps:
        await scripts.run(script(step), step)


def _scripts(context: TrainingContext, steps: Sequence[Step]) -> ScriptDriver:
    return ScriptDriver(context, KINDS, Layout(context.plan), max(step.rows for step in steps))


def _steps(plan: Plan, rows: int, epoch: int, alpha: float) -> list[Step]:
    return list(scoring_steps(rows, scoring_batch(plan), epoch, alpha))


def _scorer(
    context: TrainingContext,
    rows: FeatureSource,
    shares: AnyShares,
    alpha: float,
    *,
    openings: Openings,
    order: Order,
    key: bytes,
) -> Scorer | NetworkScorer:
    me, plan, zero_masks = context.number(context.me), context.plan, context.zero_masks(PURPOSE)
    helper_masks = context.masks(context.description.helper, PURPOSE)
    if isinstance(shares, NetworkShares):
        return NetworkScorer(
            me, NOBODY, plan, rows, shares=shares, alpha=alpha, order=order,
            elements=Elements(key, PURPOSE, context.noise_attempt), helper_masks=helper_masks, zero_masks=zero_masks,
            weight_masks=openings.masks,
        )  # fmt: skip
    return Scorer(
        me, NOBODY, plan, rows, shares, alpha, order=order, helper_masks=helper_masks, zero_masks=zero_masks,
        weight_masks=openings.masks,
    )  # fmt: skip
