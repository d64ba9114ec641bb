"""Holds what earlier attempts or an earlier model have left, and makes first weights."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

from tercet.agents.protocol.shares import AnyShares, shares_from_checkpoint
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.checkpoint_store import Checkpoint
from tercet.agents.training.epoch_evaluation import LOSS, strip_prefix
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear import shares as linear
from tercet.mpc.network import start as network
from tercet.mpc.plan.plan import Plan

MODEL, DIGEST = "model/", "digest/"  # in a checkpoint


class EarlierTraining(NamedTuple):
    """Holds what this party has of earlier attempts.

    Attributes:
        shares: of the model as it was then, or of the model that the training begins at.
        loss: this party's share of an unfinished epoch's loss.
        digests: what this party and each other one have found of the helper's dealing.
    """

    shares: AnyShares | None = None
    loss: Words | None = None
    digests: Mapping[int, bytes] | None = None

    @classmethod
    def read(cls, context: TrainingContext, checkpoint: Checkpoint) -> Self:
        """Read a checkpoint."""
        arrays = checkpoint.arrays
        shares = shares_from_checkpoint(context, strip_prefix(arrays, MODEL), checkpoint.held.steps)
        digests = {context.number(party): words.tobytes() for party, words in strip_prefix(arrays, DIGEST).items()}
        return cls(shares, arrays.get(LOSS), digests or None)


def first_shares(me: int, plan: Plan, draw: Callable[[], bytes]) -> AnyShares:
    """Make this party's first shares; `draw` gives the seed of a network's weights."""
    return linear.first_shares(me, plan) if plan.network is None else network.first_shares(me, plan, draw())
