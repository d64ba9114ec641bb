"""Computes what is dealt of a bundle, from its masks alone.

That is cosines and sines, and for hidden layers products of masks and parts of truncations' masks. The helper does so
for each bundle that it deals, and a data party for those that are opened. So nothing here may depend on a row, or on a
step's rate or weights.

Symbols are those of `layers`. The helper knows every mask whole, and nothing that one covers.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.ring import Words, product, product_transposed, total, transposed_product
from tercet.mpc.dealing.activation import dealt_words
from tercet.mpc.dealing.narrowing import parts_of
from tercet.mpc.dealing.shares import explicit_words
from tercet.mpc.dealing.sizes import BlindLayout, layer_name
from tercet.mpc.plan.architecture import Tensors
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks


class MaskSums(Protocol):
    """Adds up the data parties' words of a mask."""

    def __call__(self, name: str, k: int, step: Step, shape: tuple[int, int] | None = None) -> Words:
        """Return the mask of layer k, (rows, width) if nothing is said."""


def weights_mask(layout: BlindLayout, step: Step, k: int, mask: MaskSums) -> Words:
    """Compute the mask under which the weights above hidden layer k are truncated."""
    return mask("weights", k, step, layout.upper(k))


def error_mask(layout: BlindLayout, step: Step, k: int, mask: MaskSums) -> Words:
    """Compute rho, under which the error of hidden layer k's activation is truncated.

    (rows, width).
    """
    carried = product_transposed(mask("r", k + 1, step), mask("v", k, step, layout.upper(k)))
    return mask("error", k, step) + carried


def delta_mask(layout: BlindLayout, step: Step, k: int, mask: MaskSums, error: Words) -> Words:
    """Compute sigma, under which the error of hidden layer k's pre-activation is truncated.

    (rows, width).

    `error` is rho.
    """
    high = truncation.high_part(error, layout.narrow_bits)
    return mask("delta", k, step) + high * mask("slope", k, step)


def dealt_mask(layout: BlindLayout, name: str, step: Step, k: int, mask: MaskSums) -> Words:
    """Compute the mask of this name, by which layer k rounds.

    "t", "weights", "error" or "delta".
    """
    if name == "t":
        return mask("t", k, step)
    if name == "weights":
        return weights_mask(layout, step, k, mask)
    error = error_mask(layout, step, k, mask)
    return error if name == "error" else delta_mask(layout, step, k, mask, error)


def deal_hidden(layout: BlindLayout, step: Step, k: int, mask: MaskSums, plan: Plan, *, trains: bool) -> Tensors:
    """Compute all but the angles that is dealt for hidden layer k."""
    masks = [("weights", weights_mask(layout, step, k, mask), plan.upper_bits - layout.narrow_bits)]
    found: Tensors = {("product", k): product(mask("q", k, step), mask("v", k, step, layout.upper(k)))}
    if trains:
        error = error_mask(layout, step, k, mask)
        delta = delta_mask(layout, step, k, mask, error)
        masks += [("error", error, layout.narrow_bits), ("delta", delta, plan.hidden_bits)]
        found["error top slope", k] = truncation.top_bit(error) * mask("slope", k, step)
        found["gradient", k] = transposed_product(mask("q", k, step), mask("r", k + 1, step))
    for name, r, bits in masks:
        found |= parts_of(r, k, name, bits)
    return found


def deal_angles(layout: BlindLayout, step: Step, k: int, t: Words) -> Words:
    """Compute cos and sin of the multiples of t, the mask of layer k's angles."""
    numbers = layout.numbers(step, k)
    return dealt_words(t, numbers.series, numbers.bits.dealt)


def deal_weighted(layout: BlindLayout, masks: Mapping[int, Masks], step: Step, label: int) -> Words:
    """Compute the product of masks on rows' factors and on what they multiply.

    (rows, outputs). The first are the label party's; the others are of all other data parties.
    """
    shape, name = layout.unweighted(step.rows), layer_name("unweighted", layout.output)
    weight = masks[label](layer_name("row weight", layout.output), label, label, step, layout.factors(step.rows))
    return sum_products(weight, total(of(name, j, j, step, shape) for j, of in masks.items() if j != label))


def sum_products(factors: Words, functions: Words) -> Words:
    """Multiply each of a row's factors, (rows, F), by its function, and add the products up.

    Functions are (rows, F times outputs), what comes of it (rows, outputs).
    """
    rows, count = factors.shape
    found: Words = (factors[:, :, np.newaxis] * functions.reshape(rows, count, -1)).sum(axis=1, dtype=np.uint64)
    return found


def mask_sums(layout: BlindLayout, masks: Mapping[int, Masks]) -> MaskSums:
    """Add up the data parties' words of masks; `masks` are each one's, by its index."""

    def mask(name: str, k: int, step: Step, shape: tuple[int, int] | None = None) -> Words:
        shape, name = shape or (step.rows, layout.widths[k]), layer_name(name, k)
        return total(of(name, j, j, step, shape) for j, of in masks.items())

    return mask


def bundle_words(
    plan: Plan, layout: BlindLayout, masks: Mapping[int, Masks], step: Step, *, turn: int, trains: bool
) -> Words:
    """Compute the explicit words of a bundle, for the party in turn, in one row.

    Args:
        plan: The job's agreed numbers.
        layout: Of the plan.
        masks: Of the bundle, shared by the helper and each data party, by its index.
        step: That has as many rows.
        turn: The data party that is dealt them.
        trains: Whether a way back follows.
    """
    mask = mask_sums(layout, masks)
    values = {("angles", k): deal_angles(layout, step, k, mask("t", k, step)) for k in range(layout.turns)}
    for k in layout.hidden:
        values |= deal_hidden(layout, step, k, mask, plan, trains=trains)
    if trains and plan.factor_bits:
        values["weighted", layout.output] = deal_weighted(layout, masks, step, plan.request.label)
    return explicit_words(layout.dealt(step.rows, trains=trains), values, masks, step, turn)
