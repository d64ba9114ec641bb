"""Trains a generalised linear model as a data party, with a helper that learns nothing.

It does so as scripts.

It sees words that are masked or shared; never another party's features, labels or weights, nor a score or an error.

Symbols are those of `forward`. w_ij is party j's share of block i of the weights, e = c (phi(z) - y) a batch's error.
The label party takes its labels off its own share of e, so that they never leave. With masks r that are used once,

    o = e + r, summed over all data parties' shares        opened
    w_ii -= X_i^T (o - r_i) + g_i,  w_ij -= -E_i^T r_j + r_ij

where r is the sum of a word of each data party. Shares of the other parties' blocks need nothing of what is opened,
and run ahead.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Words, sum_along, total
from tercet.mpc.blind.forward import Batch, BlindForward, nothing
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.interface.script import Await, Receive, Script, Send, Signal, received_words
from tercet.mpc.linear.algebra import NO_DIGESTS, own_update, partner_update, zero_share
from tercet.mpc.linear.data_party import Shares, first_shares
from tercet.mpc.plan.schedule import LEAST_ROWS, OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks

Later = tuple[tuple[int, str, Words], ...]  # as `Send.later`
QUARTERS = 4  # scores of an epoch's last quarter are looked at, and of LEAST_ROWS rows or more
NOTHING_LATER: Mapping[int, Later] = MappingProxyType({})


@dataclass(slots=True)
class _Training:
    """Holds a step's batch and the words that its update needs."""

    batch: Batch
    gradient: Words = field(default_factory=nothing)  # g
    loss: Words = field(default_factory=nothing)  # g of the loss


class BlindParty:
    """Acts as a data party in one attempt; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order, the scripts `prepare_step` and `receive_dealt`, any number of steps ahead, and
    `run_online`. Anything out of turn raises OutOfTurn and changes nothing.

    Args:
        forward: Of this party, over the rows that are trained on.
        label: The label party's index.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        zero_masks: Shared with each other data party, by its index.
        shares: Where to go on from; the first step's zeros if None.
        loss: Where the job wants that.
    """

    def __init__(
        self,
        forward: BlindForward,
        label: int,
        y: Floats | None,
        *,
        zero_masks: Mapping[int, Masks],
        shares: Shares | None = None,
        loss: BlindLoss | None = None,
    ) -> None:
        self._forward, self._label, self._y, self._plan, self._me = forward, label, y, forward.plan, forward.me
        if (y is not None) != (self._me == label) or {*zero_masks} != {*forward.others}:
            raise ValueError("labels belong to the label party, and zero masks to every other data party")
        if y is not None and y.shape != (self._plan.request.rows, self._plan.outputs):
            raise ShapeProblem(f"labels: expected {(self._plan.request.rows, self._plan.outputs)}, got {y.shape}")
        self._zero_masks, self.loss = zero_masks, loss
        start = shares or first_shares(self._me, self._plan)
        self._done, self._own = start.step, start.own
        # By step: these run ahead of the updates, and a step's stay until its update.
        self._partners = {start.step: dict(start.partners)}
        self._intercepts = {start.step: start.intercept}
        self._steps: dict[int, _Training] = {}
        self._turns, self._opening = Turns(start.step), start.step - 1  # the last step whose scores are being opened
        self._spread, self._weight = np.zeros((1, 1), np.uint64), 0.0
        self._opened = hashlib.sha256()

    @property
    def digests(self) -> Mapping[int, bytes]:
        """No digests of the helper's dealing: a wrong one tells it nothing."""
        return NO_DIGESTS

    def shares(self) -> Shares:
        """Return the shares after the last update, whatever has run ahead of it."""
        step = self._done
        return Shares(step, self._own, dict(self._partners[step]), self._intercepts[step])

    # --- ahead of time

    def prepare_step(self, step: Step) -> Script[None]:
        """Send masked words and take in the others'; advance the shares of their blocks."""
        self._turns.begin_step("ahead", step)
        batch, forward = self._forward.begin(step), self._forward
        self._steps[step.index] = _Training(batch)
        along = () if self.loss is None else self.loss.masked_labels(step, batch)
        wait = self._opening < step.index - 1  # for the next opening, which is of the step before this one or earlier
        masked = yield from forward.exchange_inputs(step, batch, self._partners[step.index], along, wait=wait)
        if self.loss is not None:
            yield from self.loss.receive_labels(batch)
        self._advance(step, masked)
        yield Signal("absorbed")

    def _advance(self, step: Step, masked: Mapping[int, Words]) -> None:
        """Take a step on the shares of other parties' blocks.

        Also on that of the intercept, unless this is the label party.
        """
        forward, t = self._forward, step.index
        r = forward.own_mask("r", step)
        self._partners[t + 1] = {
            i: partner_update(share, masked[i], -r, forward.block_mask("R", i, step))
            for i, share in self._partners[t].items()
        }
        if self._me != self._label:
            self._intercepts[t + 1] = self._intercepts[t] - self._back(step, -r)

    def receive_dealt(self, step: Step) -> Script[None]:
        """Receive what the helper deals; streams stand for what it does not send."""
        yield Await("absorbed")
        self._turns.begin_step("dealt", step)
        state, (rows, outputs) = self._steps[step.index], self._own.shape
        loss = 0 if self.loss is None else self.loss.dealt
        words = yield from self._forward.receive_dealt(step, state.batch, rows * outputs + loss, always=True)
        state.gradient, state.loss = words[:, : rows * outputs].reshape(rows, outputs), words[:, rows * outputs :]
        yield Signal("dealt")

    # --- online

    def run_online(self, step: Step) -> Script[None]:
        """Open masked scores, then masked errors, and take the step."""
        yield Await("absorbed")
        state, due = self._steps[step.index], dict.fromkeys(self._forward.others, self._own.shape)
        kind = "masked weights" if len(state.batch.new) else "next weights"
        weights = received_words((yield Receive(kind, 0, due)))
        yield Await("dealt")
        self._turns.begin_step("online", step)
        share, self._opening = self._score_share(step, state.batch, weights), step.index
        opened = yield from self._open("score opening", share, self._take_weights(step))
        self._forward.rotate(step, state.batch, opened)
        opened = yield from self._open("error opening", self._error_share(step, state.batch))
        if self.loss is not None:
            yield from self.loss.add_batch(step, state.batch, state.loss)
        self._update(step, state, opened)
        yield Signal("done")

    def _take_weights(self, step: Step) -> dict[int, Later]:
        """Take masked weights of later steps that wait, by receiver."""
        unsent, self._forward.unsent = self._forward.unsent, {}
        return {
            i: tuple((index - step.index, "next weights", words[i]) for index, words in unsent.items())
            for i in self._forward.others
        }

    def _open(self, kind: str, share: Words, later: Mapping[int, Later] = NOTHING_LATER) -> Script[Words]:
        """Send a share to every other data party; return the sum of all."""
        others = self._forward.others
        for i in others:
            yield Send(kind, 0, (i,), share, later=later.get(i, ()))
        theirs = received_words((yield Receive(kind, 0, dict.fromkeys(others, (share.shape[0], share.shape[1])))))
        opened = total([share, *theirs.values()])
        self._opened.update(np.ascontiguousarray(opened, "<u8").tobytes())
        return opened

    def _score_share(self, step: Step, batch: Batch, weights: Mapping[int, Words]) -> Words:
        """Compute this party's share of z + t, (rows, outputs), f_z fractional bits."""
        if step.index != self._done:
            raise OutOfTurn(f"the step before {step.index} is not done")
        share = self._forward.score_share(batch, self._own, weights)
        share += self._forward.column(step, self._intercepts[step.index])
        offset = self._plan.link.offset
        if offset is not None and self._y is not None:
            share += encode(offset(self._y[batch.rows]) / step.alpha, self._plan.fz)
        return share

    def _error_share(self, step: Step, batch: Batch) -> Words:
        """Compute this party's share of e + r, (rows, outputs), F fractional bits."""
        phi = self._forward.series.phi
        share = self._forward.function(step, batch, phi) + self._forward.own_mask("r", step)
        if self._y is not None:
            target = self._plan.link.target(self._y[batch.rows])
            share += encode(step.scale * (phi.constant - target), self._plan.f)
        return share

    def _update(self, step: Step, state: _Training, opened: Words) -> None:
        error, t = opened - self._forward.own_mask("r", step), step.index
        if step.stop > self._plan.request.rows - max(LEAST_ROWS, self._plan.request.rows // QUARTERS):
            self._add_spread(step, state.batch)
        self._own = own_update(self._own, state.batch.x, error, state.gradient)
        if self._me == self._label:
            self._intercepts[t + 1] = self._intercepts[t] - self._back(step, error)
        del self._partners[t], self._intercepts[t], self._steps[t]
        self._done = t + 1

    def _back(self, step: Step, error: Words) -> Words:
        """Compute what a share of the errors takes off this party's share of the intercept."""
        falls: Words = encode_number(step.after, self._plan.fx) * error.sum(axis=0, keepdims=True, dtype=np.uint64)
        return falls

    # --- once an epoch

    def _add_spread(self, step: Step, batch: Batch) -> None:
        """Add c times the sum of cos(m_1 z) over a batch late in an epoch, by words that are there.

        Scores that run away do so from step to step, and a mean over the epoch would not show the last ones.
        """
        self._spread = self._spread + sum_along(self._forward.first_cosine(step, batch))
        self._weight += step.scale * step.rows * self._plan.outputs

    def take_spread(self, step: Step) -> tuple[Words, float]:
        """Return this party's share of the summed c cos(m_1 z) of an epoch's last batches.

        And what the sum is at scores of 0.

        The share is (1, 1), F fractional bits; uniform, and together with any but all of the others'. `step` is an
        epoch's last.
        """
        share = self._spread + zero_share(self._me, self._zero_masks, step, (1, 1), "spread")
        weight, self._spread, self._weight = self._weight, np.zeros((1, 1), np.uint64), 0.0
        return share, weight

    def opened_digest(self) -> bytes:
        """Return the hash of all words opened so far.

        It is the same at all data parties, or their arithmetic differs.
        """
        return self._opened.digest()
