"""Evaluates a series on masked scores, from what the helper deals.

With z + t opened and m running over the multiples of the series,

    sin(m z) = sin(m (z + t)) cos(m t) - cos(m (z + t)) sin(m t)
    cos(m z) = cos(m (z + t)) cos(m t) + sin(m (z + t)) sin(m t)

so a sum of them is one product of a public factor and a dealt word for each. Arrays of factors and of dealt words have
the shape (2 K, rows, outputs): K for cos(m t), then K for sin(m t).
"""

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_bounded
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.series import Series, Terms
from tercet.mpc.functions.trigonometry import rotations

CosSin = tuple[Floats, Floats]


def rotate(words: Words, unit: np.uint64, series: Series) -> CosSin:
    """Compute cos and sin of every multiple of words (rows, outputs); each (K, rows, outputs)."""
    return rotations(words * unit, series.multiples)


def dealt_words(t: Words, unit: np.uint64, series: Series, scale: float, bits: int) -> Words:
    """Encode c cos(m t) and c sin(m t) at the helper; t is (rows, outputs)."""
    return encode_bounded(scale * np.concatenate(rotate(t, unit, series)), bits)


def factors(opened: CosSin, terms: Terms, bits: int, scale: float = 1.0) -> Words:
    """Encode the public factors of a function times a scale, but for its constant.

    `opened` are cos and sin of m (z + t).
    """
    cosines, sines = opened
    shape = (-1, 1, 1)
    of_cosines, of_sines = (scale * np.reshape(numbers, shape) for numbers in (terms.cosines, terms.sines))
    with_cosines = of_sines * sines + of_cosines * cosines
    return encode_bounded(np.concatenate([with_cosines, of_cosines * sines - of_sines * cosines]), bits)


def evaluate(public: Words, dealt: Words) -> Words:
    """Compute a share of the function, (rows, outputs).

    From public factors and a share of the dealt words.
    """
    found: Words = (public * dealt).sum(axis=0, dtype=np.uint64)
    return found
