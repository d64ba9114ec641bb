"""A data party's side of training a network: what it prepares, opens and does in each step, as scripts.

It sees words that are masked or shared; no activation, error, gradient or weight in clear.

The forward pass is `network_forward`'s and the way back `network_back`'s; layer 0 is updated as in section 5 of the
protocol, with p_i = delta_i + sum_j (delta_j - s_ij).
"""

from collections.abc import Mapping

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.interface.rows import Rows
from tercet.mpc.interface.script import HELPER, Give, Mark, Need, Script, Take, taken
from tercet.mpc.linear.algebra import own_update, partner_update
from tercet.mpc.linear.checks import Checks
from tercet.mpc.linear.data_party import NO_OPENINGS
from tercet.mpc.linear.loss import LossParty
from tercet.mpc.network.backward import BackwardParty
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import CARRIER, NARROW_BITS, Entry, flat, pack, unpack
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.order import Order


class NetworkParty(BackwardParty):
    """Data party `me` in one attempt; `label` is the index of the label party. Not to be shared by threads.

    For each step, in order: `ahead`, `absorb` and `take_dealt`, any number of steps before `openings` and `online`,
    which are scripts to be driven side by side. Anything out of turn raises OutOfTurn and changes nothing.

    Args:
        me, plan, x, order, elements, helper_masks, zero_masks: As `ForwardParty` has them, of the purpose training.
        label: The label party's index.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        shares, checks: As `BackwardParty` has them.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: Plan,
        x: Rows,
        y: Floats | None,
        *,
        order: Order,
        elements: Elements,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        shares: NetworkShares,
        checks: Checks | None = None,
    ) -> None:
        super().__init__(
            me, label, plan, x, order=order, elements=elements, helper_masks=helper_masks, zero_masks=zero_masks,
            shares=shares, checks=checks,
        )  # fmt: skip
        self._y, self._f, self._plan = y, plan.f, plan
        self._labels: dict[int, Words] = {}  # y~ by step, at the label party
        self._partners = {shares.step: dict(shares.partners)}  # by step: these run ahead
        self._openings: dict[int, dict[int, Words]] = {}  # by step, what goes with the inputs where dealing is checked
        self._known: dict[int, dict[int, Words]] = {}  # s_i of every other data party i by step, until it is absorbed
        self._turns = Turns(shares.step)

    def shares(self) -> NetworkShares:
        """After the last step that is done, whatever has run ahead of it."""
        return self._shares

    # --- ahead of time

    def ahead(self, step: Step) -> tuple[Words, Words, Words | None, dict[int, Words]]:
        """E_me; D_me; at the label party y~; f_(i,me) by the party to whom it goes."""
        if step.index not in self._partners:
            raise OutOfTurn(f"the step before {step.index} is not absorbed")
        self._turns.take("ahead", step)
        inputs, openings = self.masked_inputs(step)
        shape = self.layout.below(0, step.rows)
        known = self._known[step.index] = {i: self.block_mask("S", i, step, shape) for i in self.others}
        if self.checks is not None:
            self._openings[step.index] = self.checks.opened(step, self.state(step).x - inputs, known)
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
        """Take in E_i, D_i and what is checked of every other data party; shares of their blocks go on a step."""
        received = {} if self.checks is None else self.checks.expected(step, checks)
        super().absorb(step, inputs, openings)
        self._turns.take("absorb", step)
        known = self._known.pop(step.index)
        rs = {i: self.block_mask("R", i, step, self.layout.block(i)) for i in self.others}
        if self.checks is not None:
            self.checks.absorb(step, received, known, rs)
        self._partners[step.index + 1] = {
            i: partner_update(share, inputs[i], known[i], rs[i]) for i, share in self._partners[step.index].items()
        }

    def take_dealt(self, step: Step, words: Words) -> None:
        """Take in what the helper deals: this party's g_me, and at the carrier all products.

        Raises:
            ShapeProblem: naming the helper, if it has the wrong length.
        """
        state, entries = self.state(step), self._due(step)
        dealt = unpack(entries, words, "what the helper dealt")
        self._turns.take("dealt", step)
        state.dealt = dealt
        if self.me != CARRIER:
            state.dealt |= self.streamed(step, self.layout.dealt(step.rows, smooth=self._smooth))

    def _due(self, step: Step) -> tuple[Entry, ...]:
        """What the helper deals this party."""
        plan = self._plan
        return self.layout.dealt_to(self.me, step.rows, smooth=self._smooth, checks=plan.checks)

    def _encoded_labels(self, step: Step, y: Floats) -> Words:
        """Scale y at F fractional bits, under the signs of the rows, classes in secret order."""
        state = self.state(step)
        return state.signs * encode(step.scale * y[self.order.rows(step)], self._f)[:, state.classes]

    def preparing(self, step: Step, loss: LossParty | None = None) -> Script[None]:
        """All but what the helper deals, as a script: sends this party's masked words and takes the others'."""
        inputs, openings, labels, weights = self.ahead(step)
        loss_labels = None if loss is None or labels is None else loss.masked_labels(step)
        checked = self._openings.pop(step.index, {})
        for i in self.others:
            along = [("mask openings", openings), ("masked weights", weights[i])]
            if labels is not None:
                along.append(("masked labels", labels))
            if loss_labels is not None:
                along.append(("loss labels", loss_labels))
            if self.checks is not None:
                along.append(("checks", checked[i]))
            yield Give("masked inputs", 0, (i,), inputs, tuple(along))
        yield Mark("masked")
        theirs = taken((yield Take("masked inputs", 0, {i: (step.rows, self.layout.columns[i]) for i in self.others})))
        opened = taken((yield Take("mask openings", 0, dict.fromkeys(self.others, openings.shape))))
        if self.checks is None:
            self.absorb(step, theirs, opened)
        else:
            due = dict.fromkeys(self.others, self.checks.sizes.opened(step.rows))
            self.absorb(step, theirs, opened, taken((yield Take("checks", 0, due))))
        if loss is not None and self.me != self._label:
            shape = (step.rows, self.layout.outputs)
            loss.absorb(step, taken((yield Take("loss labels", 0, {self._label: shape})))[self._label])
        yield Mark("absorbed")

    def receiving(self, step: Step) -> Script[None]:
        """Takes what the helper deals."""
        yield Need("masked")
        dealt = taken((yield Take("dealt", 0, {HELPER: flat(self._due(step))})))
        self.take_dealt(step, dealt[HELPER])
        yield Mark("dealt")

    # --- the weights above layer 0, opened under masks while the layers below are under way

    def openings(self, step: Step) -> Script[None]:
        """Two rounds; needs the weights as the step before leaves them."""
        yield Need("absorbed")
        yield Need("weights")
        self._turns.take("openings", step)
        layout, others = self.layout, tuple(self.others)
        entries = layout.weights("G", "c")
        mine = self.weight_openings(step, self._upper) | self._truncated_weights(step)
        summed = yield from self.summed("weight opening", 0, pack(entries, mine), others)
        self.state(step).weights |= unpack(entries, summed, "opened weights")
        yield Mark("forward")
        entries = layout.weights("T")
        yield Need("dealt")
        summed = yield from self.summed("narrow opening", 0, pack(entries, self._narrow_openings(step)), others)
        self.state(step).weights |= unpack(entries, summed, "opened weights")
        yield Mark("backward")

    def _truncated_weights(self, step: Step) -> dict[tuple[str, int], Words]:
        """The openings that truncate each upper layer from f_w to 20 fractional bits."""
        found = {}
        for k in self.layout.hidden:
            share = self.in_view(step, k, self._upper[k]) + self.mask("rw", k, step, self.layout.upper(k))
            found["c", k] = share + truncation.SHIFT if self.me == 0 else share
        return found

    def _narrow_openings(self, step: Step) -> dict[tuple[str, int], Words]:
        """T_me, from the narrow shares, which are kept."""
        state, found = self.state(step), {}
        for k in self.layout.hidden:
            shape = self.layout.upper(k)
            c = truncation.opened(state.weights.pop(("c", k)), self.plan.fw - NARROW_BITS)
            narrow = c.factor * self.dealt(step, "tw", k) - self.dealt(step, "hw", k)
            if self.me == 0:
                narrow += c.constant
            state.weights["narrow", k] = narrow
            found["T", k] = narrow - self.mask("v", k, step, shape)
        return found

    # --- online

    def online(self, step: Step, loss: LossParty | None = None) -> Script[None]:
        """The step itself; `loss` where the job wants that."""
        yield Need("absorbed")
        due = dict.fromkeys(self.others, self.layout.block(self.me))
        weights = taken((yield Take("masked weights", 0, due)))
        yield Need("dealt")
        self._turns.take("online", step)
        yield from self.upwards(step, self._shares, weights, training=True)
        error = yield from self._error(step)
        if loss is not None and self.me == self._label:
            yield from self._lost(step, loss)
        delta = yield from self.back(step, error)
        yield from self._update_first(step, delta)
        yield Mark("done")

    def _lost(self, step: Step, loss: LossParty) -> Script[None]:
        """Takes what the helper tells the label party of a batch's loss."""
        shape = (step.rows + 1, self.layout.outputs)
        terms = taken((yield Take("loss terms", 0, {HELPER: shape})))[HELPER]
        loss.absorb_terms(step, terms[:-1], terms[-1:])

    def _error(self, step: Step) -> Script[Words]:
        """E, which every data party may know: p - y~, of F bits, under the rows' signs, classes in secret order."""
        shape = (step.rows, self.layout.outputs)
        if self.me == self._label:
            labels = self._labels.pop(step.index)
        else:
            labels = taken((yield Take("masked labels", 0, {self._label: shape})))[self._label]
        answer = taken((yield Take("output answer", 0, {HELPER: shape})))[HELPER]
        return answer - labels

    def _update_first(self, step: Step, delta: Words) -> Script[None]:
        """The step on this party's own block of layer 0."""
        shape = delta.shape
        for i in self.others:
            yield Give("masked error", 0, (i,), delta - self.block_mask("S", i, step, shape))
        theirs = taken((yield Take("masked error", 0, dict.fromkeys(self.others, shape))))
        state = self.state(step)
        assert state.dealt is not None
        g = state.dealt["g", 0] if self.checks is None else self.checks.gradient(step, state.dealt["g", 0])
        own = own_update(self._shares.own, state.x, total([delta, *theirs.values()]), g)
        falls = encode_number(step.after, self.plan.fx) * delta.sum(axis=0, keepdims=True)
        self._biases = (self._biases[0] - falls, *self._biases[1:])
        partners = self._partners[step.index + 1]
        self._shares = NetworkShares(step.index + 1, own, partners, self._upper, self._biases)
        del self._partners[step.index], self._states[step.index]
