"""Scores rows that are not trained on, by the forward pass of training.

The shares do not change.

A data party sees only words that are masked or shared. The helper sees each batch's z with rows and classes in secret
order, under noise and secret signs. The label party learns the scores to SCORE_BITS fractional bits; nobody else
learns anything.

Symbols are those of `linear`. Since shares do not change, f_ij = w_ij - v_ij is opened once (`openings`), with the
outputs in their own order. The helper must not know a batch's order P, so it cannot add U_i sum_j v_ij to several
outputs itself. It deals C = sum_i U_i sum_j v_ij in shares, and the data parties add their shares of C P.

The helper rounds z before it tells it: z to the last bit is an integer combination of the other parties' features, from
which narrow ones could be solved for. The noise under which the helper sees z is no secret to the label party, which
takes it off; the partners' own noise (`score_noise`) is, and stays in.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Signed, Words, expect, product, total
from tercet.mpc.functions.links import Link, find_link
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, received_words
from tercet.mpc.linear.algebra import apply_order, correction, preactivation_share, restore_order
from tercet.mpc.linear.shares import Shares
from tercet.mpc.plan.architecture import CARRIER, Layout, Network, NetworkForward
from tercet.mpc.plan.blind import Blind, narrow_bits
from tercet.mpc.plan.forward import Forward, noise_width
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns, batch_sizes
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.openings import Openings, WeightMasks
from tercet.mpc.scoring.scores import ScoreShares, check_scores, decode_scores, encode_scores, without_noise

NOBODY = -2  # no party's index

STREAM = "dealt C"
NO_OFFSET = np.uint64(0)


@dataclass(frozen=True, slots=True)
class Numbers:
    """All that scoring has to know of the plan that a model was trained by.

    A `forward.Forward`.
    """

    model: str
    columns: tuple[int, ...]  # encoded columns of each data party, in party order
    fx: int
    f: int
    outputs: int = 1  # K
    network: Network | None = None
    noise_bits: int = 2
    is_blind: bool = False
    blind: Blind | None = None  # the series of a network that was trained blind

    @classmethod
    def from_canonical(cls, plan: Mapping[str, Any]) -> Self:
        """Read them from `Plan.canonical()`, also after it was JSON."""
        request = plan["request"]
        layers = request.get("network")
        network = None if layers is None else Network(tuple(layers["hidden"]), layers["activation"])
        sizes = tuple(request["columns"]), plan["fx"], plan["f"]
        blind, outputs = request.get("blind"), request.get("outputs", 1)
        series = None if blind is None else Blind(**blind)
        return cls(request["model"], *sizes, outputs, network, plan["noise_bits"], series is not None, series)

    @property
    def fw(self) -> int:
        """Fractional bits of weights."""
        return self.fx + self.f

    @property
    def fz(self) -> int:
        """Fractional bits of pre-activations."""
        return 2 * self.fx + self.f

    @property
    def factor_bits(self) -> int:
        """None: what is scored is not weighed."""
        return 0

    @property
    def factors(self) -> int:
        """None: likewise."""
        return 0

    @property
    def hidden_bits(self) -> int:
        """Fractional bits of hidden activations, where the helper sees none."""
        return self.fz - narrow_bits(self.fx, self.f)

    @property
    def link(self) -> Link:
        """The link between score and label."""
        return find_link(self.model, 0.0 if self.blind is None else self.blind.power)


def scoring_steps(rows: int, batch: int, epoch: int, alpha: float) -> Iterator[Step]:
    """Yield one pass over rows that are not trained on, in batches as in training.

    No rows give no steps.

    `epoch` tells the passes of one job apart: (epoch, position) is the address of masks, order, signs and noise.
    Indices count within the pass. Nothing is scaled, and alpha, of the weights as they are, does not change.
    """
    bounds = [0, *itertools.accumulate(batch_sizes(rows, batch))]
    for position, (start, stop) in enumerate(itertools.pairwise(bounds)):
        yield Step(position, epoch, position, start, stop, 1.0, alpha, alpha)


class Scorer:
    """Acts as data party `me` in one pass; `label` is the index of the label party.

    Not to be shared by threads.

    For each of `scoring_steps`, in order, the script `run_step`, and then at the label party `collect`. Within them
    each of `masked_inputs`, `preactivation` and `open_scores` is asked for once; anything else raises OutOfTurn.

    Args:
        me: This party's index.
        label: The label party's, or NOBODY where no party may learn a score.
        numbers: The plan, or what of it was kept with the model.
        rows: This party's features of the rows to score.
        shares: Of one step and one history at all data parties.
        alpha: What the weights are multiplied by at that step, `Plan.alpha_after`.
        order: Of these rows, for scoring.
        helper_masks: Shared with the helper, of a purpose that is not training's.
        zero_masks: Shared with each other data party, by its index, likewise.
        weight_masks: Shared with the helper, of weights that are opened once.
        noise: What this party adds to the scores; nothing if None.
        limit: No score may be beyond it, by whichever sign, where the label party adds them up itself.
    """

    def __init__(  # noqa: PLR0917
        self,
        me: int,
        label: int,
        numbers: NetworkForward,
        rows: FeatureSource,
        shares: Shares,
        alpha: float,
        *,
        order: Order,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        weight_masks: WeightMasks,
        noise: ScoreNoise | None = None,
        limit: float = math.inf,
    ) -> None:
        self._me, self._label, self._numbers, self._order, self._limit = me, label, numbers, order, limit
        self.layout, self._others = Layout(numbers), tuple(i for i in range(len(numbers.columns)) if i != me)
        self._own: dict[int, Words] = {}  # shares of scores by step, at a label party that adds up all
        if set(zero_masks) != set(self._others):
            raise ValueError("zero masks belong to every other data party")
        if rows.shape[1] != numbers.columns[me]:
            raise ShapeProblem(f"features: expected {numbers.columns[me]} columns, got {rows.shape[1]}")
        self._rows, self._shares, self._alpha = rows, shares, alpha
        self._helper_masks, self._weight_masks = helper_masks, weight_masks
        self._scores = ScoreShares(me, numbers, alpha, zero_masks, noise)
        self._batches: dict[int, Words] = {}
        self._turns = Turns(0)

    def run_step(self, step: Step, openings: Openings, offset: Words | np.uint64 = NO_OFFSET) -> Script[None]:
        """Compute this party's share of a batch's scores, and give it to whoever adds up all.

        `offset` is added to it, f_z fractional bits.
        """
        numbers, shape, dealt = self._numbers, (step.rows, self._numbers.outputs), None
        yield Send("masked inputs", 0, self._others, self.masked_inputs(step))
        due = {i: (step.rows, numbers.columns[i]) for i in self._others}
        inputs = received_words((yield Receive("masked inputs", 0, due)))
        if deals_correction(numbers) and self._me == CARRIER:
            dealt = received_words((yield Receive("dealt", 0, {HELPER: shape})))[HELPER]
        share = self.preactivation(step, inputs, openings.blocks, dealt) + offset
        if not numbers.is_blind:
            yield Send("output share", 0, (HELPER,), share)
        elif self._me == self._label:
            self._own[step.index] = share
        else:
            yield Send("masked scores", 0, (self._label,), share)

    def collect(self, step: Step) -> Script[Floats]:
        """Take in a batch's scores at the label party.

        (rows of the batch, outputs), in the order of `Order.rows(step)`.

        Raises:
            Diverged, ShapeProblem: as `open_scores` and `add_scores`.
        """
        shape = (step.rows, self._numbers.outputs)
        if not self._numbers.is_blind:
            return self.open_scores(step, received_words((yield Receive("scores", 0, {HELPER: shape})))[HELPER])
        theirs = received_words((yield Receive("masked scores", 0, dict.fromkeys(self._others, shape))))
        return self.add_scores(step, {self._me: self._own.pop(step.index), **theirs}, self._limit)

    def masked_inputs(self, step: Step) -> Words:
        """Compute E_me = s X - U for every other data party.

        (rows of the batch, columns), f_x fractional bits.
        """
        self._turns.begin_step("masked inputs", step)
        x = expect(
            self._rows.read_rows(self._order.rows(step)), (step.rows, self._rows.shape[1]), "features of a batch"
        )
        x *= self._signs(step)
        self._batches[step.index] = x
        return x - self._helper_masks("U", self._me, self._me, step, (step.rows, self._rows.shape[1]))

    def preactivation(
        self, step: Step, inputs: Mapping[int, Words], weights: Mapping[int, Words], dealt: Words | None = None
    ) -> Words:
        """Compute z_me for the helper, from all E_i and f_(me,j) received.

        (rows of the batch, outputs), f_z fractional bits.

        Uniform on its own, and together with any but all of the others'. `dealt` is what the helper has dealt the
        carrier, where there are several outputs.

        Raises:
            ShapeProblem: naming the data party whose masked inputs or weights, or the helper whose words, have the
                wrong shape.
        """
        numbers, block = self._numbers, (self._rows.shape[1], self._numbers.outputs)
        masked = {
            i: expect(inputs[i], (step.rows, numbers.columns[i]), f"masked inputs of party {i}") for i in self._others
        }
        opened = [expect(weights[j], block, f"masked weights of party {j}") for j in self._others]
        correction = self._correction(step, dealt)
        if step.index not in self._batches:
            raise OutOfTurn(f"the inputs of scoring step {step.index} are not masked yet, or it is done")
        self._turns.begin_step("pre-activation", step)
        # The intercept's public column is 1 / alpha, since it has no penalty.
        classes = self._classes(step)
        column = encode_number(1.0 / self._alpha, numbers.fx) * apply_order(self._shares.intercept, classes)
        products = (product(e, apply_order(self._block_mask(i), classes)) for i, e in masked.items())
        ahead = total([self._signs(step) * column, *correction, *products])
        own = apply_order(total([self._shares.own, *opened]), classes)
        z = preactivation_share(self._batches.pop(step.index), own, ahead)
        if self._me == 0 and not numbers.is_blind:
            z += self._helpers_noise(step)
        return self._scores.hide(step, z)

    def open_scores(self, step: Step, words: Words) -> Floats:
        """Decode the batch's scores at the label party, (rows of the batch, outputs).

        They are in the order of `Order.rows(step)`.

        `words` are the helper's. Off by at most alpha 2^-16 from the fixed-point scores and the partners' noise.

        Raises:
            ShapeProblem: naming the helper, if its words have the wrong shape.
        """
        words = expect(words, (step.rows, self._numbers.outputs), "the helper's scores")
        if self._me != self._label:
            raise OutOfTurn("only the label party learns scores")
        self._turns.begin_step("scores", step)
        words = without_noise(words, self._helpers_noise(step), self._numbers.fz)
        return self._alpha * decode_scores(restore_order(self._signs(step) * words, self._classes(step)))

    def add_scores(self, step: Step, shares: Mapping[int, Words], limit: float) -> Floats:
        """Add up all data parties' shares of a batch at the label party.

        It does so where the helper sees no score.

        The result is that of `open_scores`.

        Raises:
            Diverged, ShapeProblem: as `ScoreShares.add`.
        """
        if self._me != self._label:
            raise OutOfTurn("only the label party learns scores")
        words = self._scores.add(step, shares, limit)
        self._turns.begin_step("scores", step)
        return self._alpha * decode_scores(restore_order(self._signs(step) * words, self._classes(step)))

    def _helpers_noise(self, step: Step) -> Words:
        """Return the noise under which the helper sees z."""
        numbers = self._numbers
        return self._order.noise(step, noise_width(numbers, self._alpha), numbers.outputs)

    def _signs(self, step: Step) -> Words:
        return self._order.signs(step, odd=self._numbers.link.odd)

    def _classes(self, step: Step) -> Signed:
        return self._order.classes(step, self._numbers.outputs)

    def _block_mask(self, i: int) -> Words:
        """Return this party's v_i, shaped like party i's block."""
        return self._weight_masks("V", i, self._me, (self._numbers.columns[i], self._numbers.outputs))

    def _correction(self, step: Step, dealt: Words | None) -> list[Words]:
        """Return this party's share of C P, where the helper does not add C itself."""
        shape = (step.rows, self._numbers.outputs)
        if not deals_correction(self._numbers):
            return []
        if self._me != CARRIER:
            share = self._helper_masks(STREAM, self._me, self._me, step, shape)
        elif dealt is None:
            raise OutOfTurn(f"nothing is dealt for scoring step {step.index} yet")
        else:
            share = expect(dealt, shape, "what the helper dealt")
        return [apply_order(share, self._classes(step))]


class ScoringHelper:
    """Answers one pass over some rows, as the helper.

    Not to be shared by threads; keeps nothing of a step.

    For each of `scoring_steps`, in order, the scripts `deal_step`, which may run ahead, and `run_online`.

    Args:
        numbers: The plan, or what of it was kept with the model.
        label: The label party's index, which is told the scores.
        masks: Shared with each data party, by its index, of the purpose that the data parties use.
        weight_masks: Likewise, of weights that are opened once.
        limit: No score may be beyond it, by whichever sign: a party that shifts scores can shift them so far only.
    """

    def __init__(
        self,
        numbers: NetworkForward,
        label: int,
        masks: Mapping[int, Masks],
        weight_masks: Mapping[int, WeightMasks],
        limit: float = math.inf,
    ) -> None:
        self._numbers, self._masks, self._weight_masks, self._limit = numbers, masks, weight_masks, limit
        self.layout, self._label, self._parties = Layout(numbers), label, range(len(numbers.columns))
        self._turns = Turns(0)

    def deal_step(self, step: Step) -> Script[None]:
        """Deal for a batch, where C is dealt."""
        if deals_correction(self._numbers):
            yield Send("dealt", 0, (CARRIER,), self.dealt(step))

    def run_online(self, step: Step) -> Script[None]:
        """Answer a batch with its scores, where this party sees them.

        Raises: as `preactivations`.
        """
        if not self._numbers.is_blind:
            yield Send("scores", 0, (self._label,), self.scores(step, (yield from self._receive_shares(step))))

    def receive_scores(self, step: Step) -> Script[Words]:
        """Receive a batch's shares; return z in the helper's view.

        Raises: as `preactivations`.
        """
        return self.preactivations(step, (yield from self._receive_shares(step)))

    def _receive_shares(self, step: Step) -> Script[Mapping[int, Words]]:
        due = dict.fromkeys(self._parties, (step.rows, self._numbers.outputs))
        return received_words((yield Receive("output share", 0, due)))

    def dealt(self, step: Step) -> Words:
        """Compute the carrier's words of C = sum_i U_i sum_j v_ij, (rows of the batch, outputs).

        The others' streams are taken off.
        """
        self._turns.begin_step("dealt", step)
        others, shape = (j for j in self._parties if j != CARRIER), (step.rows, self._numbers.outputs)
        whole = total(self._correction(i, step) for i in self._parties)
        return whole - total(self._masks[j](STREAM, j, j, step, shape) for j in others)

    def scores(self, step: Step, shares: Mapping[int, Words]) -> Words:
        """Round z for the label party, from all its shares.

        (rows of the batch, outputs), SCORE_BITS fractional bits.

        Raises: as `preactivations`.
        """
        return encode_scores(decode(self.preactivations(step, shares), self._numbers.fz))

    def preactivations(self, step: Step, shares: Mapping[int, Words]) -> Words:
        """Compute z, (rows of the batch, outputs), f_z fractional bits, in the helper's view.

        Raises:
            Diverged: if a raw z is outside the safe half of the words, or a score beyond the limit. A row so unlike
                those trained on that its z is three times as large as the former may wrap unseen: its own score is
                wrong then, and no other.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape = (step.rows, self._numbers.outputs)
        received = [expect(shares[i], shape, f"pre-activation share of party {i}") for i in self._parties]
        self._turns.begin_step("scores", step)
        if not deals_correction(self._numbers):
            received += [self._correction(i, step) for i in self._parties]
        z = total(received)
        check_scores(step, z, self._numbers.fz, self._limit)
        return z

    def _correction(self, i: int, step: Step) -> Words:
        """Compute U_i sum_j v_ij."""
        block = (self._numbers.columns[i], self._numbers.outputs)
        u = self._masks[i]("U", i, i, step, (step.rows, block[0]))
        return correction(u, [self._weight_masks[j]("V", i, j, block) for j in self._parties if j != i])


def deals_correction(numbers: Forward) -> bool:
    """Tell whether the helper deals C, and does not add it to what it receives."""
    return numbers.outputs > 1 or numbers.is_blind
