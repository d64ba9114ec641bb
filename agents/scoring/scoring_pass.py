"""Runs one scoring pass by any kind of model: who takes part, under which masks.

Used for held-out rows and for prediction. The label party learns the scores, and nobody else anything.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

from tercet.agents.protocol.shares import AnyShares
from tercet.agents.protocol.weight_openings import open_for_pass
from tercet.agents.scoring.batches import AnyScorer, AnyScoringHelper, answer_batches, score_batches
from tercet.agents.session.agreed import AgreedContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.dealing.sizes import BlindNumbers
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.forward import SCORE_BITS
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.blind_network import BlindNetworkScorer, BlindNetworkScoringHelper
from tercet.mpc.scoring.linear import Scorer, ScoringHelper
from tercet.mpc.scoring.network import NetworkScorer, NetworkScoringHelper
from tercet.mpc.scoring.openings import Openings, PassMasks, WeightMasks


async def score_rows(
    context: AgreedContext,
    plan: BlindNumbers,
    rows: FeatureSource,
    shares: AnyShares,
    steps: Sequence[Step],
    *,
    key: bytes,
    purpose: str,
    noise: ScoreNoise | None,
    openings: Openings | None = None,
    limit: float = math.inf,
) -> Floats | None:
    """Play a data party; give the label party the scores (rows, outputs), in row order.

    Args:
        context: The job at this party.
        plan: The training's, or what of it was kept with the model.
        rows: This party's features.
        shares: Of one step and one history at all data parties.
        steps: `scoring_steps`, at least one, with alpha as it is with these shares.
        key: Of the secret order.
        purpose: Of the masks, not training's.
        noise: What this party adds to the scores, by `own_noise`.
        openings: Of the weights; None: they are opened for this pass.
        limit: That no score may go beyond, where the label party adds them up itself.

    Raises:
        JobProblem: a tensor of a wrong shape came.
    """
    me, label = context.number(context.me), context.number(context.label)
    order, alpha = Order(key, rows.shape[0], "scoring", context.noise_attempt), steps[0].alpha
    helper_masks, zero_masks = context.masks(context.description.helper, purpose), context.zero_masks(purpose)
    if openings is None:
        openings = await open_for_pass(context, plan, shares, PassMasks(helper_masks, steps[0]), steps[0].epoch)
    scorer: AnyScorer
    if not isinstance(shares, NetworkShares):
        scorer = Scorer(
            me, label, plan, rows, shares, alpha, order=order, helper_masks=helper_masks, zero_masks=zero_masks,
            weight_masks=openings.masks, noise=noise, limit=limit,
        )  # fmt: skip
    elif plan.is_blind:
        scorer = BlindNetworkScorer(
            me, label, plan, rows, shares=shares, alpha=alpha, order=order, helper_masks=helper_masks,
            zero_masks=zero_masks, noise=noise, limit=limit,
        )  # fmt: skip
    else:
        scorer = NetworkScorer(
            me, label, plan, rows, shares=shares, alpha=alpha, order=order,
            elements=Elements(key, "scoring", context.noise_attempt), helper_masks=helper_masks, zero_masks=zero_masks,
            weight_masks=openings.masks, noise=noise,
        )  # fmt: skip
    return await score_batches(context, scorer, order, steps, openings)


def own_noise(
    context: AgreedContext, private: bytes, purpose: str, *, blind_shares: AnyShares | None = None
) -> ScoreNoise | None:
    """Make this party's noise on the scores of a pass; the label party adds none.

    `private` is this party's own secret of the run. `blind_shares` are those of a model by which nobody but the label
    party sees a score, and so nobody rounds it: noise of half a unit of a rounded one does the same. After a fault its
    weights differ in the last bits; then the noise is another, or the difference of two scores would be bare.
    """
    least = 0.0
    if blind_shares is not None:
        least = 2.0 ** -(SCORE_BITS + 1)
        purpose = f"{purpose} by {hashlib.sha256(blind_shares.own.tobytes()).hexdigest()}"
    if context.is_label_party:
        return None
    return ScoreNoise(private, max(context.settings.policy.score_noise, least), purpose)


async def answer_pass(
    context: AgreedContext,
    plan: BlindNumbers,
    steps: Sequence[Step],
    *,
    purpose: str,
    limit: float,
    weight_masks: Mapping[int, WeightMasks] | None = None,
    first: str = "step",
) -> None:
    """Play the helper in one pass.

    Args:
        context: The job at the helper.
        plan: The training's, or what of it is known in a prediction.
        steps: As the data parties have them.
        purpose: Of the masks, not training's.
        limit: That no score may go beyond.
        weight_masks: Of the weights, by data party; None: they are opened for this pass.
        first: The deadline of the first batch, before which rows may have to be encoded.

    Raises:
        JobProblem: a score left the range, or a share has a wrong shape.
    """
    masks = context.data_party_masks(purpose)
    if weight_masks is None:
        weight_masks = {number: PassMasks(one, steps[0]) for number, one in masks.items()}
    label = context.number(context.label)
    helper: AnyScoringHelper
    if plan.network is None:
        helper = ScoringHelper(plan, label, masks, weight_masks, limit)
    elif plan.is_blind:
        helper = BlindNetworkScoringHelper(plan, masks, weight_masks)
    else:
        helper = NetworkScoringHelper(plan, label, masks, weight_masks, limit)
    await answer_batches(context, helper, steps, first)
