"""Trains a network as a data party: prepares, opens and computes each step, as scripts.

It sees words that are masked or shared; no activation, error, gradient or weight in clear.

The forward pass is in `forward` and the way back in `backward`; layer 0 is updated as in section 5 of the
protocol, with p_i = delta_i + sum_j (delta_j - s_ij).
"""

from collections.abc import Callable, Mapping

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import HELPER, Await, Receive, Script, Send, Signal, received_words, sum_shares
from tercet.mpc.linear.ahead import NO_OPENINGS
from tercet.mpc.linear.algebra import own_update, partner_update
from tercet.mpc.linear.checks import Checks
from tercet.mpc.linear.loss import LossParty
from tercet.mpc.network.backward import BackwardParty
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import CARRIER, NARROW_BITS, Entry, flat, pack, unpack
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


class NetworkParty(BackwardParty):
    """Acts as data party `me` in one attempt; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order, the scripts `prepare_step` and those of `beside`, any number of steps ahead, and
    `run_online`; all are driven side by side. Anything out of turn raises OutOfTurn and changes nothing.

    Args:
        me, plan, x, order, elements, helper_masks, zero_masks: As `ForwardParty` has them, of the purpose training.
        label: The label party's index.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        shares, checks: As `BackwardParty` has them.
        loss: Where the job wants that.
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
        elements: Elements,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        shares: NetworkShares,
        checks: Checks | None = None,
        loss: LossParty | None = None,
    ) -> None:
        super().__init__(
            me, label, plan, x, order=order, elements=elements, helper_masks=helper_masks, zero_masks=zero_masks,
            shares=shares, checks=checks,
        )  # fmt: skip
        self._y, self._f, self._plan, self.loss, self._first = y, plan.f, plan, loss, shares.step
        self._labels: dict[int, Words] = {}  # y~ by step, at the label party
        self._partners = {shares.step: dict(shares.partners)}  # by step: these run ahead
        self._openings: dict[int, dict[int, Words]] = {}  # by step, what goes with the inputs where dealing is checked
        self._known: dict[int, dict[int, Words]] = {}  # s_i of every other data party i by step, until it is absorbed
        self._turns = Turns(shares.step)

    @property
    def beside(self) -> dict[str, Callable[[Step], Script[None]]]:
        """Scripts of each step that go beside the other two, by the name of their loop."""
        return {"dealt": self.receive_dealt, "openings": self.open_weights}

    def shares(self) -> NetworkShares:
        """Return the shares after the last step that is done, whatever has run ahead of it."""
        return self._shares

    # --- ahead of time

    def prepare(self, step: Step) -> tuple[Words, Words, Words | None, dict[int, Words]]:
        """Compute E_me, D_me, y~ at the label party, and f_(i,me) by receiver."""
        if step.index not in self._partners:
            raise OutOfTurn(f"the step before {step.index} is not absorbed")
        self._turns.begin_step("ahead", step)
        inputs, openings = self.masked_inputs(step)
        shape = self.layout.below(0, step.rows)
        known = self._known[step.index] = {i: self.block_mask("S", i, step, shape) for i in self.others}
        if self.checks is not None:
            self._openings[step.index] = self.checks.openings(step, self.state(step).x - inputs, known)
        labels = None
        if self._y is not None:
            labels = self._encoded_labels(step, self._y) - self.label_mask(step)
            self._labels[step.index] = labels
        return inputs, openings, labels, self.masked_weights(step, self._partners[step.index])

    def absorb(
        self,
        step: Step,
        inputs: Mapping[int, Words],
        openings: Mapping[int, Words],
        checks: Mapping[int, Words] = NO_OPENINGS,
    ) -> None:
        """Take in E_i, D_i and what is checked of every other data party.

        Shares of their blocks go on a step.
        """
        received = {} if self.checks is None else self.checks.expect_openings(step, checks)
        super().absorb(step, inputs, openings)
        self._turns.begin_step("absorb", step)
        known = self._known.pop(step.index)
        rs = {i: self.block_mask("R", i, step, self.layout.block(i)) for i in self.others}
        if self.checks is not None:
            self.checks.absorb(step, received, known, rs)
        self._partners[step.index + 1] = {
            i: partner_update(share, inputs[i], known[i], rs[i]) for i, share in self._partners[step.index].items()
        }

    def absorb_dealt(self, step: Step, words: Words) -> None:
        """Take in what the helper deals: this party's g_me, and at the carrier all products.

        Raises:
            ShapeProblem: naming the helper, if it has the wrong length.
        """
        state, entries = self.state(step), self._dealt_entries(step)
        dealt = unpack(entries, words, "what the helper dealt")
        self._turns.begin_step("dealt", step)
        state.dealt = dealt
        if self.me != CARRIER:
            state.dealt |= self.dealt_streams(step, self.layout.dealt(step.rows, smooth=self._smooth))

    def _dealt_entries(self, step: Step) -> tuple[Entry, ...]:
        """List the tensors that the helper deals this party."""
        plan = self._plan
        return self.layout.dealt_to(self.me, step.rows, smooth=self._smooth, checks=plan.checks)

    def _encoded_labels(self, step: Step, y: Floats) -> Words:
        """Scale y at F fractional bits, under the signs of the rows, classes in secret order."""
        state = self.state(step)
        return state.signs * encode(step.scale * y[self.order.rows(step)], self._f)[:, state.classes]

    def prepare_step(self, step: Step) -> Script[None]:
        """Send this party's masked words and receive the others', as a script.

        What the helper deals is apart.
        """
        inputs, openings, labels, weights = self.prepare(step)
        loss_labels = None if self.loss is None or labels is None else self.loss.masked_labels(step)
        checked = self._openings.pop(step.index, {})
        for i in self.others:
            along = [("mask openings", openings), ("masked weights", weights[i])]
            if labels is not None:
                along.append(("masked labels", labels))
            if loss_labels is not None:
                along.append(("loss labels", loss_labels))
            if self.checks is not None:
                along.append(("checks", checked[i]))
            yield Send("masked inputs", 0, (i,), inputs, tuple(along))
        yield Signal("masked")
        theirs = received_words(
            (yield Receive("masked inputs", 0, {i: (step.rows, self.layout.columns[i]) for i in self.others}))
        )
        opened = received_words((yield Receive("mask openings", 0, dict.fromkeys(self.others, openings.shape))))
        if self.checks is None:
            self.absorb(step, theirs, opened)
        else:
            due = dict.fromkeys(self.others, self.checks.sizes.opened(step.rows))
            self.absorb(step, theirs, opened, received_words((yield Receive("checks", 0, due))))
        if self.loss is not None and self.me != self._label:
            yield from self.loss.receive_labels(step)
        yield Signal("absorbed")

    def receive_dealt(self, step: Step) -> Script[None]:
        """Receive the words that the helper deals."""
        yield Await("masked")
        dealt = received_words((yield Receive("dealt", 0, {HELPER: flat(self._dealt_entries(step))})))
        self.absorb_dealt(step, dealt[HELPER])
        yield Signal("dealt")

    # --- the weights above layer 0, opened under masks while the layers below are under way

    def open_weights(self, step: Step) -> Script[None]:
        """Open weights in two rounds; needs the weights as the step before leaves them."""
        yield Await("absorbed")
        if step.index == self._first:  # no step before it has made these
            yield Signal("weights")
        yield Await("weights")
        self._turns.begin_step("openings", step)
        layout, others = self.layout, tuple(self.others)
        entries = layout.weights("G", "c")
        mine = self.weight_openings(step, self._upper) | self._truncated_weights(step)
        opened = yield from sum_shares("weight opening", 0, pack(entries, mine), others)
        self.state(step).weights |= unpack(entries, opened, "opened weights")
        yield Signal("forward")
        entries = layout.weights("T")
        yield Await("dealt")
        opened = yield from sum_shares("narrow opening", 0, pack(entries, self._narrow_openings(step)), others)
        self.state(step).weights |= unpack(entries, opened, "opened weights")
        yield Signal("backward")

    def _truncated_weights(self, step: Step) -> dict[tuple[str, int], Words]:
        """Return the openings that truncate each upper layer from f_w to 20 fractional bits."""
        found = {}
        for k in self.layout.hidden:
            share = self.in_secret_order(step, k, self._upper[k]) + self.mask("rw", k, step, self.layout.upper(k))
            found["c", k] = share + truncation.SHIFT if self.me == 0 else share
        return found

    def _narrow_openings(self, step: Step) -> dict[tuple[str, int], Words]:
        """Compute T_me from the narrow shares, which are kept."""
        state, found = self.state(step), {}
        for k in self.layout.hidden:
            shape = self.layout.upper(k)
            c = truncation.read_opened(state.weights.pop(("c", k)), self.plan.fw - NARROW_BITS)
            narrow = c.factor * self.dealt(step, "tw", k) - self.dealt(step, "hw", k)
            if self.me == 0:
                narrow += c.constant
            state.weights["narrow", k] = narrow
            found["T", k] = narrow - self.mask("v", k, step, shape)
        return found

    # --- online

    def run_online(self, step: Step) -> Script[None]:
        """Run the step itself."""
        yield Await("absorbed")
        due = dict.fromkeys(self.others, self.layout.block(self.me))
        weights = received_words((yield Receive("masked weights", 0, due)))
        yield Await("dealt")
        self._turns.begin_step("online", step)
        yield from self.run_forward(step, self._shares, weights, training=True)
        error = yield from self._receive_error(step)
        if self.loss is not None and self.me == self._label:
            yield from self.loss.receive_terms(step)
        delta = yield from self.run_backward(step, error)
        yield from self._update_first(step, delta)
        yield Signal("done")

    def _receive_error(self, step: Step) -> Script[Words]:
        """Receive E = p - y~, which every data party may know.

        F bits, under the rows' signs, classes in secret order.
        """
        shape = (step.rows, self.layout.outputs)
        if self.me == self._label:
            labels = self._labels.pop(step.index)
        else:
            labels = received_words((yield Receive("masked labels", 0, {self._label: shape})))[self._label]
        answer = received_words((yield Receive("output answer", 0, {HELPER: shape})))[HELPER]
        return answer - labels

    def _update_first(self, step: Step, delta: Words) -> Script[None]:
        """Take the step on this party's own block of layer 0."""
        shape = delta.shape
        for i in self.others:
            yield Send("masked error", 0, (i,), delta - self.block_mask("S", i, step, shape))
        theirs = received_words((yield Receive("masked error", 0, dict.fromkeys(self.others, shape))))
        state = self.state(step)
        assert state.dealt is not None
        g = state.dealt["g", 0] if self.checks is None else self.checks.gradient(step, state.dealt["g", 0])
        own = own_update(self._shares.own, state.x, total([delta, *theirs.values()]), g)
        falls = encode_number(step.after, self.plan.fx) * delta.sum(axis=0, keepdims=True)
        self._biases = (self._biases[0] - falls, *self._biases[1:])
        partners = self._partners[step.index + 1]
        self._shares = NetworkShares(step.index + 1, own, partners, self._upper, self._biases)
        del self._partners[step.index], self._states[step.index]
