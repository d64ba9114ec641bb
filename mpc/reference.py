"""The oracle: the same training in plaintext, by which the joint run is judged bit for bit.

It sees everything and may import nothing of the protocol: neither masks, nor shares, nor either role.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpc.fixed import Floats, decode, encode, encode_number
from mpc.plan import Plan
from mpc.ring import Signed, Words
from mpc.schedule import Step, rates


class Ordered(Protocol):
    """What the oracle has to know of the data parties' order; `mpc.order.Order` is one."""

    def permutation(self, epoch: int) -> Signed:
        """Indices of all rows."""

    def signs(self, step: Step, *, odd: bool) -> Words:
        """1 or -1, (rows of the batch, 1)."""

    def noise(self, step: Step, fz: int) -> Words:
        """(rows of the batch, 1), f_z fractional bits."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model in words with f_w fractional bits; the weights are alpha times the blocks."""

    blocks: tuple[Words, ...]  # of each data party, (columns, outputs)
    intercept: Words  # (1, outputs)


@dataclass(frozen=True, slots=True)
class Model:
    """A model in float64."""

    blocks: tuple[Floats, ...]  # of each data party, (columns, outputs)
    intercept: Floats  # (1, outputs)


def train(xs: Sequence[Words], y: Floats, plan: Plan, order: Ordered, stop: int | None = None) -> Weights:
    """The fixed-point training with nothing shared.

    Args:
        xs: Each data party's encoded features, (rows, columns), f_x fractional bits.
        y: Centred labels, (rows, 1).
        plan: The job's agreed numbers.
        order: Permutations, signs and noise of the joint run.
        stop: How many steps; the whole job if None.

    Raises:
        RangeProblem: where the helper would stop the job because the activation cannot be encoded.
    """
    u = [np.zeros((x.shape[1], plan.outputs), np.uint64) for x in xs]
    u0 = np.zeros((1, plan.outputs), np.uint64)
    link = plan.activation
    for step in itertools.islice(plan.steps(), stop):
        rows = order.permutation(step.epoch)[step.start : step.stop]
        batch = [x[rows] for x in xs]
        z = order.signs(step, odd=link.odd) * order.noise(step, plan.fz) + encode_number(1.0 / step.alpha, plan.fx) * u0
        for x, block in zip(batch, u, strict=True):
            z = z + x @ block
        a = encode(step.scale * link.phi(step.alpha * decode(z, plan.fz)), plan.f)
        error = a - encode(step.scale * y[rows], plan.f)
        u = [block - x.T @ error for x, block in zip(batch, u, strict=True)]
        u0 = u0 - encode_number(step.after, plan.fx) * error.sum(axis=0, keepdims=True)
    return Weights(tuple(u), u0)


def train_float(xs: Sequence[Floats], y: Floats, plan: Plan, order: Ordered) -> Model:
    """Ordinary float64 SGD on the same batches at the rates that the job asks for, nothing rounded or snapped."""
    request, link = plan.request, plan.activation
    w, w0 = [np.zeros((x.shape[1], plan.outputs)) for x in xs], np.zeros((1, plan.outputs))
    learning = rates(request.schedule, request.rate, request.decay)
    for step, rate in zip(plan.steps(), learning, strict=False):
        rows = order.permutation(step.epoch)[step.start : step.stop]
        batch = [x[rows] for x in xs]
        scores = sum((x @ block for x, block in zip(batch, w, strict=True)), w0)
        error = rate / step.rows * (link.phi(scores) - y[rows])
        w = [(1.0 - rate * request.l2) * block - x.T @ error for x, block in zip(batch, w, strict=True)]
        w0 = w0 - error.sum(axis=0, keepdims=True)
    return Model(tuple(w), w0)


def release(weights: Weights, plan: Plan) -> Model:
    """What a model in words means: blocks times the last alpha, and the intercept as it is."""
    return Model(tuple(plan.weights(block) for block in weights.blocks), plan.intercept(weights.intercept))
