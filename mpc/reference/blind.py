"""Trains in plaintext as the oracle of a training in which the helper learns nothing.

It sees everything, the masks t on scores included, and may import nothing of the protocol. t shapes the model only
through roundings: cos and sin of t are rounded, and so are the factors that z + t gives.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, sum_along
from tercet.mpc.functions.series import Series, Terms, series_for
from tercet.mpc.functions.trigonometry import rotations
from tercet.mpc.plan.blind import angle_unit, norm_bits, step_bits
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.linear import Weights

Permutation = Callable[[int], Signed]  # of all rows, by epoch


class BlindRun(NamedTuple):
    """Gathers all that shapes a joint run.

    Attributes:
        xs: Each data party's encoded features, (rows, columns), f_x fractional bits.
        y: Centred labels, (rows, outputs).
        plan: The job's agreed numbers.
        permutation: The order of rows.
        dealt: t of a step, (rows of the batch, outputs).
        first: The step to begin with.
        begin: The model before it; zeros if None.
    """

    xs: Sequence[Words]
    y: Floats
    plan: Plan
    permutation: Permutation
    dealt: Callable[[Step], Words]
    first: int = 0
    begin: Weights | None = None

    @property
    def series(self) -> Series:
        """The series of the activation."""
        blind = self.plan.request.blind
        assert blind is not None
        return series_for(self.plan.request.model, blind.reach, blind.terms)


class _StepRecord(NamedTuple):
    """A step of the plaintext training."""

    step: Step
    rows: Signed
    z: Words
    weights: Weights  # after it


def train(run: BlindRun, stop: int | None = None) -> Weights:
    """Train in fixed point with nothing shared, up to this step; the whole job if None."""
    weights = run.begin or _zeros(run)
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


def _zeros(run: BlindRun) -> Weights:
    outputs = run.plan.outputs
    blocks = tuple(np.zeros((x.shape[1], outputs), np.uint64) for x in run.xs)
    return Weights(blocks, np.zeros((1, outputs), np.uint64))


def _walk(run: BlindRun, stop: int | None) -> Iterator[_StepRecord]:
    weights, plan, link, phi = run.begin or _zeros(run), run.plan, run.plan.link, run.series.phi
    for step in plan.steps(run.first):
        if step.index == stop:
            return
        rows = run.permutation(step.epoch)[step.start : step.stop]
        z = _score(run, weights, step, rows)
        error = _series(run, phi, step, z, public=step_bits(step.scale, plan.f, norm_bits(run.series)).public)
        error = error + encode(step.scale * (phi.constant - link.target(run.y[rows])), plan.f)
        blocks = tuple(block - x[rows].T @ error for x, block in zip(run.xs, weights.blocks, strict=True))
        falls = encode_number(step.after, plan.fx) * error.sum(axis=0, keepdims=True)
        weights = Weights(blocks, weights.intercept - falls)
        yield _StepRecord(step, rows, z, weights)


def _score(run: BlindRun, weights: Weights, step: Step, rows: Signed) -> Words:
    """Compute a batch's z, the label's offset in it; f_z bits."""
    plan, offset = run.plan, run.plan.link.offset
    z = encode_number(1.0 / step.alpha, plan.fx) * weights.intercept
    for x, block in zip(run.xs, weights.blocks, strict=True):
        z = z + x[rows] @ block
    return z if offset is None else z + encode(offset(run.y[rows]) / step.alpha, plan.fz)


def _series(run: BlindRun, terms: Terms, step: Step, z: Words, *, public: int, scale: float = 1.0) -> Words:
    """Compute c times a function times a scale, but for its constant, term by term.

    Public factors have so many fractional bits, and dealt ones what the step has.
    """
    plan, series, t = run.plan, run.series, run.dealt(step)
    unit, bits = angle_unit(step.alpha, plan.fz, series.period), step_bits(step.scale, plan.f, norm_bits(series)).dealt
    cos_opened, sin_opened = rotations((z + t) * unit, series.multiples)
    cos_mask, sin_mask = rotations(t * unit, series.multiples)
    found = np.zeros_like(z)
    for k, (sine, cosine) in enumerate(zip(terms.sines, terms.cosines, strict=True)):
        s, c = scale * sine, scale * cosine
        of_cosine = encode(s * sin_opened[k] + c * cos_opened[k], public)
        of_sine = encode(c * sin_opened[k] - s * cos_opened[k], public)
        found = found + of_cosine * encode(step.scale * cos_mask[k], bits)
        found = found + of_sine * encode(step.scale * sin_mask[k], bits)
    return found


def _loss(run: BlindRun, record: _StepRecord) -> Words:
    """Sum a batch's loss, (1, 1)."""
    bits, series, link, step = run.plan.loss_bits, run.series, run.plan.link, record.step
    dealt, inverse = step_bits(step.scale, run.plan.f, norm_bits(series)).dealt, 1.0 / step.scale
    labels = encode(link.target(run.y[record.rows]), bits.label)
    score = _series(run, series.score_terms, step, record.z, public=bits.score - dealt, scale=inverse)
    score = score + encode(np.full((1, 1), series.score_terms.constant), bits.score)
    cumulant = _series(run, series.second, step, record.z, public=bits.total - dealt, scale=inverse)
    cumulant = cumulant + encode(np.full((1, 1), series.second.constant), bits.total)
    alone = encode(link.label_part(decode(labels, bits.label)), bits.total)
    return sum_along(cumulant) + sum_along(alone) - sum_along(labels * score)
