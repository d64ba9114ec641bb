"""Trains a model as a data party, with a helper that learns nothing.

It does so as scripts.

It sees words that are masked or shared; never another party's features, labels or weights, nor a score or an error.

Symbols are those of `forward`. w_ij is party j's share of block i of the weights, e = c (phi(z) - y) a batch's error.
The label party takes its labels off its own share of e, so that they never leave. With masks r that are used once,

    o = e + r, summed over all data parties' shares        opened
    w_ii -= X_i^T (o - r_i) + sum_j g_ij,  w_ij -= -E_i^T r_j + r_ij

where r is the sum of a word of each data party, and the helper deals g_ij. Shares of the other parties' blocks need
nothing of what is opened, and run ahead. Where rows have weights, e is weighed before it is opened (`weighted`).

In a network o is of layer 0: `layers` says how the scores' error is passed back to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode
from tercet.mpc.arithmetic.ring import ShapeProblem, Words, sum_along
from tercet.mpc.blind.forward import Batch, BlindForward, Later, nothing
from tercet.mpc.blind.layers import NO_OFFSET, BlindLayers
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.blind.sent_rows import SentRows
from tercet.mpc.blind.start import AnyShares, from_layers, to_layers
from tercet.mpc.blind.weighted import WeightedErrors
from tercet.mpc.functions.row_labels import AnyLabels, RowLabels
from tercet.mpc.interface.script import Await, Script, Signal
from tercet.mpc.linear.algebra import zero_share
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.schedule import LEAST_ROWS, OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks

QUARTERS = 4  # scores of an epoch's last quarter are looked at, and of LEAST_ROWS rows or more


@dataclass(slots=True)
class _Training:
    """Holds a step's batch and the words that its update needs."""

    batch: Batch
    mask: Words  # r of layer 0
    loss: Words = field(default_factory=nothing)  # g of the loss


class BlindParty:
    """Acts as a data party in one attempt; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order, the scripts `prepare_step` and `receive_dealt`, any number of steps ahead, and
    `run_online`. Anything out of turn raises OutOfTurn and changes nothing.

    Args:
        forward: Of this party, over the rows that are trained on.
        label: The label party's index.
        y: At the label party the centred labels, (rows, outputs), with offsets if there are any; elsewhere None.
        zero_masks: Shared with each other data party, by its index.
        shares: Where to begin, or to go on from.
        loss: Where the job wants that.
    """

    def __init__(
        self,
        forward: BlindForward,
        label: int,
        y: AnyLabels | None,
        *,
        zero_masks: Mapping[int, Masks],
        shares: AnyShares,
        loss: BlindLoss | None = None,
    ) -> None:
        self._forward, self._label, self._plan, self._me = forward, label, forward.plan, forward.me
        self._y = None if y is None else RowLabels.of(forward.plan.link, y)
        if (y is not None) != (self._me == label) or {*zero_masks} != {*forward.others}:
            raise ValueError("labels belong to the label party, and zero masks to every other data party")
        if y is not None and y.shape != (self._plan.request.rows, self._plan.outputs):
            raise ShapeProblem(f"labels: expected {(self._plan.request.rows, self._plan.outputs)}, got {y.shape}")
        self._zero_masks, self.loss, self.layout = zero_masks, loss, forward.layout
        self._weighted = WeightedErrors(forward, label, self._y) if self._plan.factor_bits else None
        self._layers, start = BlindLayers(forward), to_layers(shares)
        self._done, self._own, self._upper, self._biases = start.step, start.own, start.upper, start.biases
        # By step: these run ahead of the updates, and a step's stay until its update.
        self._partners = {start.step: dict(start.partners)}
        self._intercepts = {start.step: start.biases[0]}
        self._steps: dict[int, _Training] = {}
        self._turns, self._opening = Turns(start.step), start.step - 1  # the last step whose scores are being opened
        self._spread, self._weights = self._no_spread(), np.zeros(self.layout.turns)

    @property
    def digests(self) -> Mapping[int, bytes]:
        """Digests of what this party and each other one have found of the helper's dealing."""
        return self._forward.checks.digests

    @property
    def sent_rows(self) -> SentRows:
        """Masked rows that earlier attempts have sent."""
        return SentRows(self._forward, self._label, self.loss)

    def shares(self) -> AnyShares:
        """Return the shares after the last update, whatever has run ahead of it."""
        return from_layers(self._shares())

    def _shares(self) -> NetworkShares:
        step = self._done
        biases = (self._intercepts[step], *self._biases[1:])
        return NetworkShares(step, self._own, dict(self._partners[step]), self._upper, biases)

    # --- ahead of time

    def prepare_step(self, step: Step) -> Script[None]:
        """Send masked words and take in the others'; advance the shares of their blocks."""
        self._turns.begin_step("ahead", step)
        batch, forward = self._forward.begin(step), self._forward
        mask = forward.mask("r", 0, step)
        self._steps[step.index] = _Training(batch, mask)
        along = () if self.loss is None else self.loss.masked_labels(step, batch)
        wait = self._opening < step.index - 1  # for the next opening, which is of the step before this one or earlier
        known = -mask
        gradients = yield from forward.exchange_inputs(
            step, batch, self._partners[step.index], along, wait=wait, error=known
        )
        if self.loss is not None:
            yield from self.loss.receive_labels(batch)
        self._advance(step, gradients, known)
        yield Signal("absorbed")

    def _advance(self, step: Step, gradients: Mapping[int, Words], known: Words) -> None:
        """Take a step on the shares of other parties' blocks.

        Also on that of layer 0's bias, unless this is the label party.
        """
        t = step.index
        self._partners[t + 1] = {i: share - gradients[i] for i, share in self._partners[t].items()}
        if self._me != self._label:
            self._intercepts[t + 1] = self._intercepts[t] - self._forward.bias_fall(step, known)

    def receive_dealt(self, step: Step) -> Script[None]:
        """Receive what the helper deals, and compare what is opened.

        Streams stand for what it does not send.

        Raises:
            WrongDealing: the helper has dealt other words than it should.
        """
        yield Await("absorbed")
        self._turns.begin_step("dealt", step)
        state, loss = self._steps[step.index], 0 if self.loss is None else self.loss.dealt
        state.loss = yield from self._forward.receive_dealt(step, state.batch, loss)
        yield Signal("dealt")
        yield from self._forward.compare_opened(step)
        yield Signal("checked")

    # --- online

    def run_online(self, step: Step) -> Script[None]:
        """Open masked scores, then masked errors, and take the step."""
        yield Await("absorbed")
        state = self._steps[step.index]
        weights = yield from self._forward.receive_weights(state.batch)
        yield Await("dealt")
        self._turns.begin_step("online", step)
        if step.index != self._done:
            raise OutOfTurn(f"the step before {step.index} is not done")
        later, self._opening = self._take_weights(step), step.index
        offset = self._offset(step, state.batch)
        beside = () if self._weighted is None else self._weighted.opening(step, state.batch)
        yield from self._layers.run_forward(step, state.batch, self._shares(), weights, offset, later, beside)
        opened = yield from self._forward.open("error opening", 0, (yield from self._error_share(step, state.batch)))
        if self.loss is not None:
            yield from self.loss.add_batch(step, state.batch, state.loss)
        back = yield from self._layers.run_back(step, state.batch, opened, self._upper, self._biases)
        opened, self._upper, self._biases = back
        self._update(step, state, opened)
        if step.position + 1 == self._plan.steps_per_epoch:  # no epoch ends before what was opened in it is compared
            yield Await("checked")
        yield Signal("done")

    def _take_weights(self, step: Step) -> dict[int, Later]:
        """Take masked weights of later steps that wait, by receiver."""
        unsent, self._forward.unsent = self._forward.unsent, {}
        return {
            i: tuple((index - step.index, "next weights", words[i]) for index, words in unsent.items())
            for i in self._forward.others
        }

    def _offset(self, step: Step, batch: Batch) -> Words | np.uint64:
        """Compute the label party's term of every score, where the link has one, or rows have."""
        shift = None if self._y is None else self._y[batch.rows].shift
        return NO_OFFSET if shift is None else encode(shift / step.alpha, self._plan.fz)

    def _error_share(self, step: Step, batch: Batch) -> Script[Words]:
        """Compute this party's share of e + r, (rows, outputs), F fractional bits."""
        series = batch.output.numbers.series
        if self._weighted is None:
            share: Words = batch.output.shares([(series.phi, 1.0)])[0]
        else:
            share = yield from self._weighted.error_share(step, batch)
        share = share + self._forward.mask("r", self.layout.output, step)
        if self._y is not None:
            share += encode(step.scale * self._y[batch.rows].known_error(*series.constants), self._plan.f)
        return share

    def _update(self, step: Step, state: _Training, opened: Words) -> None:
        """Take the step on this party's block of layer 0, from that layer's opened error."""
        error, t = opened - state.mask, step.index
        if step.stop > self._plan.request.rows - max(LEAST_ROWS, self._plan.request.rows // QUARTERS):
            self._add_spread(state.batch)
        found = state.batch.x.transposed_product(self._forward.checks.with_rows(step, error))
        self._own = self._own - found[:, : error.shape[1]] - state.batch.gradient
        self._forward.checks.add_rows(step, found[:, error.shape[1] :])
        if self._me == self._label:
            self._intercepts[t + 1] = self._intercepts[t] - self._forward.bias_fall(step, error)
        del self._partners[t], self._intercepts[t], self._steps[t]
        self._done = t + 1

    # --- once in a while

    def check_rows(self, step: Step, *, asked: bool = False) -> Script[None]:
        """Exchange check rows where that is due after a step.

        Or where it is `asked` for, as before a checkpoint.
        """
        if asked or self._forward.checks.is_due(step):
            yield from self._forward.checks.exchange()

    def _no_spread(self) -> Words:
        return np.zeros((1, self.layout.turns), np.uint64)

    def _add_spread(self, batch: Batch) -> None:
        """Add the sums of c cos(m_1 z) over a batch late in an epoch, of each layer.

        The words are there already. Scores that run away do so from step to step, and a mean over the epoch would not
        show the last ones.
        """
        for k, layer in enumerate(batch.layers):
            cosines = layer.first_cosine()
            self._spread[:, k : k + 1] += sum_along(cosines)
            self._weights[k] += layer.numbers.scale * cosines.size

    def take_spread(self, step: Step) -> tuple[Words, Floats]:
        """Return this party's share of each layer's sum of c cos(m_1 z).

        It is over an epoch's last batches. Beside it is what the sums are at pre-activations of 0.

        The share is (1, layers), the last with F fractional bits and hidden ones with P; uniform, and together with any
        but all of the others'. `step` is an epoch's last.
        """
        share = self._spread + zero_share(self._me, self._zero_masks, step, self._spread.shape, "spread")
        weights, self._spread, self._weights = self._weights, self._no_spread(), np.zeros(self.layout.turns)
        return share, weights

    def opened_digest(self) -> bytes:
        """Return the hash of all words opened so far.

        It is the same at all data parties, or their arithmetic differs.
        """
        return self._forward.digest()
