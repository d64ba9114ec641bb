"""The oracle of networks: the same training in plaintext, by which the joint run is judged bit for bit.

It sees everything and may import nothing of the protocol: neither masks, nor shares, nor either role.

Where the joint run truncates, it rounds up or down as the lower bits of a dealt mask say. So the oracle is handed these
masks: with the dealt r, x with `bits` fractional bits fewer is (x + r mod 2^bits) >> bits.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from mpc.fixed import Floats, decode, encode, encode_number
from mpc.forward import SCORE_BITS
from mpc.hidden import HIDDEN, HiddenActivation
from mpc.network import NARROW_BITS, NetworkForward
from mpc.plan import Plan
from mpc.reference import Ordered
from mpc.ring import Signed, Words, from_signed, to_signed
from mpc.schedule import Step, rates

Dealt = Callable[[str, int, Step], Words]
"""The masks that truncations round by: "rw" of the weights above a hidden layer, "rd" and "rs" of its error."""


class Arranged(Protocol):
    """What the oracle has to know of the elements of hidden layers; `mpc.elements.Elements` is one."""

    def permutation(self, step: Step, layer: int, count: int) -> Signed:
        """Which element is in which place of the helper's view, (count,)."""

    def signs(self, step: Step, layer: int, count: int) -> Words:
        """1 or -1, (count,)."""

    def noise(self, step: Step, layer: int, count: int, fz: int) -> Words:
        """(count,), f_z fractional bits."""


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """A network in words with f_w fractional bits; the weights are alpha times blocks and upper."""

    blocks: tuple[Words, ...]  # of layer 0, of each data party, (columns, units)
    upper: tuple[Words, ...]  # (units below, units above)
    biases: tuple[Words, ...]  # of each layer, (1, units)


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network in float64, shaped alike."""

    blocks: tuple[Floats, ...]
    upper: tuple[Floats, ...]
    biases: tuple[Floats, ...]


class _Layer(NamedTuple):
    """A hidden layer of one batch: in place, and its slopes in the helper's view."""

    order: Signed
    activation: Words
    slope: Words


class _Seen(NamedTuple):
    """A forward pass: hidden layers, and z as the helper has it."""

    hidden: list[_Layer]
    z: Words
    signs: Words
    classes: Signed


@dataclass(frozen=True, slots=True)
class Setting:
    """What a pass over some rows depends on beside rows and weights."""

    plan: NetworkForward
    order: Ordered
    elements: Arranged
    slope_bits: int = 0

    @property
    def activation(self) -> HiddenActivation:
        """Of hidden layers."""
        assert self.plan.network is not None
        return HIDDEN[self.plan.network.activation]


def train(
    xs: Sequence[Words],
    y: Floats,
    plan: Plan,
    order: Ordered,
    elements: Arranged,
    initial: NetworkWeights,
    dealt: Dealt,
    stop: int | None = None,
) -> NetworkWeights:
    """The fixed-point training with nothing shared.

    Args:
        xs: Each data party's encoded features, (rows, columns), f_x fractional bits.
        y: Centred labels, (rows, outputs).
        plan: The job's agreed numbers, with a network.
        order: Of the rows, and the signs, classes and noise of scores.
        elements: Likewise of hidden layers.
        initial: What all parties' first shares add up to.
        dealt: The masks of the joint run's truncations.
        stop: How many steps; the whole job if None.
    """
    weights = initial
    for _, _, weights in itertools.islice(_walk(xs, y, plan, order, elements, initial, dealt), stop):
        pass
    return weights


def losses(
    xs: Sequence[Words],
    y: Floats,
    plan: Plan,
    order: Ordered,
    elements: Arranged,
    initial: NetworkWeights,
    dealt: Dealt,
    stop: int | None = None,
) -> list[Words]:
    """The summed loss of each epoch that is begun within `stop` steps, (1, 1); arguments are those of `train`."""
    link, bits = plan.activation, plan.loss_bits
    sums: dict[int, Words] = {}
    for step, seen, _ in itertools.islice(_walk(xs, y, plan, order, elements, initial, dealt), stop):
        scores = step.alpha * decode(seen.z, plan.fz)
        labels = seen.signs * encode(y[order.permutation(step.epoch)[step.start : step.stop]], bits.label)
        labels = labels[:, seen.classes]
        alone = encode(link.cumulant(scores), bits.total).sum(keepdims=True)
        alone = alone + encode(link.label_part(decode(labels, bits.label)), bits.total).sum(keepdims=True)
        loss = alone - (labels * encode(scores, bits.score)).sum(keepdims=True)
        sums[step.epoch] = sums.get(step.epoch, np.zeros_like(loss)) + loss
    return list(sums.values())


def scores(xs: Sequence[Words], weights: NetworkWeights, setting: Setting, steps: Iterable[Step]) -> Floats:
    """What a network says of rows that are not trained on, (rows, outputs), row by row; classes less an arbitrary one.

    `steps` are those of one pass, with alpha of the step that the model is kept from.
    """
    found = np.empty((xs[0].shape[0], setting.plan.outputs))
    for step in steps:
        rows = setting.order.permutation(step.epoch)[step.start : step.stop]
        seen = _forward([x[rows] for x in xs], weights, step, setting)
        rounded = seen.signs * encode(decode(seen.z, setting.plan.fz), SCORE_BITS)
        found[rows] = step.alpha * decode(rounded[:, np.argsort(seen.classes)], SCORE_BITS)
    return found


def _walk(
    xs: Sequence[Words],
    y: Floats,
    plan: Plan,
    order: Ordered,
    elements: Arranged,
    initial: NetworkWeights,
    dealt: Dealt,
) -> Iterator[tuple[Step, _Seen, NetworkWeights]]:
    """Every step: what the helper saw, and the weights after it."""
    weights, setting = initial, Setting(plan, order, elements, plan.fx if plan.smooth else 0)
    for step in plan.steps():
        rows = order.permutation(step.epoch)[step.start : step.stop]
        batch = [x[rows] for x in xs]
        seen = _forward(batch, weights, step, setting)
        a = encode(step.scale * plan.activation.phi(step.alpha * decode(seen.z, plan.fz)), plan.f)
        error = a - seen.signs * encode(step.scale * y[rows], plan.f)[:, seen.classes]
        weights = _backward(batch, weights, step, seen, error, plan, dealt)
        yield step, seen, weights


def _forward(batch: Sequence[Words], weights: NetworkWeights, step: Step, setting: Setting) -> _Seen:
    plan, order = setting.plan, setting.order
    column = encode_number(1.0 / step.alpha, plan.fx)
    z = column * weights.biases[0]
    for x, block in zip(batch, weights.blocks, strict=True):
        z = z + x @ block
    hidden = []
    for k, (above, bias) in enumerate(zip(weights.upper, weights.biases[1:], strict=True)):
        hidden.append(_hidden(z, step, k, setting))
        z = hidden[-1].activation @ above + column * bias
    signs, classes = order.signs(step, odd=plan.activation.odd), order.classes(step, plan.outputs)
    z = signs * z[:, classes] + order.noise(step, plan.fz, plan.outputs)
    return _Seen(hidden, z - z[:, :1] if plan.outputs > 1 else z, signs, classes)


def _hidden(z: Words, step: Step, k: int, setting: Setting) -> _Layer:
    """The activation by what the helper sees of each element: its order, sign and noise have a part in the rounding."""
    plan, link, count = setting.plan, setting.activation, z.size
    order, signs = setting.elements.permutation(step, k, count), setting.elements.signs(step, k, count)
    seen = z.reshape(-1)[order] * signs + setting.elements.noise(step, k, count, plan.fz)
    scores = step.alpha * decode(seen, plan.fz)
    slope = encode(step.alpha * link.slope(scores), setting.slope_bits)
    if link.kappa is None:
        told = signs * encode(link.phi(scores), plan.fx) + encode_number(link.centre, plan.fx)
    else:
        told = np.where(signs == 1, encode(link.phi(scores), plan.fx), encode(link.phi(-scores), plan.fx))
        slope = np.where(signs == 1, slope, encode_number(step.alpha * link.kappa, setting.slope_bits) - slope)
    placed = np.empty_like(told)
    placed[order] = told
    return _Layer(order, placed.reshape(z.shape), slope)


def _backward(
    batch: Sequence[Words],
    weights: NetworkWeights,
    step: Step,
    seen: _Seen,
    error: Words,
    plan: Plan,
    dealt: Dealt,
) -> NetworkWeights:
    """The weights after a step; `error` has F bits, the rows' signs, and its classes in secret order."""
    back, last = encode_number(step.after, plan.fx), len(weights.upper) - 1
    upper, biases = list(weights.upper), list(weights.biases)
    for k in range(last, -1, -1):
        layer, above = seen.hidden[k], weights.upper[k]
        activation, falls = layer.activation, error
        if k == last:
            activation, falls, above = seen.signs * activation, seen.signs * error, above[:, seen.classes]
        gradient, falls = activation.T @ error, back * falls.sum(axis=0, keepdims=True)
        if k == last:
            canonical = np.argsort(seen.classes)
            gradient, falls = gradient[:, canonical], falls[:, canonical]
        upper[k], biases[k + 1] = upper[k] - gradient, biases[k + 1] - falls
        narrow = _rounded(above, dealt("rw", k, step), plan.fw - NARROW_BITS)
        error = _delta(error @ narrow.T, layer, k, step, plan, dealt)
        if k == last:
            error = seen.signs * error
    blocks = tuple(block - x.T @ error for x, block in zip(batch, weights.blocks, strict=True))
    biases[0] = biases[0] - back * error.sum(axis=0, keepdims=True)
    return NetworkWeights(blocks, tuple(upper), tuple(biases))


def _delta(error: Words, layer: _Layer, k: int, step: Step, plan: Plan, dealt: Dealt) -> Words:
    """The error of hidden layer k's pre-activations, F fractional bits, from that of its activations, F + 20."""
    flat = _rounded(error.reshape(-1)[layer.order], dealt("rd", k, step).reshape(-1), NARROW_BITS) * layer.slope
    if plan.smooth:
        flat = _rounded(flat, dealt("rs", k, step).reshape(-1), plan.fx)
    placed = np.empty_like(flat)
    placed[layer.order] = flat
    return placed.reshape(error.shape)


def _rounded(x: Words, r: Words, bits: int) -> Words:
    """X with so many fractional bits fewer, up or down as r says."""
    return from_signed(to_signed(x + (r & np.uint64((1 << bits) - 1))) >> np.int64(bits))


def train_float(
    xs: Sequence[Floats], y: Floats, plan: Plan, order: Ordered, initial: NetworkModel, stop: int | None = None
) -> NetworkModel:
    """Ordinary float64 SGD on the same batches at the rates that the job asks for, from the same first weights."""
    assert plan.network is not None
    request, activation = plan.request, HIDDEN[plan.network.activation]
    blocks, upper, biases = list(initial.blocks), list(initial.upper), list(initial.biases)
    learning = rates(request.schedule, request.rate, request.decay)
    for step, rate in itertools.islice(zip(plan.steps(), learning, strict=False), stop):
        rows = order.permutation(step.epoch)[step.start : step.stop]
        batch = [x[rows] for x in xs]
        zs = [sum((x @ block for x, block in zip(batch, blocks, strict=True)), biases[0])]
        activations = []
        for above, bias in zip(upper, biases[1:], strict=True):
            activations.append(activation.phi(zs[-1]) + activation.centre)
            zs.append(activations[-1] @ above + bias)
        error, kept = rate / step.rows * (plan.activation.phi(zs[-1]) - y[rows]), 1.0 - rate * request.l2
        for k in range(len(upper) - 1, -1, -1):
            below = (error @ upper[k].T) * activation.slope(zs[k])
            upper[k] = kept * upper[k] - activations[k].T @ error
            biases[k + 1] = biases[k + 1] - error.sum(axis=0, keepdims=True)
            error = below
        blocks = [kept * block - x.T @ error for x, block in zip(batch, blocks, strict=True)]
        biases[0] = biases[0] - error.sum(axis=0, keepdims=True)
    return NetworkModel(tuple(blocks), tuple(upper), tuple(biases))


def release(weights: NetworkWeights, plan: Plan, steps: int | None = None) -> NetworkModel:
    """What a network in words means after so many steps, all if None: weights times alpha, and biases as they are."""
    return NetworkModel(
        tuple(plan.weights(block, steps) for block in weights.blocks),
        tuple(plan.weights(layer, steps) for layer in weights.upper),
        tuple(plan.intercept(bias) for bias in weights.biases),
    )
