"""Scores rows by a network that stays shared, by the forward pass of training.

The shares do not change.

A data party sees only words that are masked or shared. The helper sees what it sees of a forward pass in
training. The label party learns the scores to SCORE_BITS fractional bits; nobody else learns anything. Where
there are classes, all scores of a row are less that of one class: a common part says nothing.

The shares do not change, so f_ij and G_j are opened once, before the first batch (`openings`), with classes in their
own order. What is made of G and of the dealt [q g] is brought into a batch's secret order where it is used.
"""

import math
from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import ShapeProblem, Words, expect, total
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, received_words
from tercet.mpc.network.forward import ForwardParty, NetworkShares
from tercet.mpc.network.forward_helper import ForwardHelper
from tercet.mpc.plan.architecture import CARRIER, NetworkForward, Tensors, flat, pack, unpack
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.openings import Openings, WeightMasks
from tercet.mpc.scoring.scores import check_scores, decode_scores, encode_scores, without_noise


class NetworkScorer(ForwardParty):
    """Acts as data party `me` in one pass; `label` is the index of the label party.

    Not to be shared by threads.

    For each of `scoring.scoring_steps`, in order: `run_step`, and then at the label party `collect`.

    Args:
        me, plan, order, elements, helper_masks, zero_masks: As `ForwardParty` has them, of a purpose of their own.
        label: The label party's index, or `scoring.NOBODY` where no party may learn a score.
        rows: This party's features of the rows to score.
        shares: Of one step and one history at all data parties.
        alpha: What the weights are multiplied by at that step.
        weight_masks: Shared with the helper, of weights that are opened once.
        noise: What this party adds to the scores; nothing if None.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: NetworkForward,
        rows: FeatureSource,
        *,
        shares: NetworkShares,
        alpha: float,
        order: Order,
        elements: Elements,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        weight_masks: WeightMasks,
        noise: ScoreNoise | None = None,
    ) -> None:
        super().__init__(
            me, plan, rows, order=order, elements=elements, helper_masks=helper_masks, zero_masks=zero_masks
        )
        if rows.shape[1] != plan.columns[me]:
            raise ShapeProblem(f"features: expected {plan.columns[me]} columns, got {rows.shape[1]}")
        self._label, self._shares, self._alpha, self._noise = label, shares, alpha, noise
        self._weight_masks = weight_masks
        self._turns = Turns(0)

    def block_mask(self, name: str, i: int, step: Step, shape: tuple[int, int]) -> Words:  # noqa: ARG002
        """Return this party's v_i, which is the same at all steps."""
        return self._weight_masks(name, i, self.me, shape)

    def run_step(self, step: Step, openings: Openings) -> Script[None]:
        """Compute this party's share of a batch's scores."""
        self._turns.begin_step("script", step)
        layout, others = self.layout, tuple(self.others)
        inputs, masks = self.masked_inputs(step)
        yield Send("masked inputs", 0, others, inputs, (("mask openings", masks),))
        theirs = received_words(
            (yield Receive("masked inputs", 0, {i: (step.rows, layout.columns[i]) for i in others}))
        )
        self.absorb(
            step, theirs, received_words((yield Receive("mask openings", 0, dict.fromkeys(others, masks.shape))))
        )
        dealt = layout.dealt_forward(step.rows)
        if self.me == CARRIER:
            words = received_words((yield Receive("dealt", 0, {HELPER: flat(dealt)})))[HELPER]
            self.state(step).dealt = self._ordered(step, "qg", unpack(dealt, words, "what the helper dealt"))
        else:
            self.state(step).dealt = self._ordered(step, "qg", self.dealt_streams(step, dealt))
        assert openings.upper is not None
        opened = unpack(layout.weights("G"), openings.upper, "opened weights")
        self.state(step).weights |= self._ordered(step, "G", opened)
        yield from self.run_forward(step, self._shares, openings.blocks, training=False)
        if self.me != self._label:
            del self._states[step.index]

    def collect(self, step: Step) -> Script[Floats]:
        """Take in a batch's scores at the label party.

        (rows of the batch, outputs), in the order of `Order.rows(step)`.
        """
        shape = (step.rows, self.layout.outputs)
        return self.open_scores(step, received_words((yield Receive("scores", 0, {HELPER: shape})))[HELPER])

    def output_share(self, step: Step, z: Words) -> Words:
        """Make the output's share as the helper gets it, with this party's own noise."""
        if self._noise is not None:
            z += self._noise.words(step, self.layout.outputs, self._alpha, self.plan.fz)
        return super().output_share(step, z)

    def _ordered(self, step: Step, name: str, tensors: Tensors) -> Tensors:
        """Put the classes of the last layer's tensor into this step's secret order."""
        last = (name, self.layout.last)
        return {**tensors, last: self.in_secret_order(step, self.layout.last, tensors[last])}

    def open_scores(self, step: Step, words: Words) -> Floats:
        """Decode the batch's scores at the label party, (rows of the batch, outputs).

        They are in the order of `Order.rows(step)`.

        Raises:
            ShapeProblem: naming the helper, if its words have the wrong shape.
        """
        words = expect(words, (step.rows, self.layout.outputs), "the helper's scores")
        if self.me != self._label:
            raise OutOfTurn("only the label party learns scores")
        state = self.state(step)
        self._turns.begin_step("scores", step)
        del self._states[step.index]
        noise = self.order.noise(step, noise_width(self.plan, self._alpha), self.layout.outputs)
        if self.layout.outputs > 1:
            noise = noise - noise[:, :1]
        words = without_noise(words, noise, self.plan.fz)
        return self._alpha * decode_scores((state.signs * words)[:, np.argsort(state.classes)])


class NetworkScoringHelper(ForwardHelper):
    """The helper in one pass over some rows. Not to be shared by threads.

    For each of `scoring.scoring_steps`, in order, the scripts `deal_step`, which may run ahead, and `run_online`.

    Args:
        plan: With a network; the plan of the training, or what of it was kept with the model.
        label: The label party's index.
        masks: Shared with each data party, by its index, of the purpose that the data parties use.
        weight_masks: Likewise, of weights that are opened once.
        limit: No score may be beyond it, by whichever sign.
    """

    def __init__(
        self,
        plan: NetworkForward,
        label: int,
        masks: Mapping[int, Masks],
        weight_masks: Mapping[int, WeightMasks],
        limit: float = math.inf,
    ) -> None:
        super().__init__(plan, masks)
        self._label, self._weight_masks, self._limit = label, weight_masks, limit
        self._turns = Turns(0)

    def upper_mask(self, k: int, step: Step) -> Words:  # noqa: ARG002
        """Return g, which is the same at all steps."""
        return total(self._weight_masks[j](f"g/{k}", j, j, self.layout.upper(k)) for j in self.parties)

    def block_masks(self, name: str, i: int, step: Step, shape: tuple[int, int]) -> list[Words]:  # noqa: ARG002
        """Return v_ij of every other data party j, likewise."""
        return [self._weight_masks[j](name, i, j, shape) for j in self.parties if j != i]

    def deal_step(self, step: Step) -> Script[None]:
        """Deal for a batch."""
        self._turns.begin_step("deal", step)
        entries = self.layout.dealt_forward(step.rows)
        values = self.deal_forward(step, self.masks_below(step), slopes=False)
        yield Send("dealt", 0, (CARRIER,), pack(entries, self.explicit(entries, values, step)))

    def run_online(self, step: Step) -> Script[None]:
        """Answer a batch with its scores.

        Raises: as `receive_scores`.
        """
        z = yield from self.receive_scores(step)
        yield Send("scores", 0, (self._label,), encode_scores(decode(z, self.plan.fz)))

    def receive_scores(self, step: Step) -> Script[Words]:
        """Answer a batch up to z, (rows of the batch, outputs), in the helper's view.

        f_z fractional bits.

        Raises:
            Diverged: a value is outside the safe half of the words, or a score beyond the limit. Of a row so unlike
                those trained on that one is three times as large as the former, it may wrap unseen: the row's own
                score is wrong then.
        """
        self._turns.begin_step("online", step)
        z = self.open_scores(step, (yield from self.run_forward(step)))
        check_scores(step, z, self.plan.fz, self._limit)
        del self._deals[step.index]
        return z
