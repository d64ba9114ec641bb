"""Describes a model's layers: their widths, and the shapes of a step's tensors.

It holds no weights and computes nothing; parties and helper lay out their tensors by it, so that both mean the same.

Layer 0 has the parties' columns below it, each party its block; upper layer k takes the activation of hidden layer k.
A linear model has layer 0 alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from tercet.mpc.arithmetic.ring import ShapeProblem, Words
from tercet.mpc.functions.hidden import HIDDEN, HiddenActivation
from tercet.mpc.plan.check_sizes import Sizes
from tercet.mpc.plan.forward import Forward

NARROW_BITS = 20  # fractional bits of upper weights where an error goes back through them
CARRIER = 0  # the data party that gets dealt products in words; all others draw their shares from keyed streams


@dataclass(frozen=True, slots=True)
class Network:
    """The architecture that a job asks for, beside its link."""

    hidden: tuple[int, ...]  # units of each hidden layer
    activation: str = "relu"


class NetworkForward(Forward, Protocol):
    """Names the numbers of a plan that a forward pass through a network needs."""

    @property
    def fw(self) -> int:
        """Fractional bits of weights."""

    @property
    def network(self) -> Network | None:
        """The architecture; None for a model without hidden layers."""


class Entry(NamedTuple):
    """A tensor in a flat message: what it is called, of which layer, and its shape."""

    name: str
    layer: int
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Words."""
        return self.shape[0] * self.shape[1]


class Layout:
    """Widths and shapes of one plan's model.

    Args:
        plan: With a network, or of a linear model.
    """

    def __init__(self, plan: NetworkForward) -> None:
        hidden = () if plan.network is None else plan.network.hidden
        self.network, self.columns, self.outputs = plan.network, plan.columns, plan.outputs
        self.widths = (*hidden, plan.outputs)  # of the hidden layers and the output
        self.hidden = range(len(hidden))
        self.last = len(hidden) - 1

    @property
    def activation(self) -> HiddenActivation:
        """Of every hidden layer."""
        assert self.network is not None
        return HIDDEN[self.network.activation]

    @property
    def turns(self) -> int:
        """The most messages of one kind in a step."""
        return max(1, len(self.hidden))

    def upper(self, k: int) -> tuple[int, int]:
        """Return the shape of the weights above hidden layer k."""
        return self.widths[k], self.widths[k + 1]

    def below(self, k: int, rows: int) -> tuple[int, int]:
        """Return the shape of hidden layer k's activation."""
        return rows, self.widths[k]

    def elements(self, k: int, rows: int) -> tuple[int, int]:
        """Return the shape of hidden layer k in the helper's view.

        All elements stand in one row, in secret order.
        """
        return 1, rows * self.widths[k]

    def answer(self, k: int, rows: int, *, slopes: bool) -> tuple[int, int]:
        """Return the shape of the helper's answer for hidden layer k.

        It has the activation, of both signs if need be, then the slope.
        """
        _, count = self.elements(k, rows)
        return (1 if self.activation.kappa is None else 2) + slopes, count

    def block(self, party: int) -> tuple[int, int]:
        """Return the shape of a party's block of layer 0."""
        return self.columns[party], self.widths[0]

    # --- what travels flat

    def openings(self, rows: int) -> tuple[Entry, ...]:
        """List the differences of hidden activations' masks in secret order and in place."""
        return tuple(Entry("D", k, self.below(k, rows)) for k in self.hidden)

    def weights(self, *names: str) -> tuple[Entry, ...]:
        """Return one tensor of each name for every upper layer."""
        return tuple(Entry(name, k, self.upper(k)) for name in names for k in self.hidden)

    def dealt_forward(self, rows: int) -> tuple[Entry, ...]:
        """List the products of masks that the helper deals for a forward pass."""
        products = (Entry("qg", k, (rows, self.widths[k + 1])) for k in self.hidden)
        return (Entry("C", 0, self.below(0, rows)), *products)

    def dealt_backward(self, rows: int, *, smooth: bool) -> tuple[Entry, ...]:
        """List products of masks and parts of truncations for the way back.

        `smooth`: slopes have fractional bits.
        """
        entries = []
        for k in self.hidden:
            elements, weights = self.elements(k, rows), self.upper(k)
            entries += [Entry(name, k, elements) for name in ("h", "t", "ht", "tt", *(("h2", "t2") if smooth else ()))]
            entries += [Entry(name, k, weights) for name in ("qo", "hw", "tw")]
            entries.append(Entry("ov", k, self.below(k, rows)))
        return tuple(entries)

    def dealt(self, rows: int, *, smooth: bool) -> tuple[Entry, ...]:
        """Return all that the helper deals in shares for a step of training."""
        return (*self.dealt_forward(rows), *self.dealt_backward(rows, smooth=smooth))

    def dealt_to(self, party: int, rows: int, *, smooth: bool, checks: Sizes) -> tuple[Entry, ...]:
        """List the tensors that a data party gets in words for a step of training."""
        own = (Entry("g", 0, checks.dealt(party) if checks.checks else self.block(party)),)
        return (*own, *self.dealt(rows, smooth=smooth)) if party == CARRIER else own


Tensors = dict[tuple[str, int], Words]
"""By name and layer."""


def flat(entries: Iterable[Entry]) -> tuple[int, int]:
    """Return the shape of one row with all of them."""
    return 1, sum(entry.size for entry in entries)


def pack(entries: Iterable[Entry], tensors: Mapping[tuple[str, int], Words]) -> Words:
    """Return one row with all of them, in the order of the entries."""
    return np.concatenate([tensors[entry.name, entry.layer].reshape(1, -1) for entry in entries], axis=1)


def unpack(entries: Iterable[Entry], words: Words, what: str) -> Tensors:
    """Return the tensors of such a row, as views of it.

    Raises:
        ShapeProblem: the row has another length.
    """
    entries = tuple(entries)
    due = flat(entries)
    if words.shape != due or words.dtype != np.uint64:
        raise ShapeProblem(f"{what}: expected {due} words, got {words.dtype} {words.shape}")
    tensors, start = {}, 0
    for entry in entries:
        tensors[entry.name, entry.layer] = words[0, start : start + entry.size].reshape(entry.shape)
        start += entry.size
    return tensors
