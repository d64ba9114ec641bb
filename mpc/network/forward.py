"""Passes forward through a network as a data party, from columns to shares of scores.

It sees words that are masked or shared, and never an activation, a weight of another block or a score.

Symbols: layer 0 is `linear`'s forward pass, except that the helper deals C = sum_i U_i sum_j v_ij instead of adding it,
since it must not see elements in place. For each hidden layer k, a is the activation, of which the helper tells
everybody a - u in its own order; u is known in shares, and so is q, the mask of a in place:

    D_j = place(u_j) - q_j                       j -> every other data party, ahead of time
    Q   = place(a - u) + sum_j D_j = a - q       known to every data party without another round
    G_j = W_j - g_j                              j -> every other data party, while the layers below are under way
    a W = Q W_j + q_j G + [q g]_j  summed over j, with [q g] dealt

A mask is drawn for one value of one step; Q serves the way back as well (`data_party`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tercet.mpc.arithmetic.fixed import encode_number
from tercet.mpc.arithmetic.ring import Words, expect, product, total
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import HELPER, Await, Receive, Script, Send, received_words
from tercet.mpc.linear.algebra import NO_DIGESTS, zero_share
from tercet.mpc.network.state import ForwardState, HiddenState
from tercet.mpc.plan.architecture import Entry, Layout, NetworkForward, Tensors, pack, unpack
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.schedule import OutOfTurn, Step
from tercet.mpc.randomness.elements import Elements, restore_elements
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


@dataclass(frozen=True, slots=True)
class NetworkShares:
    """Holds a data party's share of a network before step `step`; f_w fractional bits.

    The weights are alpha times these.
    """

    step: int
    own: Words  # of this party's block of layer 0, (columns, units)
    partners: Mapping[int, Words]  # of every other party's block
    upper: tuple[Words, ...]  # (units below, units above) of each upper layer
    biases: tuple[Words, ...]  # (1, units) of each layer; free of the penalty, hence without alpha


class ForwardParty:
    """Data party `me` in the forward passes of one attempt and purpose.

    Not to be shared by threads.

    Args:
        me: This party's index.
        plan: The job's agreed numbers, with a network.
        x: This party's features, f_x fractional bits, read batch by batch.
        order: Of the rows.
        elements: Of hidden layers, from the same key and for the same purpose.
        helper_masks: Shared with the helper, of this purpose.
        zero_masks: Shared with each other data party, by its index, likewise.
    """

    def __init__(
        self,
        me: int,
        plan: NetworkForward,
        x: FeatureSource,
        *,
        order: Order,
        elements: Elements,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
    ) -> None:
        self.me, self.plan, self.layout = me, plan, Layout(plan)
        self.others = [i for i in range(len(plan.columns)) if i != me]
        self.order, self.elements = order, elements
        self._x, self._masks, self._zero_masks = x, helper_masks, zero_masks
        self._states: dict[int, ForwardState] = {}

    @property
    def digests(self) -> Mapping[int, bytes]:
        """Digests of the helper's dealing by other party, in training (`checks`)."""
        return NO_DIGESTS

    def state(self, step: Step) -> ForwardState:
        """Return the state of a step whose inputs are masked."""
        if step.index not in self._states:
            raise OutOfTurn(f"the inputs of step {step.index} are not masked yet, or it is done")
        return self._states[step.index]

    def mask(self, name: str, layer: int, step: Step, shape: tuple[int, int]) -> Words:
        """Return this party's share of a mask that only the helper knows whole."""
        return self._masks(f"{name}/{layer}", self.me, self.me, step, shape)

    def block_mask(self, name: str, i: int, step: Step, shape: tuple[int, int]) -> Words:
        """Return this party's v_i, r_i or s_i."""
        return self._masks(name, i, self.me, step, shape)

    def dealt(self, step: Step, name: str, layer: int) -> Words:
        """Return this party's share of something that the helper has dealt."""
        found = self.state(step).dealt
        if found is None:
            raise OutOfTurn(f"nothing is dealt for step {step.index} yet")
        return found[name, layer]

    def dealt_streams(self, step: Step, entries: Iterable[Entry]) -> Tensors:
        """Return this party's shares of the helper's dealing, at all but the carrier.

        The carrier gets them in words.
        """
        return {(name, k): self.mask(f"dealt {name}", k, step, shape) for name, k, shape in entries}

    # --- ahead of time

    def masked_inputs(self, step: Step) -> tuple[Words, Words]:
        """Compute E_me = X - U and D_me, flat, for every other data party.

        E_me is (rows of the batch, columns), f_x bits.
        """
        shape = (step.rows, self._x.shape[1])
        x = expect(self._x.read_rows(self.order.rows(step)), shape, "features of a batch")
        signs = self.order.signs(step, odd=self.plan.link.odd)
        hidden = [self._hidden(step, k, signs) for k in self.layout.hidden]
        classes = self.order.classes(step, self.layout.outputs)
        self._states[step.index] = ForwardState(x, step.rows, signs, classes, hidden)
        openings = pack(self.layout.openings(step.rows), {("D", k): h.opening for k, h in enumerate(hidden)})
        return x - self._masks("U", self.me, self.me, step, shape), openings

    def _hidden(self, step: Step, k: int, row_signs: Words) -> HiddenState:
        """Draw the order, signs and masks of a hidden layer, and what links both masks."""
        shape, (_, count) = self.layout.below(k, step.rows), self.layout.elements(k, step.rows)
        order, signs = self.elements.permutation(step, k, count), self.elements.signs(step, k, count)
        values = self.mask("u+", k, step, (1, count))
        if self.layout.activation.kappa is None:
            values = signs * values
        else:
            values = np.where(signs == 1, values, self.mask("u-", k, step, (1, count)))
        placed, mask = restore_elements(values, order, shape), self.mask("q", k, step, shape)
        if k == self.layout.last:
            placed *= row_signs
        return HiddenState(order, signs, mask, placed - mask)

    def masked_weights(self, step: Step, partners: Mapping[int, Words]) -> dict[int, Words]:
        """Compute f_ij = w_ij - v_ij for each other data party i, to whom it goes."""
        return {i: w - self.block_mask("V", i, step, self.layout.block(i)) for i, w in partners.items()}

    def absorb(self, step: Step, inputs: Mapping[int, Words], openings: Mapping[int, Words]) -> None:
        """Take in E_i and D_i of every other data party, once.

        Raises:
            ShapeProblem: naming the data party whose words have the wrong shape; nothing has changed.
        """
        state, layout, entries = self.state(step), self.layout, self.layout.openings(step.rows)
        masked = {
            i: expect(inputs[i], (step.rows, layout.columns[i]), f"masked inputs of party {i}") for i in self.others
        }
        opened = [unpack(entries, openings[i], f"openings of party {i}") for i in self.others]
        if state.ahead is not None:
            raise OutOfTurn(f"step {step.index} is absorbed already")
        state.ahead = total(product(e, self.block_mask("V", i, step, layout.block(i))) for i, e in masked.items())
        for k, hidden in enumerate(state.hidden):
            hidden.opening = total([hidden.opening, *(parts["D", k] for parts in opened)])

    # --- online

    def first_layer(self, step: Step, shares: NetworkShares, weights: Mapping[int, Words]) -> Words:
        """Compute shares of layer 0's pre-activations, (rows of the batch, units), f_z bits.

        `weights` are the f_(me,j).
        """
        state, block = self.state(step), self.layout.block(self.me)
        opened = [expect(weights[j], block, f"masked weights of party {j}") for j in self.others]
        if state.ahead is None:
            raise OutOfTurn(f"step {step.index} is not absorbed")
        z = product(state.x, total([shares.own, *opened]))
        z += state.ahead
        z += self.dealt(step, "C", 0)
        z += self._column(step) * shares.biases[0]
        return z

    def hidden_share(self, step: Step, k: int, z: Words) -> Words:
        """Make hidden layer k's share as the helper gets it.

        It is in secret order, under secret signs, noise and a zero share.
        """
        hidden, (_, count) = self.state(step).hidden[k], self.layout.elements(k, step.rows)
        flat = z.reshape(-1)[hidden.order] * hidden.signs
        if self.me == 0:
            flat += self.elements.noise(step, k, count, noise_width(self.plan, step.alpha))
        share = flat[np.newaxis]
        # Last, over everything.
        share += zero_share(self.me, self._zero_masks, step, (1, count), f"zero/{k}", digests=self.digests)
        return share

    def ask_helper(self, step: Step, k: int, z: Words, *, slopes: bool) -> Script[None]:
        """Send hidden layer k's share and take in the answer."""
        yield Send("hidden share", k, (HELPER,), self.hidden_share(step, k, z))
        shape = self.layout.answer(k, step.rows, slopes=slopes)
        self.absorb_answer(step, k, received_words((yield Receive("hidden answer", k, {HELPER: shape})))[HELPER])

    def run_forward(
        self, step: Step, shares: NetworkShares, weights: Mapping[int, Words], *, training: bool
    ) -> Script[None]:
        """Pass from the columns to the output's share, which the helper gets.

        `weights` are the f_(me,j).
        """
        z = self.first_layer(step, shares, weights)
        for k in self.layout.hidden:
            yield from self.ask_helper(step, k, z, slopes=training)
            if training:
                yield Await("forward")  # where rows are scored, the openings are there before
            z = self.layer_above(step, k, shares.upper[k], shares.biases[k + 1])
        yield Send("output share", 0, (HELPER,), self.output_share(step, z))

    def absorb_answer(self, step: Step, k: int, answer: Words) -> None:
        """Take in the helper's answer for hidden layer k.

        It has activations, then slopes, minus their masks.
        """
        hidden, activation = self.state(step).hidden[k], self.layout.activation
        positive = hidden.signs == 1
        if activation.kappa is None:
            values, slopes = hidden.signs * answer[0], answer[1:]
            values += encode_number(activation.centre, self.plan.fx)
        else:
            values, slopes = np.where(positive, answer[0], answer[1]), answer[2:]
        opened = restore_elements(values, hidden.order, self.layout.below(k, step.rows))
        if k == self.layout.last:
            opened *= self.state(step).signs
        opened += hidden.opening
        hidden.opened = opened
        if len(slopes):
            hidden.slope = slopes[0]

    def weight_openings(self, step: Step, upper: tuple[Words, ...]) -> dict[tuple[str, int], Words]:
        """Compute G_me of each upper layer for every other data party.

        (units below, units above), f_w bits.
        """
        return {
            ("G", k): self.in_secret_order(step, k, upper[k]) - self.mask("g", k, step, self.layout.upper(k))
            for k in self.layout.hidden
        }

    def in_secret_order(self, step: Step, k: int, weights: Words) -> Words:
        """Put the classes of the weights above hidden layer k into this step's secret order."""
        return weights[:, self.state(step).classes] if k == self.layout.last else weights

    def layer_above(self, step: Step, k: int, weights: Words, bias: Words) -> Words:
        """Compute shares of the pre-activations above hidden layer k.

        (rows of the batch, units), f_z bits.

        Under the signs of the rows, and with the classes in secret order, where this is the output.
        """
        state, layout = self.state(step), self.layout
        hidden = state.hidden[k]
        z = product(hidden.opened, self.in_secret_order(step, k, weights))
        z += product(hidden.mask, state.weights["G", k])
        z += self.dealt(step, "qg", k)
        column = self._column(step) * self.in_secret_order(step, k, bias)
        z += state.signs * column if k == layout.last else column
        return z

    def output_share(self, step: Step, z: Words) -> Words:
        """Return the output's share as the helper gets it."""
        shape = (step.rows, self.layout.outputs)
        if self.me == 0:
            z += self.order.noise(step, noise_width(self.plan, step.alpha), self.layout.outputs)
            if self.layout.outputs > 1:
                z += self.elements.level(step, step.rows)
        z += zero_share(self.me, self._zero_masks, step, shape, digests=self.digests)  # last, over everything
        return z

    def _column(self, step: Step) -> np.uint64:
        """Return the public column of a bias, which has no penalty."""
        return encode_number(1.0 / step.alpha, self.plan.fx)
