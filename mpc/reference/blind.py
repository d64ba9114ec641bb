"""Trains in plaintext as the oracle of a training in which the helper learns nothing.

It sees everything, the masks t on angles included, and may import nothing of the protocol. Masks shape the model only
through roundings: cos and sin of t are rounded, and so are the factors that a + t gives, with a the angle of a score.
In a network truncations round up or down as the lower bits of their masks say.

A model without hidden layers is a network that has none.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, sum_along
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.functions.row_labels import AnyLabels, RowLabels
from tercet.mpc.functions.series import Series, Terms
from tercet.mpc.functions.trigonometry import rotations
from tercet.mpc.plan.blind import angle_unit, relative_norm, step_bits
from tercet.mpc.plan.forward import SCORE_BITS
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.linear import Added, Weights
from tercet.mpc.reference.network import NetworkWeights, round_by

Permutation = Callable[[int], Signed]  # of all rows, by epoch
Dealt = Callable[[str, int, Step], Words]
"""Masks of a layer: "t" of its pre-activations' angles, and of truncations "weights", "error" and "delta"."""

AnyWeights = Weights | NetworkWeights


class BlindRun(NamedTuple):
    """Gathers all that shapes a joint run.

    Attributes:
        xs: Each data party's encoded features, (rows, columns), f_x fractional bits.
        y: Centred labels, (rows, outputs), with offsets if there are any.
        plan: The job's agreed numbers.
        permutation: The order of rows.
        dealt: The masks of a step.
        first: The step to begin with.
        begin: The model before it; zeros if None.
    """

    xs: Sequence[Words]
    y: AnyLabels
    plan: Plan
    permutation: Permutation
    dealt: Dealt
    first: int = 0
    begin: AnyWeights | None = None

    @property
    def labels(self) -> RowLabels:
        """Labels with what each row's score begins with."""
        return RowLabels.of(self.plan.link, self.y)

    @property
    def layers(self) -> int:
        """Hidden layers."""
        return 0 if self.plan.network is None else len(self.plan.network.hidden)

    def numbers(self, k: int, step: Step) -> "_Numbers":
        """Return the numbers of layer k; the output comes after all hidden ones."""
        plan, blind, network = self.plan, self.plan.request.blind, self.plan.network
        assert blind is not None
        if k == self.layers:
            series = blind.series(plan.request.model)
            total = plan.f - plan.factor_bits
            least = step.least
        else:
            assert network is not None
            series = blind.hidden_series(network.activation)
            least, total = 1.0, plan.hidden_bits
        bits = step_bits(least, total, relative_norm(series))
        return _Numbers(series, angle_unit(step.alpha, plan.fz, series.period), bits.dealt, bits.public)


class _Numbers(NamedTuple):
    """The numbers of a layer in a step."""

    series: Series
    unit: np.uint64
    dealt: int
    public: int


class _Forward(NamedTuple):
    """A batch on its way up: activations, slopes and narrow weights of each hidden layer.

    The scores.
    """

    hidden: list[tuple[Words, Words, Words]]
    z: Words


class _StepRecord(NamedTuple):
    """A step of the plaintext training."""

    step: Step
    rows: Signed
    z: Words
    weights: NetworkWeights  # after it


def train(run: BlindRun, stop: int | None = None) -> Weights:
    """Train a linear model in fixed point with nothing shared, up to this step.

    The whole job if None.
    """
    weights = train_network(run, stop)
    return Weights(weights.blocks, weights.biases[0])


def train_network(run: BlindRun, stop: int | None = None) -> NetworkWeights:
    """Train a network likewise."""
    weights = _begin(run)
    for record in _walk(run, stop):
        weights = record.weights
    return weights


def losses(run: BlindRun) -> list[Words]:
    """Compute the summed loss of each epoch, (1, 1), `plan.loss_bits.total` fractional bits."""
    sums: dict[int, Words] = {}
    for record in _walk(run, None):
        loss = _loss(run, record)
        sums[record.step.epoch] = sums.get(record.step.epoch, np.zeros_like(loss)) + loss
    return list(sums.values())


def narrow(run: BlindRun, weights: NetworkWeights, step: Step) -> NetworkWeights:
    """Truncate upper weights to as many fractional bits as a kept model has.

    The masks are those of a step.
    """
    bits = run.plan.upper_bits - run.plan.finished_bits
    upper = (round_by(above, run.dealt("weights", k, step), bits) for k, above in enumerate(weights.upper))
    return replace(weights, upper=tuple(upper))


def scores(run: BlindRun, weights: NetworkWeights, steps: Iterable[Step], added: Added | None = None) -> Floats:
    """Score rows that are not trained on, (rows, outputs), row by row.

    Args:
        run: Of which `xs` are the rows to score, and permutation and masks those of the pass.
        weights: With narrow upper ones.
        steps: Of one pass, with alpha of the step that the model is kept from.
        added: The partners' noise.
    """
    found = np.empty((run.xs[0].shape[0], run.plan.outputs))
    for step in steps:
        rows = run.permutation(step.epoch)[step.start : step.stop]
        z = _pass_forward(run, weights, step, rows).z
        z = z if added is None else z + added(step)
        found[rows] = step.alpha * decode(encode(decode(z, run.plan.fz), SCORE_BITS), SCORE_BITS)
    return found


def _begin(run: BlindRun) -> NetworkWeights:
    if isinstance(run.begin, NetworkWeights):
        return run.begin
    if run.begin is not None:
        return NetworkWeights(run.begin.blocks, (), (run.begin.intercept,))
    assert not run.layers, "first weights of a network are drawn"
    outputs = run.plan.outputs
    blocks = tuple(np.zeros((x.shape[1], outputs), np.uint64) for x in run.xs)
    return NetworkWeights(blocks, (), (np.zeros((1, outputs), np.uint64),))


def _walk(run: BlindRun, stop: int | None) -> Iterator[_StepRecord]:
    weights, plan = _begin(run), run.plan
    for step in plan.steps(run.first):
        if step.index == stop:
            return
        rows = run.permutation(step.epoch)[step.start : step.stop]
        forward = _pass_forward(run, narrow(run, weights, step), step, rows)
        labels = run.labels[rows]
        if labels.shift is not None:
            forward = forward._replace(z=forward.z + encode(labels.shift / step.alpha, plan.fz))
        error = _error(run, step, labels, forward.z)
        weights = _after(run, weights, step, rows, forward=forward, error=error)
        yield _StepRecord(step, rows, forward.z, weights)


def _error(run: BlindRun, step: Step, labels: RowLabels, z: Words) -> Words:
    """Compute a batch's errors, F bits.

    They are phi of scores less labels, or less labels times another function of scores. Rows' weights, and labels that
    multiply a function, have some of the bits.
    """
    plan, numbers = run.plan, run.numbers(run.layers, step)
    phi, slope = numbers.series.phi, numbers.series.slope

    def scaled(terms: Terms, more: int = 0) -> Words:
        return _series(run, run.layers, terms, step, z, public=numbers.public + more, scale=step.scale)

    if labels.weights is not None:
        error = encode(labels.weights, plan.factor_bits) * scaled(phi)
    else:
        error = scaled(phi, plan.factor_bits)
    if slope is not None:
        assert labels.amounts is not None
        error = error - encode(labels.amounts, plan.factor_bits) * scaled(slope)
    return error + encode(step.scale * labels.known_error(*numbers.series.constants), plan.f)


def _pass_forward(run: BlindRun, weights: NetworkWeights, step: Step, rows: Signed) -> _Forward:
    """Compute a batch's scores, f_z bits, by narrow upper weights."""
    column = encode_number(1.0 / step.alpha, run.plan.fx)
    z = column * weights.biases[0]
    for x, block in zip(run.xs, weights.blocks, strict=True):
        z = z + x[rows] @ block
    hidden = []
    for k, (above, bias) in enumerate(zip(weights.upper, weights.biases[1:], strict=True)):
        activation, slope = _hidden(run, k, step, z)
        hidden.append((activation, slope, above))
        z = activation @ above + column * bias
    return _Forward(hidden, z)


def _hidden(run: BlindRun, k: int, step: Step, z: Words) -> tuple[Words, Words]:
    """Compute hidden layer k's activation and slope, P fractional bits."""
    numbers, bits, network = run.numbers(k, step), run.plan.hidden_bits, run.plan.network
    assert network is not None
    phi, second = numbers.series.phi, numbers.series.second
    activation = _series(run, k, phi, step, z, public=numbers.public)
    activation = activation + encode_number(phi.constant + HIDDEN[network.activation].centre, bits)
    slope = _series(run, k, second, step, z, public=numbers.public, scale=step.alpha)
    return activation, slope + encode_number(step.alpha * second.constant, bits)


def _after(
    run: BlindRun, weights: NetworkWeights, step: Step, rows: Signed, *, forward: _Forward, error: Words
) -> NetworkWeights:
    """Return the weights after a step, from the error of its scores."""
    plan, back = run.plan, encode_number(step.after, run.plan.fx)
    upper, biases = list(weights.upper), list(weights.biases)
    for k in reversed(range(run.layers)):
        activation, slope, narrow = forward.hidden[k]
        upper[k] = upper[k] - activation.T @ error
        biases[k + 1] = biases[k + 1] - back * error.sum(axis=0, keepdims=True)
        carried = round_by(error @ narrow.T, run.dealt("error", k, step), run.plan.finished_bits)
        error = round_by(carried * slope, run.dealt("delta", k, step), plan.hidden_bits)
    blocks = tuple(block - x[rows].T @ error for x, block in zip(run.xs, weights.blocks, strict=True))
    biases[0] = biases[0] - back * error.sum(axis=0, keepdims=True)
    return NetworkWeights(blocks, tuple(upper), tuple(biases))


def _series(run: BlindRun, k: int, terms: Terms, step: Step, z: Words, *, public: int, scale: float = 1.0) -> Words:
    """Compute a function of layer k times a scale, but for its constant, term by term.

    Public factors have so many fractional bits, and dealt ones what the step has.
    """
    numbers, t = run.numbers(k, step), run.dealt("t", k, step)
    unit, multiples, bits = numbers.unit, numbers.series.multiples, numbers.dealt
    cos_opened, sin_opened = rotations(z * unit + t, multiples)
    cos_mask, sin_mask = rotations(t, multiples)
    found = np.zeros_like(z)
    for n, (sine, cosine) in enumerate(zip(terms.sines, terms.cosines, strict=True)):
        s, c = scale * sine, scale * cosine
        of_cosine = encode(s * sin_opened[n] + c * cos_opened[n], public)
        of_sine = encode(c * sin_opened[n] - s * cos_opened[n], public)
        found = found + of_cosine * encode(cos_mask[n], bits)
        found = found + of_sine * encode(sin_mask[n], bits)
    return found


def _loss(run: BlindRun, record: _StepRecord) -> Words:
    """Sum a batch's loss, (1, 1)."""
    bits, step, k, rows = run.plan.loss_bits, record.step, run.layers, run.labels[record.rows]
    numbers = run.numbers(k, step)
    series, dealt = numbers.series, numbers.dealt
    factors, cumulants = encode(rows.loss_factors(), bits.label), bits.total if rows.weights is None else bits.score
    score = _series(run, k, series.score_terms, step, record.z, public=bits.score - dealt)
    score = score + encode(np.full((1, 1), series.score_terms.constant), bits.score)
    cumulant = _series(run, k, series.second, step, record.z, public=cumulants - dealt)
    cumulant = cumulant + encode(np.full((1, 1), series.second.constant), cumulants)
    alone = encode(rows.known_loss(decode(factors, bits.label)), bits.total)
    if rows.weights is not None:
        return sum_along(alone) - sum_along(factors * np.hstack([score, cumulant]))
    return sum_along(cumulant) + sum_along(alone) - sum_along(factors * score)
