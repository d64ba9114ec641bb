"""Computes the linear algebra around an activation, for both sides.

It is section 4 of the protocol as pure functions.

They hold no state and know no party; who may see which argument is said in each role's module.

The classes, or other outputs, of a batch stand in an order P that is secret to the helper: whatever has a column for
each and travels has them in that order, the parties' shares of the model never.

Symbols: X_i is party i's batch in secret order and with secret signs s, w_i = sum_j w_ij its block of weights, w_ij
party j's share of it; E_i = X_i - U_i, y~ = y - m_y and f_ij = w_ij - v_ij are what others receive of them; m_ij are
party j's shares of the activation a, M_i their sum over j, p_i = a - M_i; r_ij keep the gradient shares g_i apart. How
a comes about is not said here; everything would be the same if the activation were computed otherwise.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words, product, total, transposed_product
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks, name_once

NO_DIGESTS: Mapping[int, bytes] = MappingProxyType({})


def apply_order(words: Words, classes: Signed) -> Words:
    """Put columns, one for each class, into the secret order P."""
    return words if len(classes) == 1 else np.take(words, classes, axis=1)


def restore_order(words: Words, classes: Signed | None) -> Words:
    """Put columns back into their own order, P^-1.

    With None they are in their own already.
    """
    return words if classes is None or len(classes) == 1 else np.take(words, np.argsort(classes), axis=1)


def preactivation_share(x: Words, weights: Words, ahead: Words) -> Words:
    """Compute X_i (w_ii P + sum_j f_ij) + the part known ahead.

    f_z fractional bits, before the noise and the zero share.
    """
    return product(x, weights) + ahead


def zero_share(
    me: int,
    masks: Mapping[int, Masks],
    step: Step,
    shape: tuple[int, int],
    name: str = "zero",
    *,
    digests: Mapping[int, bytes] = NO_DIGESTS,
) -> Words:
    """Compute sum_(j>i) PRF(k_ij) - sum_(j<i) PRF(k_ji).

    It is uniform, and zero in sum over all data parties.

    A step that sends the helper more than one share has a name for each. `digests` are what this party and each other
    one have found of the helper's dealing (`checks`): unless both have found the same, the sum is uniform.
    """
    share = np.zeros(shape, np.uint64)
    for other, words in masks.items():
        keyed = name_once(name, digests[other]) if other in digests else name
        if other > me:
            share += words(keyed, me, other, step, shape)
        else:
            share -= words(keyed, other, me, step, shape)
    return share


def own_update(own: Words, x: Words, error: Words, gradient_share: Words, classes: Signed | None = None) -> Words:
    """Compute w_ii - (X_i^T (p_i - y) + g_i) P^-1."""
    return own - restore_order(transposed_product(x, error) + gradient_share, classes)


def partner_update(share: Words, masked_x: Words, known: Words, r: Words, classes: Signed | None = None) -> Words:
    """Compute w_ij - (E_i^T (m_ij - [j = L] m_y) + r_ij) P^-1."""
    return share - restore_order(transposed_product(masked_x, known) + r, classes)


def intercept_update(share: Words, back: np.uint64, signs: Words, error: Words, classes: Signed | None = None) -> Words:
    """Compute w0_j - encode(alpha_(t+1), f_x) s^T (p_L - y) P^-1.

    In place of p_L - y, parties other than the label party have m_Lj.
    """
    return share - restore_order(transposed_product(signs, error) * back, classes)


def gradient_share(u: Words, known: Words, rs: Iterable[Words]) -> Words:
    """Compute g_i = U_i^T (M_i - [i != L] m_y) - sum_j r_ij; `known` is the bracket."""
    return transposed_product(u, known) - total(rs)


def correction(u: Words, vs: Iterable[Words]) -> Words:
    """Compute U_i sum_j v_ij, which the shares of z lack."""
    return product(u, total(vs))
