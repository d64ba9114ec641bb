"""Trains in plaintext as the oracle, by which the joint run is judged bit for bit.

It sees everything and may import nothing of the protocol: neither masks, nor shares, nor either role.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, sum_along, total
from tercet.mpc.plan.forward import SCORE_BITS, Forward, noise_half_width, noise_width
from tercet.mpc.plan.plan import LossBits, Plan
from tercet.mpc.plan.schedule import Step


class OrderSource(Protocol):
    """Names what the oracle reads of the data parties' order.

    `mpc.randomness.secret_order.Order` is one.
    """

    def permutation(self, epoch: int) -> Signed:
        """Return indices of all rows."""

    def signs(self, step: Step, *, odd: bool) -> Words:
        """Return 1 or -1, (rows of the batch, 1)."""

    def classes(self, step: Step, outputs: int) -> Signed:
        """Return indices of all outputs."""

    def noise(self, step: Step, width: int, outputs: int = 1) -> Words:
        """Return (rows of the batch, outputs), in [-2^width, 2^width).

        The outputs in the order of `classes`.
        """


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


class _StepRecord(NamedTuple):
    """A step of the plaintext training."""

    step: Step
    rows: Signed
    z: Words  # in the batch's order, without its signs, the label's offset in it; f_z fractional bits
    weights: Weights  # after it


def train(  # noqa: PLR0917
    xs: Sequence[Words],
    y: Floats,
    plan: Plan,
    order: OrderSource,
    stop: int | None = None,
    begin: Weights | None = None,
    first: int = 0,
) -> Weights:
    """Train in fixed point with nothing shared.

    Args:
        xs: Each data party's encoded features, (rows, columns), f_x fractional bits.
        y: Centred labels, (rows, outputs).
        plan: The job's agreed numbers.
        order: Permutations, signs and noise of the joint run.
        stop: How many steps of the job are done at the end; all if None.
        begin: The model before the first step; zeros if None.
        first: That step.

    Raises:
        RangeProblem: where the helper would stop the job because the activation cannot be encoded.
    """
    weights = _zeros(xs, plan) if begin is None else begin
    for record in itertools.islice(_walk(xs, y, plan, order, weights, first), None if stop is None else stop - first):
        weights = record.weights
    return weights


def losses(xs: Sequence[Words], y: Floats, plan: Plan, order: OrderSource, stop: int | None = None) -> list[Words]:
    """Compute the summed loss of each epoch that begins within `stop` steps, (1, 1).

    `plan.loss_bits.total` fractional bits.

    Every row's is that before its own step. Arguments are those of `train`.
    """
    sums: dict[int, Words] = {}
    for step, rows, z, _ in itertools.islice(_walk(xs, y, plan, order, _zeros(xs, plan)), stop):
        loss = _loss(step.alpha * decode(z, plan.fz), y[rows], plan, plan.loss_bits, step)
        sums[step.epoch] = sums.get(step.epoch, np.zeros_like(loss)) + loss
    return list(sums.values())


def held_out_loss(
    xs: Sequence[Words], y: Floats, weights: Weights, *, plan: Plan, order: OrderSource, steps: Iterable[Step]
) -> Words:
    """Compute the summed loss of rows that are not trained on, (1, 1).

    `plan.loss_bits_of(rows).total` fractional bits.

    Args:
        xs: Each data party's encoded features of these rows.
        y: Their centred labels, (rows, outputs).
        weights: The model in words.
        plan: The job's agreed numbers.
        order: Of these rows, for the held-out loss.
        steps: Of one pass, `scoring.scoring_steps`, with alpha of the step that the weights are after.
    """
    loss, bits = np.zeros((1, 1), np.uint64), plan.loss_bits_of(len(y))
    for step in steps:
        rows = order.permutation(step.epoch)[step.start : step.stop]
        z = _add_offset(_score(xs, weights, plan, order, step), y[rows], plan, step)
        scores = np.clip(step.alpha * decode(z, plan.fz), *plan.score_bounds())
        loss = loss + _loss(scores, y[rows], plan, bits, step)
    return loss


def _loss(scores: Floats, y: Floats, plan: Plan, bits: LossBits, step: Step) -> Words:
    """Sum a batch's loss, (1, 1), from scores with offsets and centred labels."""
    link = plan.link
    labels = encode(link.target(y), bits.label)
    cumulant = link.cumulant_of_noisy(scores, noise_half_width(plan, step.alpha))
    alone = cumulant, link.label_part(decode(labels, bits.label))
    products = sum_along(labels * encode(scores, bits.score))
    return total(sum_along(encode(part, bits.total)) for part in alone) - products


Added = Callable[[Step], Words]
"""The partners' own noise on the scores of a batch, as the helper has it: (rows, outputs), f_z fractional bits."""


def scores(  # noqa: PLR0917
    xs: Sequence[Words],
    weights: Weights,
    numbers: Forward,
    order: OrderSource,
    steps: Iterable[Step],
    added: Added | None = None,
) -> Floats:
    """Score rows that are not trained on, (rows, outputs), row by row.

    Args:
        xs: Each data party's encoded features of these rows.
        weights: The model in words.
        numbers: Its plan, or what was kept of it.
        order: Of these rows, for scoring; it says which noise a row has.
        steps: Of one pass, `scoring.scoring_steps`, with alpha of the step that the model is kept from.
        added: The partners' own noise, if any.
    """
    found = np.empty((xs[0].shape[0], numbers.outputs))
    for step in steps:
        rows = order.permutation(step.epoch)[step.start : step.stop]
        z = _score(xs, weights, numbers, order, step)
        if added is not None:
            z = z + _in_place(added(step), numbers, order, step)
        known = decode(_noise(numbers, order, step), numbers.fz)
        rounded = encode(decode(z, numbers.fz), SCORE_BITS) - encode(known, SCORE_BITS)
        found[rows] = step.alpha * decode(rounded, SCORE_BITS)
    return found


def _walk(  # noqa: PLR0917
    xs: Sequence[Words], y: Floats, plan: Plan, order: OrderSource, weights: Weights, first: int = 0
) -> Iterator[_StepRecord]:
    """Yield every step of the training, from this one and these weights on."""
    link = plan.link
    for step in plan.steps(first):
        rows = order.permutation(step.epoch)[step.start : step.stop]
        z = _add_offset(_score(xs, weights, plan, order, step), y[rows], plan, step)
        phi = link.phi_of_noisy(step.alpha * decode(z, plan.fz), noise_half_width(plan, step.alpha))
        a = encode(step.scale * phi, plan.f)
        error = a - encode(step.scale * link.target(y[rows]), plan.f)
        blocks = tuple(block - x[rows].T @ error for x, block in zip(xs, weights.blocks, strict=True))
        back = encode_number(step.after, plan.fx)
        weights = Weights(blocks, weights.intercept - back * error.sum(axis=0, keepdims=True))
        yield _StepRecord(step, rows, z, weights)


def _score(xs: Sequence[Words], weights: Weights, numbers: Forward, order: OrderSource, step: Step) -> Words:
    """Compute a batch's z in its order, without its signs, but with its noise; f_z bits."""
    rows = order.permutation(step.epoch)[step.start : step.stop]
    z = _noise(numbers, order, step)
    z = z + encode_number(1.0 / step.alpha, numbers.fx) * weights.intercept
    for x, block in zip(xs, weights.blocks, strict=True):
        z = z + x[rows] @ block
    return z


def _add_offset(z: Words, y: Floats, plan: Plan, step: Step) -> Words:
    """Add the label party's term of its labels, where the link has that."""
    link = plan.link
    return z if link.offset is None else z + encode(link.offset(y) / step.alpha, plan.fz)


def _noise(numbers: Forward, order: OrderSource, step: Step) -> Words:
    """Return the noise of a batch at the helper, without its signs, classes in place."""
    return _in_place(order.noise(step, noise_width(numbers, step.alpha), numbers.outputs), numbers, order, step)


def _in_place(words: Words, numbers: Forward, order: OrderSource, step: Step) -> Words:
    """Return the helper's view, (rows, outputs), without its signs, classes in place."""
    signed = order.signs(step, odd=numbers.link.odd) * words
    return signed[:, np.argsort(order.classes(step, numbers.outputs))]


def _zeros(xs: Sequence[Words], plan: Plan) -> Weights:
    blocks = tuple(np.zeros((x.shape[1], plan.outputs), np.uint64) for x in xs)
    return Weights(blocks, np.zeros((1, plan.outputs), np.uint64))


def train_float(xs: Sequence[Floats], y: Floats, plan: Plan, order: OrderSource) -> Model:
    """Train by ordinary float64 SGD on the same batches.

    It takes the job's rates, and nothing is rounded or snapped.
    """
    request, link = plan.request, plan.link
    w, w0 = [np.zeros((x.shape[1], plan.outputs)) for x in xs], np.zeros((1, plan.outputs))
    learning = request.rates()
    for step, rate in zip(plan.steps(), learning, strict=False):
        rows = order.permutation(step.epoch)[step.start : step.stop]
        batch = [x[rows] for x in xs]
        scores = sum((x @ block for x, block in zip(batch, w, strict=True)), w0)
        error = rate / step.rows * link.error(link.shifted(scores, y[rows]), link.target(y[rows]))
        w = [(1.0 - rate * request.l2) * block - x.T @ error for x, block in zip(batch, w, strict=True)]
        w0 = w0 - error.sum(axis=0, keepdims=True)
    return Model(tuple(w), w0)


def release(weights: Weights, plan: Plan, steps: int | None = None) -> Model:
    """Decode a model in words after so many steps, all if None.

    Blocks are times alpha, and the intercept is as it is.
    """
    return Model(tuple(plan.weights(block, steps) for block in weights.blocks), plan.intercept(weights.intercept))
