"""Opens the mean loss of held-out rows after an epoch, where the helper sees no score.

What a batch is made of is in `mpc.blind.held_out`.
"""

from tercet.agents.protocol.row_files import mapped_rows, row_stores
from tercet.agents.protocol.script_driver import Kinds, ScriptDriver
from tercet.agents.protocol.shares import AnyShares
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.scoring.held_out_loss import open_mean_loss
from tercet.agents.session.agreed import TrainingContext
from tercet.mpc.blind.forward import BlindForward
from tercet.mpc.blind.held_out import BlindHeldOut
from tercet.mpc.blind.helper import BlindHelper
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.row_store import FirstUse
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order, derive_subkey
from tercet.mpc.scoring.held_out_loss import HeldOutNumbers, blind_steps
from tercet.schemas.messages.kinds import (
    HeldOutDealtShares,
    HeldOutHiddenOpening,
    HeldOutInputs,
    HeldOutLabels,
    HeldOutLossScores,
    HeldOutLossShare,
    HeldOutNarrowOpening,
    HeldOutScoreOpening,
    HeldOutWeightOpening,
    HeldOutWeights,
)

PURPOSE = "held-out loss"
KINDS: Kinds = {
    "masked inputs": HeldOutInputs,
    "masked weights": HeldOutWeights,
    "next weights": HeldOutWeights,
    "loss labels": HeldOutLabels,
    "dealt": HeldOutDealtShares,
    "score opening": HeldOutScoreOpening,
    "hidden opening": HeldOutHiddenOpening,
    "weight opening": HeldOutWeightOpening,
    "narrow opening": HeldOutNarrowOpening,
    "masked scores": HeldOutLossScores,
}


def _order(context: TrainingContext, rows: int) -> Order:
    return Order(derive_subkey(context.shape_digest, "order of a blind held-out loss"), rows)


def _steps(context: TrainingContext, rows: int, epoch: int, alpha: float) -> list[Step]:
    return blind_steps(context.plan, rows, scoring_batch(context.plan), epoch, alpha)


def _scripts(context: TrainingContext, steps: list[Step]) -> ScriptDriver:
    plan = context.plan
    return ScriptDriver(context, KINDS, BlindLayout(plan), max(step.rows for step in steps))


class HeldOutParty:
    """Plays a data party in the passes of a training.

    Args:
        context: The job at this party.
        rows: This party's features of the held-out rows, at least one.
        labels: At the label party those rows' centred labels with their offsets; elsewhere None.
    """

    def __init__(self, context: TrainingContext, rows: FeatureSource, labels: RowLabels | None) -> None:
        self._context, self._rows, plan = context, rows.shape[0], context.plan
        self._order, masks = _order(context, self._rows), context.masks(context.description.helper, PURPOSE)
        partners = {context.number(party): party for party in context.partners}
        stores = row_stores(context, "held-out", partners, self._rows)
        forward = BlindForward(
            context.number(context.me), plan, rows, order=self._order, helper_masks=masks, stores=stores
        )
        store = mapped_rows(context, "held-out-labels", self._rows, plan.loss_columns)
        bits = plan.loss_bits_of(self._rows)
        self._party = BlindHeldOut(
            forward, context.number(context.label), bits, labels, store=store, helper_masks=masks
        )

    async def loss(self, epoch: int, shares: AnyShares) -> float | None:
        """Run a pass; give the mean where this party may know it."""
        context, plan = self._context, self._context.plan
        steps = _steps(context, self._rows, epoch, await context.compute(plan.alpha_after, shares.step))
        await context.compute(self._order.permutation, epoch)  # sorting many rows takes long
        loss, scripts = self._party.begin_pass(steps), _scripts(context, steps)
        for step in steps:
            await scripts.run(self._party.run_step(step, loss, shares), step)
        numbers = HeldOutNumbers.of(plan, steps)
        return await open_mean_loss(context, HeldOutLossShare, loss.share(epoch), numbers, epoch)


class HeldOutDealer:
    """Plays the helper in the passes of a training over so many rows."""

    def __init__(self, context: TrainingContext, rows: int) -> None:
        self._context, self._rows, self._order = context, rows, _order(context, rows)
        names = dict(enumerate(context.description.data_parties))
        self._stores = row_stores(context, "held-out", names, rows)
        self._labels = mapped_rows(context, "held-out-labels", rows, context.plan.loss_columns)
        self._first = FirstUse(rows)

    async def deal(self, epoch: int, done: int) -> None:
        """Deal a pass, after so many steps of the training."""
        context, plan = self._context, self._context.plan
        steps = _steps(context, self._rows, epoch, await context.compute(plan.alpha_after, done))
        await context.compute(self._order.permutation, epoch)
        helper = BlindHelper(
            plan, context.number(context.label), context.data_party_masks(PURPOSE), order=self._order,
            stores=self._stores, labels=self._labels, first_use=self._first, trains=False,
        )  # fmt: skip
        scripts = _scripts(context, steps)
        for step in steps:
            await scripts.run(helper.deal_steps([step]), step)
