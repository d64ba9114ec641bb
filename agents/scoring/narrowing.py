"""Narrows the weights of a network that was trained blind, before rows are scored by it.

The helper deals, and receives nothing. What is sent is in `mpc.dealing.narrowing`.
"""

from tercet.agents.protocol.script_driver import Kinds, ScriptDriver
from tercet.agents.protocol.shares import AnyShares
from tercet.agents.session.agreed import TrainingContext
from tercet.mpc.dealing.narrowing import deal_narrowing, narrow
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.schedule import Step
from tercet.schemas.messages.kinds import NarrowingDealtShares, NarrowingOpening

NARROWING = "narrowing"  # the purpose of its masks
KINDS: Kinds = {"weight opening": NarrowingOpening, "dealt": NarrowingDealtShares}


async def narrow_shares(context: TrainingContext, shares: AnyShares, epoch: int) -> AnyShares:
    """Truncate upper weights as rows are scored by them, and as they are kept.

    A linear model has none.

    `epoch` is the address: the one before a pass, and the number of epochs for the model that is kept.
    """
    plan = context.plan
    if not (plan.is_blind and isinstance(shares, NetworkShares)):
        return shares
    step, masks = narrowing_step(epoch), context.masks(context.description.helper, NARROWING)
    scripts = ScriptDriver(context, KINDS, BlindLayout(plan), 1)
    return await scripts.run(narrow(context.number(context.me), plan, shares, masks, step), step)


async def deal_narrow_shares(context: TrainingContext, epoch: int) -> None:
    """Play the helper in a narrowing."""
    plan = context.plan
    if not plan.is_blind or plan.network is None:
        return
    step, scripts = narrowing_step(epoch), ScriptDriver(context, KINDS, BlindLayout(plan), 1)
    await scripts.run(deal_narrowing(plan, context.data_party_masks(NARROWING), step), step)


def narrowing_step(epoch: int) -> Step:
    """Make the address of a narrowing's masks."""
    return Step(0, epoch, 0, 0, 1, 1.0, 1.0, 1.0)
