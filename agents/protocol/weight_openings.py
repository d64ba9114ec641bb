"""Opens weights once under masks, keeps them with a model, and reads them for predictions.

Nothing here is opened bare. What a helper is given of a model's masks is a seed, which it must find to be the one that
the training's helper has committed to: by another one a party could shift a partner's scores by that partner's columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import Deadline
from tercet.agents.models.manifest import OPENED, OPENED_UPPER, SEED, Arrays, ModelPart
from tercet.agents.protocol.shares import AnyShares
from tercet.agents.session.agreed import AgreedContext, TrainingContext
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout, NetworkForward
from tercet.mpc.scoring.openings import (
    ModelMasks,
    Openings,
    WeightMasks,
    commitment,
    masked_blocks,
    masked_upper,
    model_seed,
)
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.kinds import (
    HeldOutWeightOpening,
    HeldOutWeights,
    ModelCommitments,
    ModelOpening,
    ModelUpperOpening,
    ScoreBound,
    ScoringTerms,
    ScoringWeightOpening,
    ScoringWeights,
    WeightMaskSeed,
)

Blocks = type[ScoringWeights] | type[HeldOutWeights] | type[ModelOpening]
Uppers = type[ScoringWeightOpening] | type[HeldOutWeightOpening] | type[ModelUpperOpening]

PURPOSE = "model"
LITTLE_ENDIAN = np.dtype("<u8")


@dataclass(frozen=True, slots=True)
class ModelOpenings:
    """Holds a data party's opened weights and bounds for predictions, beside its shares.

    Attributes:
        exponent: no score of a row may be beyond two to this.
        commitments: to the seed of each data party, in the job's order.
        seed: of this party's masks of weights.
        openings: what the others have opened to it; None where no prediction needs the helper.
    """

    exponent: int
    commitments: tuple[bytes, ...]
    seed: bytes = field(repr=False)
    openings: Openings | None

    def arrays(self, context: JobContext) -> Arrays:
        """Make the arrays that a model part keeps."""
        if self.openings is None:
            return {}
        parties, upper = context.description.data_parties, self.openings.upper
        blocks: Arrays = {f"{OPENED}{parties[i]}": words for i, words in self.openings.blocks.items()}
        seed = np.frombuffer(self.seed, LITTLE_ENDIAN).astype(np.uint64)[np.newaxis]
        return {SEED: seed, **blocks, **({} if upper is None else {OPENED_UPPER: upper})}


def needs_helper(job: TrainingJob) -> bool:
    """Tell whether predictions need the helper; else each party scores its own columns."""
    return job.release != "owners" or job.network is not None


# --- in a training, when the last step is done


def make_commitments(context: AgreedContext, exponent: int) -> ModelCommitments:
    """Make the helper's message about a model: score bound and commitments."""
    masks = context.data_party_masks(PURPOSE)
    return ModelCommitments(exponent=exponent, seeds=tuple(commitment(model_seed(one)) for one in masks.values()))


def model_masks(context: AgreedContext) -> dict[int, WeightMasks]:
    """Make the masks of the model's weights at the training's helper, by data party."""
    parties = context.description.data_parties
    return {number: ModelMasks(model_seed(one), parties) for number, one in context.data_party_masks(PURPOSE).items()}


async def receive_bound(context: JobContext) -> int:
    """Receive the score bound of an earlier attempt, at a helper without a step left.

    The least that any of them says, so that none can loosen it.
    """
    parties = context.description.data_parties
    letters = await context.mailbox.receive(ScoreBound, parties, context.deadline("step"))
    return min(letter.exponent for letter in letters.values())


async def receive_commitments(context: AgreedContext, known: int | None) -> ModelCommitments:
    """Receive the helper's commitments; `known` is the score bound of an earlier attempt.

    Raises:
        JobProblem: it has committed to another seed than this party has with it.
    """
    helper, deadline = context.description.helper, context.deadline("step")
    if known is not None:
        await context.mailbox.send(ScoreBound(exponent=known), [helper], deadline)
    found = (await context.mailbox.receive(ModelCommitments, [helper], deadline))[helper]
    if len(found.seeds) != len(context.description.data_parties) or (
        found.seeds[context.number(context.me)] != commitment(_seed(context))
    ):
        reason = f"{helper} has committed to other masks of weights than {context.me} has; do both run one version?"
        raise JobProblem("model.openings", helper, reason)
    return found


async def open_model(context: TrainingContext, shares: AnyShares, commitments: ModelCommitments) -> ModelOpenings:
    """Open the chosen model's weights under masks, once for all its predictions."""
    seed, openings = _seed(context), None
    if needs_helper(context.description):
        models = ModelOpening, ModelUpperOpening
        openings = await _exchange(
            context, context.plan, shares, ModelMasks(seed, context.description.data_parties), models
        )
    return ModelOpenings(commitments.exponent, commitments.seeds, seed, openings)


def _seed(context: AgreedContext) -> bytes:
    return model_seed(context.masks(context.description.helper, PURPOSE))


# --- in one pass over held-out rows


async def open_for_pass(  # noqa: PLR0917
    context: JobContext,
    plan: NetworkForward,
    shares: AnyShares,
    masks: WeightMasks,
    epoch: int,
    models: tuple[Blocks, Uppers] = (ScoringWeights, ScoringWeightOpening),
) -> Openings:
    """Open weights for one pass only, by messages of these kinds."""
    return await _exchange(context, plan, shares, masks, models, epoch=epoch)


async def _exchange(
    context: JobContext,
    plan: NetworkForward,
    shares: AnyShares,
    masks: WeightMasks,
    models: tuple[Blocks, Uppers],
    *,
    epoch: int = 0,
) -> Openings:
    mail, me, deadline = context.mailbox, context.number(context.me), context.deadline("step")
    mine = await context.compute(masked_blocks, me, shares.partners, masks)
    for partner in context.partners:
        await mail.send(models[0](words=mine[context.number(partner)]), [partner], deadline, epoch=epoch)
    upper = None
    if isinstance(shares, NetworkShares):
        upper = await context.compute(masked_upper, me, Layout(plan), shares.upper, masks)
        await mail.send(models[1](words=upper), context.partners, deadline, epoch=epoch)
        theirs = await _receive_words(context, models[1], upper.shape, deadline, epoch)
        upper = total([upper, *theirs.values()])
    blocks = await _receive_words(context, models[0], shares.own.shape, deadline, epoch)
    return Openings(masks, blocks, upper)


async def _receive_words(
    context: JobContext, model: Blocks | Uppers, shape: tuple[int, ...], deadline: Deadline, epoch: int
) -> dict[int, Words]:
    rows, columns = shape
    letters = await context.mailbox.receive(model, context.partners, deadline, epoch=epoch)
    found = context.mailbox.checked_words(letters, lambda _: (rows, columns))
    return {context.number(party): words for party, words in found.items()}


# --- in a prediction


def openings_from_part(context: JobContext, part: ModelPart, arrays: Mapping[str, NDArray[Any]]) -> Openings:
    """Read the openings of a model part."""
    blocks = {context.number(party): arrays[f"{OPENED}{party}"] for party in part.parties if party != context.me}
    return Openings(
        ModelMasks(_seed_from_part(arrays), context.description.data_parties), blocks, arrays.get(OPENED_UPPER)
    )


def commitments_of(context: JobContext, part: ModelPart) -> tuple[bytes, ...]:
    """List commitments to each data party's seed, in job order; none if the part has none."""
    seeds = dict(zip(part.parties, map(bytes.fromhex, part.seeds), strict=False))
    return tuple(seeds[party] for party in context.description.data_parties) if seeds else ()


async def send_seed(context: JobContext, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Send the helper of this prediction the seed of this party's masks of weights."""
    message = WeightMaskSeed(secret=_seed_from_part(arrays))
    await context.mailbox.send(message, [context.description.helper], context.deadline("step"))


def _seed_from_part(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    seed: bytes = arrays[SEED].astype(LITTLE_ENDIAN).tobytes()
    return seed


async def receive_seeds(context: JobContext, scoring: ScoringTerms) -> dict[int, WeightMasks]:
    """Receive each data party's masks of weights, at the helper of a prediction.

    Raises:
        JobProblem: a party's seed is not the one that the parts of the model name.
    """
    parties = context.description.data_parties
    if len(scoring.seeds) != len(parties):
        raise JobProblem("job.terms", context.label, f"{context.label} announced terms without every party's seed")
    letters = await context.mailbox.receive(WeightMaskSeed, parties, context.deadline("fit"))
    masks: dict[int, WeightMasks] = {}
    for number, party in enumerate(parties):
        if commitment(letters[party].secret) != scoring.seeds[number]:
            raise JobProblem(
                "model.openings",
                party,
                f"{party} uses other masks of weights than the model was trained with, by which it could read a "
                f"partner's columns from scores; nothing was scored. Ask {party} why, and let it restore its part of "
                f"the model from a copy",
            )
        masks[number] = ModelMasks(letters[party].secret, parties)
    return masks
