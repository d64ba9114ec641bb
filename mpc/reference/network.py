"""Trains networks in plaintext as the oracle, by which the joint run is judged.

They agree bit for bit.

It sees everything and may import nothing of the protocol: neither masks, nor shares, nor either role.

Where the joint run truncates, it rounds up or down as the lower bits of a dealt mask say. So the oracle is handed these
masks: with the dealt r, x with `bits` fractional bits fewer is (x + r mod 2^bits) >> bits.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, from_signed, sum_along, to_signed, total
from tercet.mpc.functions.hidden import HIDDEN, HiddenActivation
from tercet.mpc.plan.architecture import NARROW_BITS, NetworkForward
from tercet.mpc.plan.forward import SCORE_BITS, noise_half_width, noise_width
from tercet.mpc.plan.plan import LossBits, Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.linear import Added, OrderSource

Dealt = Callable[[str, int, Step], Words]
"""The masks that truncations round by: "rw" of the weights above a hidden layer, "rd" and "rs" of its error."""


class ElementSource(Protocol):
    """Names what the oracle reads of hidden layers' elements.

    `mpc.randomness.elements.Elements` is one.
    """

    def permutation(self, step: Step, layer: int, count: int) -> Signed:
        """Return the element in each place of the helper's view, (count,)."""

    def signs(self, step: Step, layer: int, count: int) -> Words:
        """Return 1 or -1, (count,)."""

    def noise(self, step: Step, layer: int, count: int, width: int) -> Words:
        """Return (count,), in [-2^width, 2^width)."""


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """A network in words with f_w fractional bits.

    The weights are alpha times blocks and upper.
    """

    blocks: tuple[Words, ...]  # of layer 0, of each data party, (columns, units)
    upper: tuple[Words, ...]  # (units below, units above)
    biases: tuple[Words, ...]  # of each layer, (1, units)


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network in float64, shaped alike."""

    blocks: tuple[Floats, ...]
    upper: tuple[Floats, ...]
    biases: tuple[Floats, ...]


class TrainingRun(NamedTuple):
    """A joint training, as far as the oracle has to know it."""

    xs: Sequence[Words]  # each data party's encoded features, (rows, columns), f_x fractional bits
    y: Floats  # centred labels, (rows, outputs)
    plan: Plan  # with a network
    order: OrderSource  # of the rows, and the signs, classes and noise of scores
    elements: ElementSource  # likewise of hidden layers
    initial: NetworkWeights  # what all parties' first shares add up to
    dealt: Dealt  # the masks of its truncations
    first_step: int = (
        0  # the step that it begins with, where it goes on from a checkpoint; what is dealt is from there on
    )


class _Layer(NamedTuple):
    """A hidden layer of one batch: in place, and its slopes in the helper's view."""

    order: Signed
    activation: Words
    slope: Words


class _ForwardPass(NamedTuple):
    """A forward pass: hidden layers, and z as the helper has it."""

    hidden: list[_Layer]
    z: Words
    signs: Words
    classes: Signed


class _StepRecord(NamedTuple):
    """A step of the training: its batch, the weights before it, and its forward pass."""

    step: Step
    batch: Sequence[Words]
    weights: NetworkWeights
    forward: _ForwardPass


@dataclass(frozen=True, slots=True)
class PassSetting:
    """Holds what a pass over some rows depends on beside rows and weights."""

    plan: NetworkForward
    order: OrderSource
    elements: ElementSource
    slope_bits: int = 0

    @property
    def activation(self) -> HiddenActivation:
        """Of hidden layers."""
        assert self.plan.network is not None
        return HIDDEN[self.plan.network.activation]


def train(run: TrainingRun, stop: int | None = None) -> NetworkWeights:
    """Train in fixed point with nothing shared, until so many steps are done.

    None stands for the whole job.
    """
    weights = run.initial
    for _, after in itertools.islice(_walk(run), None if stop is None else stop - run.first_step):
        weights = after
    return weights


def losses(run: TrainingRun, stop: int | None = None) -> list[Words]:
    """Compute the summed loss of each epoch that begins within `stop` steps, (1, 1).

    `plan.loss_bits.total` bits.
    """
    plan, sums = run.plan, dict[int, Words]()
    for (step, _, _, seen), _ in itertools.islice(_walk(run), stop):
        scores, y = step.alpha * decode(seen.z, plan.fz), run.y[_rows(run.order, step)]
        loss = _loss(scores, y, seen, plan, plan.loss_bits, step)
        sums[step.epoch] = sums.get(step.epoch, np.zeros_like(loss)) + loss
    return list(sums.values())


def held_out_loss(
    xs: Sequence[Words], y: Floats, weights: NetworkWeights, *, plan: Plan, setting: PassSetting, steps: Iterable[Step]
) -> Words:
    """Compute the summed loss of rows that are not trained on, (1, 1).

    `plan.loss_bits_of(rows).total` fractional bits.

    `y` are their centred labels, (rows, outputs); `setting` and `steps` are of one pass for the held-out loss.
    """
    loss, bits = np.zeros((1, 1), np.uint64), plan.loss_bits_of(len(y))
    for step in steps:
        rows = _rows(setting.order, step)
        seen = _forward([x[rows] for x in xs], weights, step, setting)
        scores = np.clip(step.alpha * decode(seen.z, plan.fz), *plan.score_bounds())
        loss = loss + _loss(scores, y[rows], seen, plan, bits, step)
    return loss


def _loss(scores: Floats, y: Floats, seen: _ForwardPass, plan: Plan, bits: LossBits, step: Step) -> Words:  # noqa: PLR0917
    """Sum a batch's loss, (1, 1), from the helper's scores and centred labels."""
    link = plan.link
    labels = (seen.signs * encode(y, bits.label))[:, seen.classes]
    cumulant = link.cumulant_of_noisy(scores, noise_half_width(plan, step.alpha))
    alone = cumulant, link.label_part(decode(labels, bits.label))
    products = sum_along(labels * encode(scores, bits.score))
    return total(sum_along(encode(part, bits.total)) for part in alone) - products


def scores(
    xs: Sequence[Words],
    weights: NetworkWeights,
    setting: PassSetting,
    steps: Iterable[Step],
    added: Added | None = None,
) -> Floats:
    """Score rows that are not trained on, (rows, outputs), row by row.

    Classes are less an arbitrary one.

    `steps` are those of one pass, with alpha of the step that the model is kept from; `added` is the partners' noise.
    """
    found = np.empty((xs[0].shape[0], setting.plan.outputs))
    for step in steps:
        rows = _rows(setting.order, step)
        seen = _forward([x[rows] for x in xs], weights, step, setting)
        plan, z = setting.plan, seen.z
        noise = setting.order.noise(step, noise_width(plan, step.alpha), plan.outputs)
        if plan.outputs > 1:
            noise = noise - noise[:, :1]
        if added is not None:
            z = z + (added(step) if plan.outputs == 1 else added(step) - added(step)[:, :1])
        rounded = encode(decode(z, plan.fz), SCORE_BITS) - encode(decode(noise, plan.fz), SCORE_BITS)
        rounded = seen.signs * rounded
        found[rows] = step.alpha * decode(rounded[:, np.argsort(seen.classes)], SCORE_BITS)
    return found


def _rows(order: OrderSource, step: Step) -> Signed:
    """Return the rows of a batch, in order."""
    return order.permutation(step.epoch)[step.start : step.stop]


def _walk(run: TrainingRun) -> Iterator[tuple[_StepRecord, NetworkWeights]]:
    """Yield every step, and the weights after it."""
    xs, y, plan, order, elements, weights, dealt, begin = run
    setting = PassSetting(plan, order, elements, plan.fx if plan.smooth else 0)
    for step in plan.steps(begin):
        rows = _rows(order, step)
        batch = [x[rows] for x in xs]
        record = _StepRecord(step, batch, weights, _forward(batch, weights, step, setting))
        weights = _after(record, _error(record, y[rows], plan), plan, dealt)
        yield record, weights


def _error(record: _StepRecord, y: Floats, plan: Plan) -> Words:
    """Compute the scores' error, F fractional bits.

    It is under the rows' signs, classes in secret order.
    """
    step, seen = record.step, record.forward
    scores = step.alpha * decode(seen.z, plan.fz)
    phi = plan.link.phi_of_noisy(scores, noise_half_width(plan, step.alpha))
    a = encode(step.scale * phi, plan.f)
    labels = encode(step.scale * y, plan.f)[:, seen.classes]
    return a - seen.signs * labels


def _forward(batch: Sequence[Words], weights: NetworkWeights, step: Step, setting: PassSetting) -> _ForwardPass:
    plan, order = setting.plan, setting.order
    column = encode_number(1.0 / step.alpha, plan.fx)
    z = column * weights.biases[0]
    for x, block in zip(batch, weights.blocks, strict=True):
        z = z + x @ block
    hidden = []
    for k, (above, bias) in enumerate(zip(weights.upper, weights.biases[1:], strict=True)):
        hidden.append(_hidden(z, step, k, setting))
        z = hidden[-1].activation @ above + column * bias
    signs, classes = order.signs(step, odd=plan.link.odd), order.classes(step, plan.outputs)
    z = signs * z[:, classes] + order.noise(step, noise_width(plan, step.alpha), plan.outputs)
    return _ForwardPass(hidden, z - z[:, :1] if plan.outputs > 1 else z, signs, classes)


def _hidden(z: Words, step: Step, k: int, setting: PassSetting) -> _Layer:
    """Compute a hidden layer by the helper's view of each element.

    Its order, sign and noise have a part in the rounding.
    """
    plan, link, count = setting.plan, setting.activation, z.size
    order, signs = setting.elements.permutation(step, k, count), setting.elements.signs(step, k, count)
    seen = z.reshape(-1)[order] * signs + setting.elements.noise(step, k, count, noise_width(plan, step.alpha))
    scores = step.alpha * decode(seen, plan.fz)
    slope = encode(step.alpha * link.slope(scores), setting.slope_bits)
    if link.kappa is None:
        values = signs * encode(link.phi(scores), plan.fx) + encode_number(link.centre, plan.fx)
    else:
        values = np.where(signs == 1, encode(link.phi(scores), plan.fx), encode(link.phi(-scores), plan.fx))
        slope = np.where(signs == 1, slope, encode_number(step.alpha * link.kappa, setting.slope_bits) - slope)
    placed = np.empty_like(values)
    placed[order] = values
    return _Layer(order, placed.reshape(z.shape), slope)


def _after(record: _StepRecord, error: Words, plan: Plan, dealt: Dealt) -> NetworkWeights:
    """Return the weights after a step, from the error of its scores."""
    step, batch, weights, seen = record
    back, last = encode_number(step.after, plan.fx), len(weights.upper) - 1
    upper, biases = list(weights.upper), list(weights.biases)
    for k in range(last, -1, -1):
        gradient, falls = seen.hidden[k].activation, error
        if k == last:  # the error's signs are undone by the same, its classes by their order
            gradient, falls = seen.signs * gradient, seen.signs * error
        gradient, falls = gradient.T @ error, back * sum_along(falls, axis=0)
        if k == last:
            canonical = np.argsort(seen.classes)
            gradient, falls = gradient[:, canonical], falls[:, canonical]
        upper[k], biases[k + 1] = upper[k] - gradient, biases[k + 1] - falls
        error = _below(record, k, error, plan, dealt)
    blocks = tuple(block - x.T @ error for x, block in zip(batch, weights.blocks, strict=True))
    biases[0] = biases[0] - back * error.sum(axis=0, keepdims=True)
    return NetworkWeights(blocks, tuple(upper), tuple(biases))


def _below(record: _StepRecord, k: int, error: Words, plan: Plan, dealt: Dealt) -> Words:
    """Compute the error of hidden layer k's pre-activations, F bits, from the one above it."""
    step, _, weights, seen = record
    layer, last = seen.hidden[k], k == len(weights.upper) - 1
    above = weights.upper[k][:, seen.classes] if last else weights.upper[k]
    carried = error @ round_by(above, dealt("rw", k, step), plan.fw - NARROW_BITS).T
    flat = round_by(carried.reshape(-1)[layer.order], dealt("rd", k, step).reshape(-1), NARROW_BITS) * layer.slope
    if plan.smooth:
        flat = round_by(flat, dealt("rs", k, step).reshape(-1), plan.fx)
    placed = np.empty_like(flat)
    placed[layer.order] = flat
    placed = placed.reshape(carried.shape)
    return seen.signs * placed if last else placed


def round_by(x: Words, r: Words, bits: int) -> Words:
    """Take so many fractional bits off x, up or down as r says."""
    return from_signed(to_signed(x + (r & np.uint64((1 << bits) - 1))) >> np.int64(bits))


def train_float(run: TrainingRun, xs: Sequence[Floats], initial: NetworkModel, stop: int | None = None) -> NetworkModel:
    """Train by ordinary float64 SGD on the same batches, from the same first weights.

    It takes the job's rates, and nothing is rounded.

    Args:
        run: Of which only labels, plan and order are used.
        xs: Each data party's features.
        initial: The first weights.
        stop: How many steps; the whole job if None.
    """
    request, model = run.plan.request, initial
    learning = request.rates()
    for step, rate in itertools.islice(zip(run.plan.steps(), learning, strict=False), stop):
        rows = _rows(run.order, step)
        model = _float_step(model, [x[rows] for x in xs], run.y[rows], run.plan, rate)
    return model


def _float_step(model: NetworkModel, batch: Sequence[Floats], y: Floats, plan: Plan, rate: float) -> NetworkModel:
    assert plan.network is not None
    link, shrink = HIDDEN[plan.network.activation], 1.0 - rate * plan.request.l2
    upper, biases = list(model.upper), list(model.biases)
    zs, activations = [sum((x @ block for x, block in zip(batch, model.blocks, strict=True)), biases[0])], []
    for above, bias in zip(upper, biases[1:], strict=True):
        activations.append(link.phi(zs[-1]) + link.centre)
        zs.append(activations[-1] @ above + bias)
    error = rate / len(y) * (plan.link.phi(zs[-1]) - y)
    for k in range(len(upper) - 1, -1, -1):
        below = (error @ upper[k].T) * link.slope(zs[k])
        upper[k] = shrink * upper[k] - activations[k].T @ error
        biases[k + 1] = biases[k + 1] - error.sum(axis=0, keepdims=True)
        error = below
    blocks = tuple(shrink * block - x.T @ error for x, block in zip(batch, model.blocks, strict=True))
    biases[0] = biases[0] - error.sum(axis=0, keepdims=True)
    return NetworkModel(blocks, tuple(upper), tuple(biases))


def release(weights: NetworkWeights, plan: Plan, steps: int | None = None) -> NetworkModel:
    """Decode a network in words after so many steps, all if None.

    Weights are times alpha, and biases as they are.
    """
    return NetworkModel(
        tuple(plan.weights(block, steps) for block in weights.blocks),
        tuple(plan.upper_weights(layer, steps) for layer in weights.upper),
        tuple(plan.intercept(bias) for bias in weights.biases),
    )
