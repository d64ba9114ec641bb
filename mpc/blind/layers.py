"""Passes through the layers of a model as a data party, forward and back.

It sees words that are masked or shared; no activation, slope, error or weight in clear.

Symbols: z_k are the pre-activations of layer k, opened as angles: unit z_k + t_k. For hidden layer k, a and s are
shares of the activation and of its slope, by the series; W the weights above it, W' the same truncated to N fractional
bits (as `arithmetic.truncation` does it). Masks are sums of a word of each data party, known whole to the helper alone.
[x]_j is j's share of an x that the helper deals:

    Q = a - q, S = s - tau, T = W' - v                                 opened
    z_(k+1) = Q W' + q_j T + [q v]_j, summed over j

With O = e + r the opened error of layer k+1, A and B from `truncation`, h and d what is dealt of x's mask rho,

    W  -= Q^T O - Q^T r_j + q_j^T O - [q^T r]_j
    x   = O W'^T - r_j T^T + rho_j, opened                             = e W'^T + rho, rho = sum_j rho_j + r v^T
    y   = S (A + B d - h) + A tau_j + B [d tau]_j + sigma_j, opened    = (e W'^T) s + sigma
    the error of layer k is y truncated to F bits, opened as O for the layer below

where sigma = sum_j sigma_j + h tau.

Bits: z has f_z, a and s have P, W has P + F, W' N, errors F (`plan.blind`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.fixed import encode_number
from tercet.mpc.arithmetic.ring import Words, product, product_transposed, transposed_product
from tercet.mpc.blind.forward import NOTHING_LATER, Along, Batch, BlindForward, Later
from tercet.mpc.dealing.narrowing import masked_share, narrow_share
from tercet.mpc.functions.hidden import HIDDEN, HiddenActivation
from tercet.mpc.interface.script import Script
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import pack, unpack
from tercet.mpc.plan.schedule import Step

NO_OFFSET = np.uint64(0)


class BlindLayers:
    """Acts as a data party in all layers of a model, over a `BlindForward`.

    Not to be shared by threads.
    """

    def __init__(self, forward: BlindForward) -> None:
        self._forward, self._layout, self._plan = forward, forward.layout, forward.plan
        self._first = forward.me == 0  # adds what is public

    # --- forward

    def run_forward(  # noqa: PLR0917
        self,
        step: Step,
        batch: Batch,
        shares: NetworkShares,
        weights: Mapping[int, Words],
        offset: Words | np.uint64 = NO_OFFSET,
        later: Mapping[int, Later] = NOTHING_LATER,
        beside: Along = (),
    ) -> Script[None]:
        """Pass from columns to opened scores.

        Args:
            step: Of the pass.
            batch: Whose masked inputs and dealt words are there.
            shares: Of the model.
            weights: The other parties' shares of this party's block, under masks.
            offset: The label party's term of every score; of a model without hidden layers.
            later: What goes with the first opening.
            beside: Likewise, of this step.
        """
        forward = self._forward
        share = forward.score_share(batch, shares.own, weights) + forward.column(step, shares.biases[0]) + offset
        along = self._weight_opening(step, shares.upper)
        yield from forward.open_angles(step, batch, 0, share, along=(*along, *beside), later=later)
        if along:
            along = yield from self._narrow_opening(step, batch, along)
        for k in self._layout.hidden:
            yield from self._open_activation(step, batch, k, along if k == 0 else ())
            share = self._layer_above(step, batch, k) + forward.column(step, shares.biases[k + 1])
            yield from forward.open_angles(step, batch, k + 1, share)

    def _weight_opening(self, step: Step, upper: Sequence[Words]) -> Along:
        """Compute a share of all weights under the masks of their truncation.

        It goes with layer 0's opening.
        """
        if not upper:
            return ()
        masks = [self._forward.mask("weights", k, step, self._layout.upper(k)) for k in self._layout.hidden]
        return (("weight opening", masked_share(self._layout, upper, masks, first=self._first)),)

    def _narrow_opening(self, step: Step, batch: Batch, opening: Along) -> Script[Along]:
        """Truncate all weights; return a share of them under masks.

        It goes with the first activation's opening.
        """
        ((kind, mine),) = opening
        opened = yield from self._forward.add_shares(kind, 0, mine)
        narrow = narrow_share(self._plan, self._layout, opened, batch.dealt, first=self._first)
        for hidden, share in zip(batch.hidden, narrow, strict=True):
            hidden.narrow = share
        entries = self._layout.upper_weights("T")
        shares = {(e.name, e.layer): narrow[e.layer] - self._forward.mask("v", e.layer, step, e.shape) for e in entries}
        return (("narrow opening", pack(entries, shares)),)

    def _open_activation(self, step: Step, batch: Batch, k: int, along: Along) -> Script[None]:
        """Open the activations under masks, and their slopes where the pass trains.

        What goes `along` is opened with them.
        """
        forward, layer, series = self._forward, batch.layers[k], batch.layers[k].numbers.series
        functions = [("q", series.phi, 1.0, self._activation.centre)]
        if forward.trains:
            functions.append(("slope", series.second, step.alpha, 0.0))
        shares = []
        found = layer.shares([(terms, factor) for _, terms, factor, _ in functions])
        for (mask, terms, factor, more), share in zip(functions, found, strict=True):
            shares.append(share - forward.mask(mask, k, step))
            if self._first:
                shares[-1] += encode_number(factor * terms.constant + more, self._plan.hidden_bits)
        opened = yield from forward.open("hidden opening", k, np.concatenate(shares), along)
        batch.hidden[k].activation, batch.hidden[k].slope = opened[: step.rows], opened[step.rows :]
        for kind, mine in along:
            opened = yield from forward.add_shares(kind, 0, mine)
            for (_, layer_), words in unpack(self._layout.upper_weights("T"), opened, "opened weights").items():
                batch.hidden[layer_].weights = words

    def _layer_above(self, step: Step, batch: Batch, k: int) -> Words:
        """Compute this party's share of z_(k+1) but for the bias, (rows, width above)."""
        hidden = batch.hidden[k]
        share = product(hidden.activation, hidden.narrow)
        share += product(self._forward.mask("q", k, step), hidden.weights)
        share += batch.dealt["product", k]
        return share

    # --- back

    def run_back(
        self, step: Step, batch: Batch, opened: Words, upper: Sequence[Words], biases: Sequence[Words]
    ) -> Script[tuple[Words, tuple[Words, ...], tuple[Words, ...]]]:
        """Pass back from the scores' opened error to layer 0's.

        Return it, and upper weights and biases after the step.

        `opened` is e + r, (rows, outputs), F bits. The bias of layer 0 stays as it is.
        """
        forward, new_upper, new_biases = self._forward, list(upper), list(biases)
        for turn, k in enumerate(reversed(self._layout.hidden)):
            mask = forward.mask("r", k + 1, step)
            error = opened - mask if self._first else -mask
            new_upper[k] = upper[k] - self._gradient(step, batch, k, opened, error)
            new_biases[k + 1] = biases[k + 1] - forward.bias_fall(step, error)
            error = yield from self._carry_back(step, batch, k, turn, self._error_below(step, batch, k, opened, mask))
            opened = yield from forward.open("error opening", turn + 1, error + forward.mask("r", k, step))
        return opened, tuple(new_upper), tuple(new_biases)

    def _gradient(self, step: Step, batch: Batch, k: int, opened: Words, error: Words) -> Words:
        """Compute this party's share of a^T e, P + F fractional bits; `error` is its share of e."""
        gradient = transposed_product(batch.hidden[k].activation, error)
        gradient += transposed_product(self._forward.mask("q", k, step), opened)
        gradient -= batch.dealt["gradient", k]
        return gradient

    def _error_below(self, step: Step, batch: Batch, k: int, opened: Words, mask: Words) -> Words:
        """Compute this party's share of e W'^T under the mask of its truncation.

        F + N fractional bits.
        """
        share = product_transposed(opened, batch.hidden[k].narrow)
        share -= product_transposed(mask, batch.hidden[k].weights)
        share += self._forward.mask("error", k, step)
        return share

    def _carry_back(self, step: Step, batch: Batch, k: int, turn: int, share: Words) -> Script[Words]:
        """Truncate an error and multiply it by the slope.

        Return this party's share, (rows, width), F bits.
        """
        forward, bits, slope = self._forward, self._plan.hidden_bits, batch.hidden[k].slope
        shift = truncation.SHIFT if self._first else truncation.NO_SHIFT
        opened = yield from forward.open("truncation opening", turn, share + shift)
        c = truncation.read_opened(opened, self._layout.narrow_bits)
        product_ = c.factor * batch.dealt["error top", k] - batch.dealt["error high", k]
        if self._first:
            product_ += c.constant
        product_ *= slope
        product_ += c.constant * forward.mask("slope", k, step) + c.factor * batch.dealt["error top slope", k]
        product_ += forward.mask("delta", k, step) + shift
        opened = yield from forward.open("slope opening", turn, product_)
        high, top = batch.dealt["delta high", k], batch.dealt["delta top", k]
        return truncation.share_truncated(opened, high, top, bits, first=self._first)

    @property
    def _activation(self) -> HiddenActivation:
        assert self._plan.network is not None
        return HIDDEN[self._plan.network.activation]
