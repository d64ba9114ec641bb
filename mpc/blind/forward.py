"""Passes batches forward as a data party, from columns to cos and sin of masked scores.

Symbols: party i's features X_i are sent once, when a batch has a row for the first time, as E_i = X_i - U_i. For each
batch, with masks that are used once,

    f_ij = w_ij - v_ij                                                          j -> i
    c_ij = U_i v_ij - p_ij                                                      helper -> i
    z    = sum_i X_i (w_ii + sum_j f_ij) + sum_ij (c_ij + E_i v_ij + p_ij)      in shares
    unit z + t                                                                  opened, t = sum_j t_j

where `unit` makes an angle of z (`plan.blind`), and the helper alone knows t. It deals shares of cos and sin of t.
These depend on no row, no weight and no number of the step. What stands between layer 0 and the output is in `layers`;
how c_ij is checked, in `row_checks`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.fixed import encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, expect, total
from tercet.mpc.arithmetic.stored_rows import StoredRows
from tercet.mpc.blind.input_rows import InputRows
from tercet.mpc.dealing.activation import MaskedLayer
from tercet.mpc.dealing.bundles import ChosenBundles, StepBundles
from tercet.mpc.dealing.received import OpenKey, ReceivedBundles
from tercet.mpc.dealing.row_checks import RowChecks
from tercet.mpc.dealing.row_words import gradient_masks
from tercet.mpc.dealing.sizes import BlindLayout, layer_name
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.row_store import FirstUse, RowStore
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, receive_sum, received_words
from tercet.mpc.plan.architecture import Tensors, flat, unpack
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order

Along = tuple[tuple[str, Words], ...]  # as `Send.along`
Later = tuple[tuple[int, str, Words], ...]  # as `Send.later`
NOTHING_LATER: Mapping[int, Later] = MappingProxyType({})


def nothing() -> Words:
    """Return words that are not there yet."""
    return np.zeros((0, 0), np.uint64)


@dataclass(slots=True)
class HiddenLayer:
    """Holds what is known of a hidden layer's activations in a batch, and of the weights above."""

    activation: Words = field(default_factory=nothing)  # Q
    slope: Words = field(default_factory=nothing)  # S, where the pass trains
    weights: Words = field(default_factory=nothing)  # T
    narrow: Words = field(default_factory=nothing)  # this party's share of W'


@dataclass(slots=True)
class Batch:
    """Holds a batch's rows, and what is known of it so far."""

    rows: Signed
    new: Signed  # those that no batch before had
    places: Signed  # of the rows, by their first use
    new_places: Signed
    layers: tuple[MaskedLayer, ...]
    hidden: tuple[HiddenLayer, ...]
    ahead: Words = field(default_factory=nothing)  # of the share of z, what needs no own weights
    product: Words = field(default_factory=nothing)  # c_ij, summed
    gradient: Words = field(default_factory=nothing)  # g_ij, summed
    x: StoredRows = field(init=False)  # this party's features, once they are multiplied
    dealt: Tensors = field(default_factory=dict)

    @property
    def output(self) -> MaskedLayer:
        """The scores."""
        return self.layers[-1]


class BlindForward:
    """Acts as data party `me` in forward passes. Not to be shared by threads.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        x: This party's features, (rows, columns), f_x fractional bits.
        order: Of the rows, which everybody knows.
        helper_masks: Shared with the helper.
        stores: For E of each other data party, (rows, its columns and check columns).
        row_masks: Of U, where other masks than `helper_masks` hide rows.
        first_use: Of the rows; None: no row was sent yet.
        bundles: Which are dealt, where a way back follows each pass; None where none does.
        open_key: As `ReceivedBundles` has it.
        checks: Of what is dealt by masks on rows.
    """

    def __init__(
        self,
        me: int,
        plan: Plan,
        x: FeatureSource,
        *,
        order: Order,
        helper_masks: Masks,
        stores: Mapping[int, RowStore],
        row_masks: Masks | None = None,
        first_use: FirstUse | None = None,
        bundles: ChosenBundles | None = None,
        open_key: OpenKey | None = None,
        checks: RowChecks | None = None,
    ) -> None:
        self.me, self.plan, self.layout, self.trains = me, plan, BlindLayout(plan), bundles is not None
        self.others, self.checks = self.layout.others(me), checks or RowChecks(me, plan, helper_masks)
        self.inputs = InputRows(me, plan, x, stores=stores, masks=row_masks or helper_masks, checks=self.checks)
        self._order, self._masks, self._first = order, helper_masks, first_use or FirstUse(x.shape[0])
        self._digest = hashlib.sha256()
        self._bundles = ReceivedBundles(
            me, plan, helper_masks, bundles or StepBundles(len(plan.columns)), trains=self.trains, open_key=open_key
        )
        self.unsent: dict[int, dict[int, Words]] = {}  # masked weights by step and receiver

    def begin(self, step: Step) -> Batch:
        """Begin a batch; in the order of steps."""
        rows = self._order.rows(step)
        layers = tuple(MaskedLayer(self.layout.numbers(step, k)) for k in range(self.layout.turns))
        new, hidden = self._first.of(rows), tuple(HiddenLayer() for _ in self.layout.hidden)
        return Batch(rows, new, self._first.places(rows), self._first.places(new), layers, hidden)

    def begin_again(self, step: Step) -> Batch:
        """Begin a batch of an earlier attempt, all of whose rows were new."""
        rows = self._order.rows(step)
        places = self._first.places(rows)
        return Batch(rows, rows, places, places, (), ())

    # --- ahead of time

    def exchange_inputs(
        self,
        step: Step,
        batch: Batch,
        partners: Mapping[int, Words],
        along: Along = (),
        *,
        wait: bool = False,
        error: Words | None = None,
    ) -> Script[Mapping[int, Words]]:
        """Send masked weights, and masked inputs of new rows; compute what follows from E.

        Return this party's share of each other block's gradient, from its known share of the `error`, if it has any.

        `partners` are this party's shares of the other parties' blocks; `along` goes with new rows. Weights that may
        `wait` stay in `unsent` where there is no new row.
        """
        yield from self._send(step, batch, partners, along, wait=wait)
        if len(batch.new):
            yield from self.inputs.receive(batch.new_places)
        gradients, scores = {}, []
        for i in self.others:
            masked, v = self.inputs.stored(i, batch.places), self.block_mask("V", i, step)
            if error is None:
                scores.append(self._scored_ahead(step, i, masked.product(v)))
            else:
                product, gradient = masked.products(v, error)
                scores.append(self._scored_ahead(step, i, product))
                gradients[i] = self._gradient_ahead(step, i, gradient)
        batch.ahead = total(scores)
        return gradients

    def _scored_ahead(self, step: Step, i: int, share: Words) -> Words:
        """Compute this party's share of what party i's rows score, known ahead, from E_i v_ij."""
        share += self._masks("P", i, self.me, step, self.layout.product(step))
        self.checks.add_scores(step, i, share)
        return share

    def _gradient_ahead(self, step: Step, i: int, share: Words) -> Words:
        """Compute this party's share of block i's gradient likewise, (columns, width)."""
        block = (self.plan.columns[i], self.layout.widths[0])
        share = share + gradient_masks(self._masks, step, (i, self.me), block, self.checks.count)
        self.checks.add_gradient(step, i, share)
        return share[: block[0]]

    def _send(
        self, step: Step, batch: Batch, partners: Mapping[int, Words], along: Along, *, wait: bool
    ) -> Iterator[Send]:
        weights = {i: share - self.block_mask("V", i, step) for i, share in partners.items()}
        if not len(batch.new):
            if wait:
                self.unsent[step.index] = weights
            else:
                yield from (Send("next weights", 0, (i,), words) for i, words in weights.items())
            return
        x = self.inputs.masked(step, batch.new)
        yield from (Send("masked inputs", 0, (i,), x, (("masked weights", weights[i]), *along)) for i in self.others)

    def receive_dealt(self, step: Step, batch: Batch, more: int) -> Script[Words]:
        """Receive what the helper deals.

        Return the words beside those that go by masks on rows and those of bundles, (1, more).
        """
        entries = self.layout.row_words(self.me, step.rows, self.checks.count, trains=self.trains)
        _, own = flat(entries)
        shape = (1, own + more + self._bundles.due(step))
        words = expect(
            received_words((yield Receive("dealt", 0, {HELPER: shape})))[HELPER], shape, "what the helper dealt"
        )
        self._accept_row_words(step, batch, unpack(entries, words[:, :own], "what the helper dealt"))
        batch.dealt = self._bundles.accept(step, words[:, own + more :])
        for k, layer in enumerate(batch.layers):
            layer.dealt = batch.dealt.pop(("angles", k)).reshape(-1, step.rows, self.layout.widths[k])
        return words[:, own : own + more]

    def _accept_row_words(self, step: Step, batch: Batch, dealt: Tensors) -> None:
        batch.product = total(dealt["c", j] for j in self.others)
        if self.trains:
            batch.gradient = total(dealt["g", j] for j in self.others)
        self.checks.add_dealt(step, dealt)

    def compare_opened(self, step: Step) -> Script[None]:
        """Compare the bundle that was dealt with a step and is opened, if one is (`received`)."""
        yield from self._bundles.compare(step)

    def receive_weights(self, batch: Batch) -> Script[Mapping[int, Words]]:
        """Receive masked shares of this party's block from all others."""
        due = dict.fromkeys(self.others, (self.plan.columns[self.me], self.layout.widths[0]))
        kind = "masked weights" if len(batch.new) else "next weights"
        return received_words((yield Receive(kind, 0, due)))

    # --- online

    def score_share(self, batch: Batch, weights: Words, received: Mapping[int, Words]) -> Words:
        """Compute this party's share of layer 0's z but for the bias.

        (rows, width), f_z fractional bits.

        `weights` is this party's share of its own block, `received` the others' under masks.
        """
        shape = (weights.shape[0], weights.shape[1])
        theirs = [expect(received[j], shape, f"masked weights of party {j}") for j in self.others]
        batch.x = self.inputs.own(batch.rows)
        return batch.x.product(total([weights, *theirs])) + batch.ahead + batch.product

    def open_angles(
        self,
        step: Step,
        batch: Batch,
        k: int,
        share: Words,
        *,
        along: Along = (),
        later: Mapping[int, Later] = NOTHING_LATER,
    ) -> Script[None]:
        """Open layer k's pre-activations as masked angles; `share` is this party's of them."""
        masked = share * batch.layers[k].numbers.unit + self.mask("t", k, step)
        batch.layers[k].opened = yield from self.open("score opening", k, masked, along, later)

    def open(
        self,
        kind: str,
        turn: int,
        share: Words,
        along: Along = (),
        later: Mapping[int, Later] = NOTHING_LATER,
    ) -> Script[Words]:
        """Send a share to every other data party; return the sum of all."""
        for i in self.others:
            yield Send(kind, turn, (i,), share, along, later.get(i, ()))
        return (yield from self.add_shares(kind, turn, share))

    def add_shares(self, kind: str, turn: int, share: Words) -> Script[Words]:
        """Add the others' shares to this party's, which it has sent."""
        opened = yield from receive_sum(kind, turn, share, self.others)
        self._digest.update(np.ascontiguousarray(opened, "<u8").tobytes())
        return opened

    def digest(self) -> bytes:
        """Return the hash of all words opened so far.

        It is the same at all data parties, or their arithmetic differs.
        """
        return self._digest.digest()

    # --- masks

    def mask(self, name: str, k: int, step: Step, shape: tuple[int, int] | None = None) -> Words:
        """Return words of layer k that this party and the helper alone have.

        (rows, width) if nothing is said. They are of the step's bundle, but for r of layer 0, which meets rows.
        """
        masks = self._masks if (name, k) == ("r", 0) else self._bundles.masks(step)
        return masks(layer_name(name, k), self.me, self.me, step, shape or (step.rows, self.layout.widths[k]))

    def block_mask(self, name: str, i: int, step: Step) -> Words:
        """Return this party's v_ij, shaped like party i's block."""
        return self._masks(name, i, self.me, step, (self.plan.columns[i], self.layout.widths[0]))

    def bias_fall(self, step: Step, error: Words) -> Words:
        """Compute what a share of a layer's errors takes off this party's share of its bias.

        (1, width).
        """
        falls: Words = encode_number(step.after, self.plan.fx) * error.sum(axis=0, keepdims=True, dtype=np.uint64)
        return falls

    def column(self, step: Step, bias: Words) -> Words:
        """Return the part of a share of a bias in every row's pre-activation; it has no penalty."""
        return encode_number(1.0 / step.alpha, self.plan.fx) * bias
