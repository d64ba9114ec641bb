"""Scores of rows by a network that stays shared: the forward pass of training, on shares that do not change.

A data party sees only words that are masked or shared, the helper what it sees of a forward pass in training; the label
party learns the scores to SCORE_BITS fractional bits, and nobody else anything. Where there are classes, all scores of
a row are less that of one class: a common part says nothing.
"""

from collections.abc import Mapping

import numpy as np

from mpc.elements import Elements
from mpc.fixed import Floats, decode
from mpc.forward import noise_width
from mpc.helper import check_range
from mpc.masks import Masks
from mpc.network import CARRIER, NetworkForward, flat, pack, unpack
from mpc.network_forward import ForwardParty, NetworkShares
from mpc.network_forward_helper import ForwardHelper
from mpc.order import Order
from mpc.ring import ShapeProblem, Words, expect, total
from mpc.rows import Rows
from mpc.schedule import OutOfTurn, Step, Turns
from mpc.score_noise import ScoreNoise
from mpc.scoring import decode_scores, encode_scores, without_noise
from mpc.script import HELPER, Give, Script, Take, taken


class NetworkScorer(ForwardParty):
    """Data party `me` in one pass over some rows; `label` is the index of the label party. Not to be shared by threads.

    For each of `scoring.scoring_steps`, in order: `script`, then at the label party `opened`.

    Args:
        me, plan, order, elements, helper_masks, zero_masks: As `ForwardParty` has them, of a purpose of their own.
        label: The label party's index, or `scoring.NOBODY` where no party may learn a score.
        rows: This party's features of the rows to score.
        shares: Of one step and one history at all data parties.
        alpha: What the weights are multiplied by at that step.
        noise: What this party adds to the scores; nothing if None.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: NetworkForward,
        rows: Rows,
        *,
        shares: NetworkShares,
        alpha: float,
        order: Order,
        elements: Elements,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        noise: ScoreNoise | None = None,
    ) -> None:
        super().__init__(
            me, plan, rows, order=order, elements=elements, helper_masks=helper_masks, zero_masks=zero_masks
        )
        if rows.shape[1] != plan.columns[me]:
            raise ShapeProblem(f"features: expected {plan.columns[me]} columns, got {rows.shape[1]}")
        self._label, self._shares, self._alpha, self._noise = label, shares, alpha, noise
        self._turns = Turns(0)

    def script(self, step: Step) -> Script[None]:
        """A batch, up to this party's share of its scores."""
        self._turns.take("script", step)
        layout, others = self.layout, tuple(self.others)
        inputs, openings = self.masked_inputs(step)
        for i, words in self.masked_weights(step, self._shares.partners).items():
            yield Give("masked inputs", 0, (i,), inputs, (("mask openings", openings), ("masked weights", words)))
        entries = layout.weights("G")
        mine = pack(entries, self.weight_openings(step, self._shares.upper))
        yield Give("weight opening", 0, others, mine)
        theirs = taken((yield Take("masked inputs", 0, {i: (step.rows, layout.columns[i]) for i in others})))
        self.absorb(step, theirs, taken((yield Take("mask openings", 0, dict.fromkeys(others, openings.shape)))))
        dealt = layout.dealt_forward(step.rows)
        if self.me == CARRIER:
            words = taken((yield Take("dealt", 0, {HELPER: flat(dealt)})))[HELPER]
            self.state(step).dealt = unpack(dealt, words, "what the helper dealt")
        else:
            self.state(step).dealt = self.streamed(step, dealt)
        weights = taken((yield Take("masked weights", 0, dict.fromkeys(others, layout.block(self.me)))))
        opened = taken((yield Take("weight opening", 0, dict.fromkeys(others, mine.shape))))
        self.state(step).weights |= unpack(entries, total([mine, *opened.values()]), "opened weights")
        yield from self.upwards(step, self._shares, weights, training=False)
        if self.me != self._label:
            del self._states[step.index]

    def output(self, step: Step, z: Words) -> Words:
        """Make the output's share as the helper gets it, with this party's own noise."""
        if self._noise is not None:
            z += self._noise.words(step, self.layout.outputs, self._alpha, self.plan.fz)
        return super().output(step, z)

    def opened(self, step: Step, words: Words) -> Floats:
        """The batch's scores at the label party, (rows of the batch, outputs), in the order of `Order.rows(step)`.

        Raises:
            ShapeProblem: naming the helper, if its words have the wrong shape.
        """
        words = expect(words, (step.rows, self.layout.outputs), "the helper's scores")
        if self.me != self._label:
            raise OutOfTurn("only the label party learns scores")
        state = self.state(step)
        self._turns.take("scores", step)
        del self._states[step.index]
        noise = self.order.noise(step, noise_width(self.plan, self._alpha), self.layout.outputs)
        if self.layout.outputs > 1:
            noise = noise - noise[:, :1]
        words = without_noise(words, noise, self.plan.fz)
        return self._alpha * decode_scores((state.signs * words)[:, np.argsort(state.classes)])


class NetworkScoringHelper(ForwardHelper):
    """The helper in one pass over some rows. Not to be shared by threads.

    Args:
        plan: With a network; the plan of the training, or what of it was kept with the model.
        label: The label party's index.
        masks: Shared with each data party, by its index, of the purpose that the data parties use.
    """

    def __init__(self, plan: NetworkForward, label: int, masks: Mapping[int, Masks]) -> None:
        super().__init__(plan, masks)
        self._label = label
        self._turns = Turns(0)

    def script(self, step: Step) -> Script[None]:
        """A batch.

        Raises: as `preactivations`.
        """
        z = yield from self.preactivations(step)
        yield Give("scores", 0, (self._label,), encode_scores(decode(z, self.plan.fz)))

    def preactivations(self, step: Step) -> Script[Words]:
        """A batch up to z, (rows of the batch, outputs), f_z fractional bits, in the helper's view.

        Raises:
            Diverged: a value is outside the safe half of the words. Of a row so unlike those trained on that one is
                three times as large as this limit, it may wrap unseen: the row's own score is wrong then.
        """
        self._turns.take("script", step)
        values, entries = self.begin(step, self.masks_below(step), slopes=False), self.layout.dealt_forward(step.rows)
        yield Give("dealt", 0, (CARRIER,), pack(entries, self.explicit(entries, values, step)))
        z = self.scores_of(step, (yield from self.upwards(step)))
        check_range(step, z, self.plan.fz)
        del self._deals[step.index]
        return z
