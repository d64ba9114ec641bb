"""The helper's side of a network: dealing products of masks ahead of time, and activations on the sum of all shares.

It sees each hidden layer as one row of elements, in secret order, under secret signs and noise, and the scores of a
batch as in `helper`; never features, labels, weights, errors or gradients, nor which elements belong together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpc import truncation
from mpc.fixed import Floats, decode, encode
from mpc.helper import Answer, Diverged, activation, check_range
from mpc.linear import correction, gradient_share
from mpc.loss import LossHelper
from mpc.masks import Masks
from mpc.network import CARRIER, NARROW_BITS, Entry, Layout, NetworkForward, Tensors, pack
from mpc.plan import Plan
from mpc.ring import Words, expect, product, product_transposed, total, transposed_product
from mpc.schedule import OutOfTurn, Step, Turns
from mpc.script import Give, Script, Take, taken

HIDDEN_LIMIT = 256.0  # no useful hidden pre-activation is larger, and the planner counts on it


@dataclass(slots=True)
class Deal:
    """What is kept of one step between dealing and its last answer: the masks on what the helper will tell."""

    activations: list[Words]  # of each hidden layer, a row for each sign that is answered
    slopes: list[Words]
    output: Words | None = None
    answered: int = 0  # hidden layers; a mask meets one value only

    def take(self, step: Step, k: int) -> None:
        """Hidden layer k is answered now, for the first time and after those below it."""
        if k != self.answered:
            raise OutOfTurn(f"step {step.index}: layer {k} asked for, layer {self.answered} is next")
        self.answered += 1


class ForwardHelper:
    """The helper in the forward passes of one attempt and purpose. Not to be shared by threads.

    Args:
        plan: The job's agreed numbers, with a network.
        masks: Shared with each data party, by its index, of this purpose.
    """

    limit = math.inf  # of hidden pre-activations; a row that is only scored may be unlike all others

    def __init__(self, plan: NetworkForward, masks: Mapping[int, Masks]) -> None:
        self.plan, self.layout, self._masks = plan, Layout(plan), masks
        self.parties = range(len(plan.columns))
        self._deals: dict[int, Deal] = {}

    # --- dealing

    def mask(self, name: str, layer: int, step: Step, shape: tuple[int, int]) -> Words:
        """The sum of all data parties' shares of a mask."""
        return total(self._masks[j](f"{name}/{layer}", j, j, step, shape) for j in self.parties)

    def block_masks(self, name: str, i: int, step: Step, shape: tuple[int, int]) -> list[Words]:
        """v_ij, r_ij or s_ij of every other data party j."""
        return [self._masks[j](name, i, j, step, shape) for j in self.parties if j != i]

    def features_mask(self, i: int, step: Step) -> Words:
        """U_i."""
        return self._masks[i]("U", i, i, step, (step.rows, self.layout.columns[i]))

    def explicit(self, entries: tuple[Entry, ...], values: Tensors, step: Step) -> Tensors:
        """What the carrier gets of dealt values: what the other parties' streams leave of them."""
        return {
            (name, k): values[name, k]
            - total(self._masks[j](f"dealt {name}/{k}", j, j, step, shape) for j in self.parties if j != CARRIER)
            for name, k, shape in entries
        }

    def begin(self, step: Step, below: list[Words], *, slopes: bool) -> Tensors:
        """Draw what is kept of a step; returns the products for its forward pass. `below`: q of each hidden layer."""
        layout, count = self.layout, [self.layout.elements(k, step.rows) for k in self.layout.hidden]
        names = ("u+",) if layout.activation.kappa is None else ("u+", "u-")
        self._deals[step.index] = Deal(
            [np.concatenate([self.mask(name, k, step, count[k]) for name in names]) for k in layout.hidden],
            [self.mask("tau", k, step, count[k]) for k in layout.hidden] if slopes else [],
        )
        blocks = [layout.block(i) for i in self.parties]
        values: Tensors = {
            ("C", 0): total(
                correction(self.features_mask(i, step), self.block_masks("V", i, step, blocks[i])) for i in self.parties
            )
        }
        for k in layout.hidden:
            values["qg", k] = product(below[k], self.mask("g", k, step, layout.upper(k)))
        return values

    def masks_below(self, step: Step) -> list[Words]:
        """The mask q of each hidden layer in place."""
        return [self.mask("q", k, step, self.layout.below(k, step.rows)) for k in self.layout.hidden]

    # --- answering

    def deal_of(self, step: Step) -> Deal:
        """What is kept of a step."""
        if step.index not in self._deals:
            raise OutOfTurn(f"step {step.index} is not dealt, or answered already")
        return self._deals[step.index]

    def hidden(self, step: Step, k: int, shares: Mapping[int, Words]) -> Words:
        """The answer to hidden layer k's shares, for every data party alike: activations, then slopes, under masks.

        Raises:
            Diverged: an element leaves the range that the plan counts on.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape, deal = self.layout.elements(k, step.rows), self.deal_of(step)
        z = total(expect(shares[i], shape, f"hidden share of party {i}") for i in self.parties)
        deal.take(step, k)
        check_range(step, z, self.plan.fz)
        scores = step.alpha * decode(z, self.plan.fz)
        if not (np.abs(scores) <= self.limit).all():
            raise Diverged(step, f"a hidden pre-activation exceeded {self.limit:g}")
        link = self.layout.activation
        told = [link.phi(scores)] if link.kappa is None else [link.phi(scores), link.phi(-scores)]
        answer = encode(np.concatenate(told), self.plan.fx) - deal.activations[k]
        if not deal.slopes:
            return answer
        slopes = encode(step.alpha * link.slope(scores), self.slope_bits) - deal.slopes[k]
        return np.concatenate([answer, slopes])

    def upwards(self, step: Step) -> Script[Mapping[int, Words]]:
        """Answers every hidden layer; returns the shares of the output."""
        everybody = tuple(self.parties)
        for k in self.layout.hidden:
            shape = self.layout.elements(k, step.rows)
            shares = taken((yield Take("hidden share", k, dict.fromkeys(everybody, shape))))
            yield Give("hidden answer", k, everybody, self.hidden(step, k, shares))
        shape = (step.rows, self.layout.outputs)
        return taken((yield Take("output share", 0, dict.fromkeys(everybody, shape))))

    @property
    def slope_bits(self) -> int:
        """Fractional bits of slopes."""
        return self.plan.fx

    def scores_of(self, step: Step, shares: Mapping[int, Words]) -> Words:
        """The output's z, (rows of the batch, outputs), f_z bits; with classes, less the first one's.

        Raises:
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape = (step.rows, self.layout.outputs)
        z = total(expect(shares[i], shape, f"pre-activation share of party {i}") for i in self.parties)
        self.deal_of(step).take(step, len(self.layout.hidden))
        return z - z[:, :1] if self.layout.outputs > 1 else z


class NetworkHelper(ForwardHelper):
    """The helper in one attempt of a training. Not to be shared by threads.

    `deal` may run any number of steps before the answers. A step's answers come in order: `hidden` for each layer,
    then `output`.

    Args:
        plan: The job's agreed numbers, with a network.
        label: The label party's index.
        masks: Shared with each data party, by its index.
        answer: How the output's activation is computed.
        first: The first step of this attempt.
    """

    limit = HIDDEN_LIMIT

    def __init__(
        self, plan: Plan, label: int, masks: Mapping[int, Masks], answer: Answer = activation, first: int = 0
    ) -> None:
        super().__init__(plan, masks)
        self._plan, self._label, self._answer = plan, label, answer
        self._answered: tuple[Step, Words] | None = None
        self._turns = Turns(first)

    @property
    def slope_bits(self) -> int:
        """Fractional bits of slopes."""
        return self._plan.fx if self._plan.smooth else 0

    def deal(self, step: Step) -> dict[int, Words]:
        """What each data party is dealt for a step: g_i, and at the carrier all products, flat."""
        self._turns.take("deal", step)
        layout, smooth, below = self.layout, self._plan.smooth, self.masks_below(step)
        values = self.begin(step, below, slopes=True)
        errors = [self._error_mask(k, step) for k in layout.hidden]
        self._deals[step.index].output = self._output_mask(step)
        for k in layout.hidden:
            values |= self._way_back(k, step, below[k], errors[k])
        explicit = self.explicit(layout.dealt(step.rows, smooth=smooth), values, step)
        return {i: self._dealt_to(i, step, explicit) for i in self.parties}

    def _dealt_to(self, i: int, step: Step, explicit: Tensors) -> Words:
        block, shape = self.layout.block(i), self.layout.below(0, step.rows)
        known = total(self.block_masks("S", i, step, shape))
        g = gradient_share(self.features_mask(i, step), known, self.block_masks("R", i, step, block))
        return pack(self.layout.dealt_to(i, step.rows, smooth=self._plan.smooth), {("g", 0): g} | explicit)

    def _output_mask(self, step: Step) -> Words:
        return self.mask("m", self.layout.last, step, (step.rows, self.layout.outputs))

    def _error_mask(self, k: int, step: Step) -> Words:
        """The mask of the error above hidden layer k."""
        if k != self.layout.last:
            return self.mask("o", k, step, (step.rows, self.layout.widths[k + 1]))
        shape = (step.rows, self.layout.outputs)
        return self._output_mask(step) - self._masks[self._label]("m_y", self._label, self._label, step, shape)

    def _way_back(self, k: int, step: Step, below: Words, error: Words) -> Tensors:
        """Products and parts of truncations for the way back through the weights above hidden layer k."""
        layout, shape = self.layout, self.layout.elements(k, step.rows)
        tau, rd = self._deals[step.index].slopes[k], self.mask("rd", k, step, shape)
        rw = self.mask("rw", k, step, layout.upper(k))
        high, top = truncation.high_part(rd, NARROW_BITS), truncation.top_bit(rd)
        values = {
            ("qo", k): transposed_product(below, error),
            ("ov", k): product_transposed(error, self.mask("v", k, step, layout.upper(k))),
            ("hw", k): truncation.high_part(rw, self._plan.fw - NARROW_BITS),
            ("tw", k): truncation.top_bit(rw),
            ("h", k): high,
            ("t", k): top,
            ("ht", k): high * tau,
            ("tt", k): top * tau,
        }
        if self._plan.smooth:
            rs = self.mask("rs", k, step, shape)
            values["h2", k], values["t2", k] = truncation.high_part(rs, self._plan.fx), truncation.top_bit(rs)
        return values

    def output(self, step: Step, shares: Mapping[int, Words]) -> Words:
        """The scaled activation less its mask, (rows of the batch, outputs), F bits, for every data party alike.

        Raises:
            Diverged: a score or the activation leaves the plan's range.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        z = self.scores_of(step, shares)
        deal = self.deal_of(step)
        self._turns.take("output", step)
        assert deal.output is not None
        answer = self._answer(self._plan, step, z) - deal.output
        self._answered = step, z
        del self._deals[step.index]
        return answer

    def dealing(self, step: Step) -> Script[None]:
        """The same as a script."""
        for i, words in self.deal(step).items():
            yield Give("dealt", 0, (i,), words)

    def online(self, step: Step, loss: LossHelper | None = None) -> Script[None]:
        """The answers of a step, as a script."""
        shares = yield from self.upwards(step)
        yield Give("output answer", 0, tuple(self.parties), self.output(step, shares))
        if loss is not None:
            yield Give("loss terms", 0, (self._label,), loss.terms(step, self.scores))

    @property
    def scores(self) -> Floats:
        """Those of the step answered last, (rows of the batch, outputs), under its secret signs."""
        if self._answered is None:
            raise OutOfTurn("no step is answered yet")
        step, z = self._answered
        return step.alpha * decode(z, self.plan.fz)
