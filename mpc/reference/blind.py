"""Trains in plaintext as the oracle of the blind mode, given the masks t that the helper dealt.

It sees everything and may import nothing of the protocol. t shapes the model only through roundings: cos and sin of t
are rounded, and so are the factors that z + t gives.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words
from tercet.mpc.functions.series import Series, Terms, series_for
from tercet.mpc.functions.trigonometry import rotations
from tercet.mpc.plan.blind import angle_unit, norm_bits, step_bits
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.linear import Weights

Dealt = Callable[[Step], Words]  # t of a step, (rows of the batch, outputs)
Permutation = Callable[[int], Signed]  # of all rows, by epoch


def train_blind(
    xs: Sequence[Words],
    y: Floats,
    plan: Plan,
    permutation: Permutation,
    dealt: Dealt,
    stop: int | None = None,
    first: int = 0,
    begin: Weights | None = None,
) -> Weights:
    """Train in fixed point with nothing shared.

    Args:
        xs: Each data party's encoded features, (rows, columns), f_x fractional bits.
        y: Centred labels, (rows, outputs).
        plan: The job's agreed numbers.
        permutation: The order of rows.
        dealt: The masks on scores.
        stop: Before which step to end; the whole job if None.
        first: The step to begin with.
        begin: The model before it; zeros if None.
    """
    blind = plan.request.blind
    assert blind is not None
    series, link = series_for(plan.request.model, blind.reach, blind.terms), plan.activation
    blocks = tuple(np.zeros((x.shape[1], plan.outputs), np.uint64) for x in xs) if begin is None else begin.blocks
    intercept = np.zeros((1, plan.outputs), np.uint64) if begin is None else begin.intercept
    for step in itertools.islice(plan.steps(), first, stop):
        rows = permutation(step.epoch)[step.start : step.stop]
        z = encode_number(1.0 / step.alpha, plan.fx) * intercept
        for x, block in zip(xs, blocks, strict=True):
            z = z + x[rows] @ block
        if link.offset is not None:
            z = z + encode(link.offset(y[rows]) / step.alpha, plan.fz)
        error = _evaluate(series, series.phi, z, dealt(step), plan, step)
        error = error + encode(step.scale * (series.phi.constant - link.target(y[rows])), plan.f)
        blocks = tuple(block - x[rows].T @ error for x, block in zip(xs, blocks, strict=True))
        intercept = intercept - encode_number(step.after, plan.fx) * error.sum(axis=0, keepdims=True)
    return Weights(blocks, intercept)


def _evaluate(series: Series, terms: Terms, z: Words, t: Words, plan: Plan, step: Step) -> Words:
    """Compute c times a function but for its constant, (rows, outputs), F bits: term by term."""
    unit, bits = angle_unit(step.alpha, plan.fz, series.period), step_bits(step.scale, plan.f, norm_bits(series))
    cos_opened, sin_opened = rotations((z + t) * unit, series.multiples)
    cos_mask, sin_mask = rotations(t * unit, series.multiples)
    found = np.zeros_like(z)
    for k, (s, c) in enumerate(zip(terms.sines, terms.cosines, strict=True)):
        cosine, sine = cos_opened[k], sin_opened[k]
        found = found + encode(s * sine + c * cosine, bits.public) * encode(step.scale * cos_mask[k], bits.dealt)
        found = found + encode(c * sine - s * cosine, bits.public) * encode(step.scale * sin_mask[k], bits.dealt)
    return found
