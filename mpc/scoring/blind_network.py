"""Scores rows by a network that was trained blind and stays shared.

The helper deals, and receives nothing.

It is the forward pass of `mpc.blind.layers`, without slopes. A data party sees words that are masked or shared. The
label party learns the scores, under the partners' noise; nobody else learns anything.

The shares do not change, and their upper weights W' are narrow (`mpc.dealing.narrowing`). So f_ij = w_ij - v_ij and the
sums T_k = W'_k - g_k are opened once, before the first batch (`openings`). **They are the caller's**: one set for a
model, kept with it and handed to every batch, so that no party can tell two different sets of weights for one model.
Under the masks of `WeightMasks` no second set may be opened either: their difference would be bare.

For each batch, with masks that are used once, and layers as in `mpc.blind.layers`:

    E_i = X_i - U_i                                                        i -> every other data party
    z_0 + t                                                                opened, t = sum_j t_j - U_i sum_j v_ij
    Q_k = a_k - q_k, of each hidden layer                                  opened
    z_(k+1) + t = Q_k W'_k + q_kj T_k + t_j, summed over j                 opened, t = sum_j t_j - q_k g_k
    z = Q_k W'_k + q_kj T_k + [q_k g_k]_j, of the last one                 shares, to the label party

The helper deals [q_k g_k], and cos and sin of the multiples of each t. Any party could open a wrong word, and so spoil
the scores of a batch; they are all that comes of it.
"""

import math
from collections.abc import Mapping

from tercet.mpc.arithmetic.fixed import Floats, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Words, expect, product, total
from tercet.mpc.dealing.activation import MaskedLayer
from tercet.mpc.dealing.hidden_helper import deal_angles
from tercet.mpc.dealing.shares import deal, receive_share
from tercet.mpc.dealing.sizes import BlindLayout, BlindNumbers, layer_name
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Receive, Script, Send, received_words, sum_shares
from tercet.mpc.linear.algebra import correction, preactivation_share
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout, Tensors, unpack
from tercet.mpc.plan.schedule import Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.openings import Openings, WeightMasks
from tercet.mpc.scoring.scores import ScoreShares, decode_scores


class BlindNetworkScorer:
    """Acts as data party `me` in one pass.

    `label` is the index of the label party. Not to be shared by threads.

    For each of `scoring.scoring_steps`, in order: `run_step`, and then at the label party `collect`.

    Args:
        me: This party's index.
        label: The label party's index.
        numbers: The plan, or what of it was kept with the model.
        rows: This party's features of the rows to score.
        shares: Of one step and one history at all data parties, narrow.
        alpha: What the weights are multiplied by at that step.
        order: Of these rows, for scoring.
        helper_masks: Shared with the helper, of a purpose of their own.
        zero_masks: Shared with each other data party, by its index, likewise.
        noise: What this party adds to the scores; nothing if None.
        limit: No score may be beyond it, by whichever sign.
    """

    def __init__(
        self,
        me: int,
        label: int,
        numbers: BlindNumbers,
        rows: FeatureSource,
        *,
        shares: NetworkShares,
        alpha: float,
        order: Order,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        noise: ScoreNoise | None = None,
        limit: float = math.inf,
    ) -> None:
        self.layout, self._numbers, self._label, self._me = BlindLayout(numbers), numbers, label, me
        self._others = tuple(i for i in range(len(numbers.columns)) if i != me)
        if {*zero_masks} != {*self._others}:
            raise ValueError("zero masks belong to every other data party")
        if rows.shape[1] != numbers.columns[me]:
            raise ShapeProblem(f"features: expected {numbers.columns[me]} columns, got {rows.shape[1]}")
        self._rows, self._shares, self._order, self._masks = rows, shares, order, helper_masks
        self._scores, self._limit = ScoreShares(me, numbers, alpha, zero_masks, noise), limit
        self._own: dict[int, Words] = {}  # shares of scores by step, at the label party
        self._turns = Turns(0)

    def run_step(self, step: Step, openings: Openings) -> Script[None]:
        """Compute this party's share of a batch's scores, and give it to the label party.

        Raises:
            ShapeProblem: what another role has sent has the wrong shape.
        """
        self._turns.begin_step("script", step)
        share = yield from self._first_layer(step, openings)
        dealt = yield from receive_share(
            self.layout.scoring(step.rows), self._me, len(self._numbers.columns), self._masks, step
        )
        assert openings.upper is not None
        upper = unpack(Layout(self._numbers).weights("G"), openings.upper, "opened weights")
        for k in self.layout.hidden:
            activation = yield from self._activation(step, k, share, dealt["angles", k])
            share = product(activation, self._shares.upper[k])
            share += product(self._mask("q", k, step), upper["G", k]) + self._column(step, k + 1)
        share = self._scores.hide(step, share + dealt["scores", self.layout.output])
        if self._me == self._label:
            self._own[step.index] = share
        else:
            yield Send("masked scores", 0, (self._label,), share)

    def collect(self, step: Step) -> Script[Floats]:
        """Add up a batch's scores at the label party.

        (rows, outputs), in the order of `Order.rows(step)`.

        Raises:
            Diverged: of a score that is beyond the limit.
        """
        due = dict.fromkeys(self._others, (step.rows, self.layout.widths[-1]))
        theirs = received_words((yield Receive("masked scores", 0, due)))
        shares = {self._me: self._own.pop(step.index), **theirs}
        return self._scores.alpha * decode_scores(self._scores.add(step, shares, self._limit))

    def _first_layer(self, step: Step, openings: Openings) -> Script[Words]:
        """Send masked inputs; compute this party's share of layer 0's z but for U_i sum_j v_ij."""
        me, columns, width = self._me, self._numbers.columns, self.layout.widths[0]
        opened = [
            expect(openings.blocks[j], (columns[me], width), f"masked weights of party {j}") for j in self._others
        ]
        x = expect(self._rows.read_rows(self._order.rows(step)), (step.rows, columns[me]), "features of a batch")
        yield Send("masked inputs", 0, self._others, x - self._masks("U", me, me, step, (step.rows, columns[me])))
        due = {i: (step.rows, columns[i]) for i in self._others}
        inputs = received_words((yield Receive("masked inputs", 0, due)))
        ahead = total(product(e, openings.masks("V", i, me, (columns[i], width))) for i, e in inputs.items())
        return preactivation_share(x, total([self._shares.own, *opened]), ahead) + self._column(step, 0)

    def _activation(self, step: Step, k: int, share: Words, angles: Words) -> Script[Words]:
        """Open hidden layer k's pre-activations, then its activations, both under masks.

        Return the latter.
        """
        layer, numbers = MaskedLayer(self.layout.numbers(step, k)), self._numbers
        layer.dealt = angles.reshape(-1, step.rows, self.layout.widths[k])
        opened = yield from sum_shares("score opening", k, share + self._mask("t", k, step), self._others)
        layer.opened = opened * layer.numbers.unit
        phi = layer.numbers.series.phi
        activation = layer.shares([(phi, 1.0)])[0] - self._mask("q", k, step)
        if self._me == 0:  # adds what is public
            assert numbers.network is not None
            centre = HIDDEN[numbers.network.activation].centre
            activation += encode_number(phi.constant + centre, numbers.hidden_bits)
        return (yield from sum_shares("hidden opening", k, activation, self._others))

    def _mask(self, name: str, k: int, step: Step) -> Words:
        """Return this party's word of a mask of layer k, (rows, width)."""
        return self._masks(layer_name(name, k), self._me, self._me, step, (step.rows, self.layout.widths[k]))

    def _column(self, step: Step, k: int) -> Words:
        """Return the part of layer k's bias in every row's share; it has no penalty."""
        return encode_number(1.0 / step.alpha, self._numbers.fx) * self._shares.biases[k]


class BlindNetworkScoringHelper:
    """Deals for one pass over some rows, as the helper. Not to be shared by threads.

    Args:
        numbers: The plan, or what of it was kept with the model.
        masks: Shared with each data party, by its index, of the purpose that the data parties use.
        weight_masks: Likewise, of weights that are opened once.
    """

    def __init__(
        self, numbers: BlindNumbers, masks: Mapping[int, Masks], weight_masks: Mapping[int, WeightMasks]
    ) -> None:
        self.layout, self._columns = BlindLayout(numbers), numbers.columns
        self._masks, self._weight_masks, self._turns = masks, weight_masks, Turns(0)

    def deal_step(self, step: Step) -> Script[None]:
        """Deal for a batch; in order, and any number of steps ahead."""
        self._turns.begin_step("deal", step)
        yield from deal(self.layout.scoring(step.rows), self._values(step), self._masks, step)

    def run_online(self, _step: Step) -> Script[None]:
        """Do nothing: the helper sees no score."""
        yield from ()

    def _values(self, step: Step) -> Tensors:
        """Compute all that is dealt: cos and sin of each hidden layer's t, and what the scores lack."""
        layout, found, lacks = self.layout, dict[tuple[str, int], Words](), self._lacks_inputs(step)
        for k in layout.hidden:
            angles = (self._mask("t", k, step) - lacks) * layout.numbers(step, k).unit
            found["angles", k] = deal_angles(layout, step, k, angles)
            weights = total(of(f"g/{k}", j, j, layout.upper(k)) for j, of in self._weight_masks.items())
            lacks = product(self._mask("q", k, step), weights)
        found["scores", layout.output] = lacks
        return found

    def _lacks_inputs(self, step: Step) -> Words:
        """Compute sum_i U_i sum_j v_ij, which the shares of layer 0 lack."""
        return total(self._lacks_party(step, i, columns) for i, columns in enumerate(self._columns))

    def _lacks_party(self, step: Step, i: int, columns: int) -> Words:
        block = columns, self.layout.widths[0]
        u = self._masks[i]("U", i, i, step, (step.rows, columns))
        return correction(u, [of("V", i, j, block) for j, of in self._weight_masks.items() if j != i])

    def _mask(self, name: str, k: int, step: Step) -> Words:
        """Add up the data parties' words of a mask of layer k, (rows, width)."""
        shape, name = (step.rows, self.layout.widths[k]), layer_name(name, k)
        return total(of(name, j, j, step, shape) for j, of in self._masks.items())
