"""Answers forward passes through a network, as the helper.

It draws masks of what it will tell, and answers on sums of all shares.

It sees each hidden layer as one row of elements, in secret order, under secret signs and noise, and the scores of a
batch as in `helper`; never features, labels, weights, errors or gradients, nor which elements belong together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.arithmetic.ring import Words, expect, product, total
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.linear.algebra import correction
from tercet.mpc.linear.helper import Diverged, check_range
from tercet.mpc.plan.architecture import CARRIER, Entry, Layout, NetworkForward, Tensors
from tercet.mpc.plan.schedule import OutOfTurn, Step
from tercet.mpc.randomness.masks import Masks


@dataclass(slots=True)
class DealtMasks:
    """Holds a step's masks between dealing and its last answer."""

    activations: list[Words]  # of each hidden layer, a row for each sign that is answered
    slopes: list[Words]
    output: Words | None = None
    answered: int = 0  # hidden layers; a mask meets one value only

    def begin_layer(self, step: Step, k: int) -> None:
        """Note that hidden layer k is answered now, once, and after those below it."""
        if k != self.answered:
            raise OutOfTurn(f"step {step.index}: layer {k} asked for, layer {self.answered} is next")
        self.answered += 1


class ForwardHelper:
    """The helper in the forward passes of one attempt and purpose.

    Not to be shared by threads.

    Args:
        plan: The job's agreed numbers, with a network.
        masks: Shared with each data party, by its index, of this purpose.
    """

    limit = math.inf  # of hidden pre-activations; a row that is only scored may be unlike all others

    def __init__(self, plan: NetworkForward, masks: Mapping[int, Masks]) -> None:
        self.plan, self.layout, self._masks = plan, Layout(plan), masks
        self.parties = range(len(plan.columns))
        self._deals: dict[int, DealtMasks] = {}

    # --- dealing

    def mask(self, name: str, layer: int, step: Step, shape: tuple[int, int]) -> Words:
        """Return the sum of all data parties' shares of a mask."""
        return total(self._masks[j](f"{name}/{layer}", j, j, step, shape) for j in self.parties)

    def block_masks(self, name: str, i: int, step: Step, shape: tuple[int, int]) -> list[Words]:
        """Return v_ij, r_ij or s_ij of every other data party j."""
        return [self._masks[j](name, i, j, step, shape) for j in self.parties if j != i]

    def features_mask(self, i: int, step: Step) -> Words:
        """Return U_i."""
        return self._masks[i]("U", i, i, step, (step.rows, self.layout.columns[i]))

    def explicit(self, entries: tuple[Entry, ...], values: Tensors, step: Step) -> Tensors:
        """Compute the carrier's words: dealt values less the other parties' streams."""
        return {
            (name, k): values[name, k]
            - total(self._masks[j](f"dealt {name}/{k}", j, j, step, shape) for j in self.parties if j != CARRIER)
            for name, k, shape in entries
        }

    def deal_forward(self, step: Step, below: list[Words], *, slopes: bool) -> Tensors:
        """Draw a step's masks; returns the products for its forward pass.

        `below`: q of each hidden layer.
        """
        layout, count = self.layout, [self.layout.elements(k, step.rows) for k in self.layout.hidden]
        names = ("u+",) if layout.activation.kappa is None else ("u+", "u-")
        self._deals[step.index] = DealtMasks(
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
            values["qg", k] = product(below[k], self.upper_mask(k, step))
        return values

    def upper_mask(self, k: int, step: Step) -> Words:
        """Return the mask g of the weights above hidden layer k."""
        return self.mask("g", k, step, self.layout.upper(k))

    def masks_below(self, step: Step) -> list[Words]:
        """Return the mask q of each hidden layer in place."""
        return [self.mask("q", k, step, self.layout.below(k, step.rows)) for k in self.layout.hidden]

    # --- answering

    def dealt_masks(self, step: Step) -> DealtMasks:
        """Return the masks of a step."""
        if step.index not in self._deals:
            raise OutOfTurn(f"step {step.index} is not dealt, or answered already")
        return self._deals[step.index]

    def answer_hidden(self, step: Step, k: int, shares: Mapping[int, Words]) -> Words:
        """Answer hidden layer k's shares, for every data party alike.

        The answer has activations, then slopes, under masks.

        Raises:
            Diverged: an element leaves the range that the plan counts on.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape, deal = self.layout.elements(k, step.rows), self.dealt_masks(step)
        z = total(expect(shares[i], shape, f"hidden share of party {i}") for i in self.parties)
        deal.begin_layer(step, k)
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

    def run_forward(self, step: Step) -> Script[Mapping[int, Words]]:
        """Answer every hidden layer; returns the shares of the output."""
        everybody = tuple(self.parties)
        for k in self.layout.hidden:
            shape = self.layout.elements(k, step.rows)
            shares = received_words((yield Receive("hidden share", k, dict.fromkeys(everybody, shape))))
            yield Send("hidden answer", k, everybody, self.answer_hidden(step, k, shares))
        shape = (step.rows, self.layout.outputs)
        return received_words((yield Receive("output share", 0, dict.fromkeys(everybody, shape))))

    @property
    def slope_bits(self) -> int:
        """Fractional bits of slopes."""
        return self.plan.fx

    def open_scores(self, step: Step, shares: Mapping[int, Words]) -> Words:
        """Return the output's z, (rows of the batch, outputs), f_z bits.

        With classes, less the first one's.

        Raises:
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape = (step.rows, self.layout.outputs)
        z = total(expect(shares[i], shape, f"pre-activation share of party {i}") for i in self.parties)
        self.dealt_masks(step).begin_layer(step, len(self.layout.hidden))
        return z - z[:, :1] if self.layout.outputs > 1 else z
