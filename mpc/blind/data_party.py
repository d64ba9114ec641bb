"""Trains a generalised linear model as a data party with a helper that learns nothing, as scripts.

It sees words that are masked or shared; never another party's features, labels or weights, nor a score or an error.

Symbols: party i's features are X_i, sent once as E_i = X_i - U_i. w_ij is party j's share of block i of the weights.
For each step, with masks that are used once,

    ahead   f_ij = w_ij - v_ij                                                 j -> i
    hop 1   z + t, summed over all data parties' shares                        to every data party
    hop 2   o = e + r, with the error e = c (phi(z) - y) a sum of shares       to every data party
            w_ii -= X_i^T (o - r_i) + g_i,  w_ij -= -E_i^T r_j + r_ij

t and r are sums of a word of each data party's own. The label party takes its labels off its own share of e, so that
they never leave. Shares of the other parties' blocks need nothing of the hops, and run ahead.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Signed, Words, expect, product, sum_along, total
from tercet.mpc.blind.activation import CosSin, evaluate, factors, rotate
from tercet.mpc.blind.sizes import angles_shape, dealt_shape, explicit_party, series_of
from tercet.mpc.functions.series import Terms
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.row_store import FirstUse, RowStore
from tercet.mpc.interface.script import HELPER, Await, Receive, Script, Send, Signal, received_words
from tercet.mpc.linear.algebra import NO_DIGESTS, own_update, partner_update, preactivation_share, zero_share
from tercet.mpc.linear.data_party import Shares, first_shares
from tercet.mpc.plan.blind import angle_unit, step_bits
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


@dataclass(slots=True)
class _Batch:
    """Holds a step's data between what is known ahead and its update."""

    rows: Signed
    x: Words | None = None
    ahead: Words | None = None  # the part of the share of z + t that needs no weights of this step
    dealt: Words | None = None  # this party's share of c cos and c sin of t
    gradient: Words | None = None  # g
    opened: CosSin | None = None  # cos and sin of the multiples of z + t


class BlindParty:
    """Acts as data party `me` in one attempt; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order, the scripts `prepare_step` and `receive_dealt`, any number of steps ahead, and `run_online`.
    Anything out of turn raises OutOfTurn and changes nothing.

    Args:
        me: This party's index.
        label: The label party's.
        plan: The job's agreed numbers.
        x: This party's features, (rows, columns), f_x fractional bits.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        order: Of the rows, which everybody knows.
        helper_masks: Shared with the helper.
        zero_masks: Shared with each other data party, by its index.
        stores: For E of each other data party, (rows, its columns).
        shares: Where to go on from; the first step's zeros if None.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: Plan,
        x: FeatureSource,
        y: Floats | None,
        *,
        order: Order,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        stores: Mapping[int, RowStore],
        shares: Shares | None = None,
    ) -> None:
        columns = plan.columns
        self._me, self._label, self._plan, self._order = me, label, plan, order
        self._others = tuple(i for i in range(len(columns)) if i != me)
        if (y is not None) != (me == label) or {*zero_masks} != {*self._others} or {*stores} != {*self._others}:
            raise ValueError("labels belong to the label party, masks and stores to every other data party")
        if x.shape != (plan.request.rows, columns[me]):
            raise ShapeProblem(f"features: expected {(plan.request.rows, columns[me])}, got {x.shape}")
        if y is not None and y.shape != (plan.request.rows, plan.outputs):
            raise ShapeProblem(f"labels: expected {(plan.request.rows, plan.outputs)}, got {y.shape}")
        self._x, self._y, self._stores, self._series = x, y, stores, series_of(plan)
        self._helper_masks, self._zero_masks = helper_masks, zero_masks
        start = shares or first_shares(me, plan)
        self._done, self._own = start.step, start.own
        # By step: these run ahead of the updates, and a step's stay until its update.
        self._partners = {start.step: dict(start.partners)}
        self._intercepts = {start.step: start.intercept}
        self._batches: dict[int, _Batch] = {}
        self._first, self._turns = FirstUse(plan.request.rows), Turns(start.step)
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
        """Send masked weights, and masked inputs of rows that no step before had; take in the others'."""
        self._turns.begin_step("ahead", step)
        rows = self._order.rows(step)
        new, self._batches[step.index] = self._first.of(rows), _Batch(rows)
        yield from self._send_masked(step, new)
        if len(new):
            due = {i: (len(new), self._plan.columns[i]) for i in self._others}
            for i, words in received_words((yield Receive("masked inputs", 0, due))).items():
                self._stores[i].write_rows(new, words)
        self._absorb(step)
        yield Signal("absorbed")

    def _send_masked(self, step: Step, new: Signed) -> Script[None]:
        weights = {i: share - self._block_mask("V", i, step) for i, share in self._partners[step.index].items()}
        if not len(new):
            for i in self._others:
                yield Send("masked weights", 0, (i,), weights[i])
            return
        x = self._x.read_rows(new)
        x -= self._helper_masks("U", self._me, self._me, step, x.shape)
        for i in self._others:
            yield Send("masked inputs", 0, (i,), x, (("masked weights", weights[i]),))

    def _absorb(self, step: Step) -> None:
        """Advance the shares of other parties' blocks, and unless this is the label party the intercept's."""
        batch, t = self._batches[step.index], step.index
        masked = {i: self._stores[i].read_rows(batch.rows) for i in self._others}
        r = self._own_mask("r", step)
        batch.ahead = total(product(masked[i], self._block_mask("V", i, step)) for i in self._others)
        batch.ahead += self._own_mask("t", step)
        self._partners[t + 1] = {
            i: partner_update(share, masked[i], -r, self._block_mask("R", i, step))
            for i, share in self._partners[t].items()
        }
        if self._me != self._label:
            batch.ahead += self._intercept_column(step)
            self._intercepts[t + 1] = self._intercepts[t] - self._back(step, -r)

    def receive_dealt(self, step: Step) -> Script[None]:
        """Receive what the helper deals; streams stand for what it does not send."""
        yield Await("absorbed")
        self._turns.begin_step("dealt", step)
        shape = dealt_shape(self._plan, self._me, step)
        words = received_words((yield Receive("dealt", 0, {HELPER: shape})))[HELPER]
        words = expect(words, shape, "what the helper dealt")
        batch, block = self._batches[step.index], self._own.shape
        cut = block[0] * block[1]
        batch.gradient = words[:, :cut].reshape(block)
        if self._me == explicit_party(step, len(self._plan.columns)):
            angles = words[:, cut:]
        else:
            angles = self._helper_masks("angles", self._me, self._me, step, angles_shape(self._plan, step))
        batch.dealt = angles.reshape(-1, step.rows, self._plan.outputs)
        yield Signal("dealt")

    # --- online

    def run_online(self, step: Step) -> Script[None]:
        """Open masked scores, then masked errors, and take the step."""
        yield Await("absorbed")
        due = dict.fromkeys(self._others, (self._own.shape[0], self._own.shape[1]))
        weights = received_words((yield Receive("masked weights", 0, due)))
        yield Await("dealt")
        self._turns.begin_step("online", step)
        opened = yield from self._open("score opening", self._score_share(step, weights))
        opened = yield from self._open("error opening", self._error_share(step, opened))
        self._update(step, opened)
        yield Signal("done")

    def _open(self, kind: str, share: Words) -> Script[Words]:
        """Send a share to every other data party; return the sum of all."""
        yield Send(kind, 0, self._others, share)
        theirs = received_words((yield Receive(kind, 0, dict.fromkeys(self._others, share.shape))))
        opened = total([share, *theirs.values()])
        self._opened.update(np.ascontiguousarray(opened, "<u8"))
        return opened

    def _score_share(self, step: Step, weights: Mapping[int, Words]) -> Words:
        """Compute this party's share of z + t, (rows, outputs), f_z fractional bits."""
        batch, shape = self._batch(step), (self._own.shape[0], self._own.shape[1])
        assert batch.ahead is not None
        theirs = [expect(weights[j], shape, f"masked weights of party {j}") for j in self._others]
        batch.x = self._x.read_rows(batch.rows)
        share = preactivation_share(batch.x, total([self._own, *theirs]), batch.ahead)
        if self._me == self._label:
            share += self._intercept_column(step)
            share += self._offset(step, batch.rows)
        return share

    def _error_share(self, step: Step, opened: Words) -> Words:
        """Compute this party's share of e + r, (rows, outputs), F fractional bits."""
        batch, plan, bits = self._batch(step), self._plan, step_bits(step.scale, self._plan.f)
        assert batch.dealt is not None
        batch.opened = rotate(opened, angle_unit(step.alpha, plan.fz, self._series.period), self._series)
        share = evaluate(factors(batch.opened, self._series.phi, bits.public), batch.dealt)
        if self._y is not None:
            target = plan.activation.target(self._y[batch.rows])
            share += encode(step.scale * (self._series.phi.constant - target), plan.f)
        return share + self._own_mask("r", step)

    def _update(self, step: Step, opened: Words) -> None:
        batch = self._batches.pop(step.index)
        assert batch.x is not None
        assert batch.gradient is not None
        error, t = opened - self._own_mask("r", step), step.index
        self._note_spread(step, batch)
        self._own = own_update(self._own, batch.x, error, batch.gradient)
        if self._me == self._label:
            self._intercepts[t + 1] = self._intercepts[t] - self._back(step, error)
        del self._partners[t], self._intercepts[t]
        self._done = t + 1

    # --- once an epoch

    def _note_spread(self, step: Step, batch: _Batch) -> None:
        """Add c times the sum of cos(m_1 z) of a batch, by words that are there."""
        assert batch.opened is not None
        assert batch.dealt is not None
        count = len(self._series.multiples)
        first = Terms(0.0, (0.0,) * count, (1.0, *(0.0,) * (count - 1)), 0.0)
        bits = step_bits(step.scale, self._plan.f)
        share = evaluate(factors(batch.opened, first, bits.public), batch.dealt)
        self._spread = self._spread + sum_along(share)
        self._weight += step.scale * step.rows * self._plan.outputs

    def spread_share(self, step: Step) -> Words:
        """Return this party's share of the summed c cos(m_1 z) since the last call, (1, 1), F fractional bits.

        Uniform, and together with any but all of the others'. `step` is the epoch's last.
        """
        share = self._spread + zero_share(self._me, self._zero_masks, step, (1, 1), "spread")
        self._spread = np.zeros((1, 1), np.uint64)
        return share

    def take_weight(self) -> float:
        """Return what the sum would be if every score were 0, since the last call."""
        weight, self._weight = self._weight, 0.0
        return weight

    def opened_digest(self) -> bytes:
        """Return the hash of all words opened so far: the same at all data parties, or their arithmetic differs."""
        return self._opened.digest()

    # --- parts

    def _batch(self, step: Step) -> _Batch:
        if step.index != self._done or step.index not in self._batches:
            raise OutOfTurn(f"step {step.index} is not prepared, or the one before it not done")
        return self._batches[step.index]

    def _own_mask(self, name: str, step: Step) -> Words:
        """Return words of this party and the helper alone, (rows, outputs)."""
        return self._helper_masks(name, self._me, self._me, step, (step.rows, self._plan.outputs))

    def _block_mask(self, name: str, i: int, step: Step) -> Words:
        """Return this party's v_i or r_i, shaped like party i's block."""
        return self._helper_masks(name, i, self._me, step, (self._plan.columns[i], self._plan.outputs))

    def _intercept_column(self, step: Step) -> Words:
        """Return the intercept's part of every row's share; it has no penalty."""
        return encode_number(1.0 / step.alpha, self._plan.fx) * self._intercepts[step.index]

    def _back(self, step: Step, error: Words) -> Words:
        """Compute what a share of the errors takes off this party's share of the intercept."""
        return encode_number(step.after, self._plan.fx) * error.sum(axis=0, keepdims=True, dtype=np.uint64)

    def _offset(self, step: Step, rows: Signed) -> Words | np.uint64:
        """Compute the label party's term of its labels alone, where the link has one; f_z bits."""
        offset = self._plan.activation.offset
        if offset is None or self._y is None:
            return np.uint64(0)
        return encode(offset(self._y[rows]) / step.alpha, self._plan.fz)
