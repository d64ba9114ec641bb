"""Computes what the helper deals for hidden layers: products of masks.

And parts of truncations' masks.

Symbols are those of `layers`. The helper knows every mask whole, and nothing that one covers.
"""

from typing import Protocol

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.ring import Words, product, product_transposed, transposed_product
from tercet.mpc.blind.activation import dealt_words
from tercet.mpc.blind.narrowing import parts_of
from tercet.mpc.blind.sizes import BlindLayout
from tercet.mpc.plan.architecture import Tensors
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step


class MaskSums(Protocol):
    """Adds up the data parties' words of a mask."""

    def __call__(self, name: str, k: int, step: Step, shape: tuple[int, int] | None = None) -> Words:
        """Return the mask of layer k, (rows, width) if nothing is said."""


def upper_score_mask(layout: BlindLayout, step: Step, k: int, mask: MaskSums) -> Words:
    """Compute t of layer k + 1, (rows, width): sum_j t_j - q v."""
    return mask("t", k + 1, step) - product(mask("q", k, step), mask("v", k, step, layout.upper(k)))


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

    "t" above layer 0, "weights", "error" or "delta".
    """
    if name == "t":
        return upper_score_mask(layout, step, k - 1, mask)
    if name == "weights":
        return weights_mask(layout, step, k, mask)
    error = error_mask(layout, step, k, mask)
    return error if name == "error" else delta_mask(layout, step, k, mask, error)


def deal_hidden(layout: BlindLayout, step: Step, k: int, mask: MaskSums, plan: Plan, *, trains: bool) -> Tensors:
    """Compute all but the angles that is dealt for hidden layer k."""
    masks = [("weights", weights_mask(layout, step, k, mask), plan.upper_bits - layout.narrow_bits)]
    found: Tensors = {}
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
    """Compute c cos and c sin of the multiples of t, the mask of layer k's pre-activations."""
    series, unit, scale, bits = layout.numbers(step, k)
    return dealt_words(t, unit, series, scale, bits.dealt)
