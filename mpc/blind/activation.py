"""Evaluates a series on masked scores, from what the helper deals.

With z + t opened and m running over the multiples of the series,

    sin(m z) = sin(m (z + t)) cos(m t) - cos(m (z + t)) sin(m t)
    cos(m z) = cos(m (z + t)) cos(m t) + sin(m (z + t)) sin(m t)

so a sum of them is one product of a public factor and a dealt word for each. Arrays of factors and of dealt words have
the shape (2 K, rows, outputs): K for cos(m t), then K for sin(m t).
"""

from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_bounded
from tercet.mpc.arithmetic.ring import Words, kernels
from tercet.mpc.blind.sizes import LayerNumbers
from tercet.mpc.functions.series import Series, Terms
from tercet.mpc.functions.trigonometry import rotations

CosSin = tuple[Floats, Floats]


def rotate(words: Words, unit: np.uint64, series: Series) -> CosSin:
    """Compute cos and sin of every multiple of words (rows, outputs); each (K, rows, outputs)."""
    return rotations(words * unit, series.multiples)


def dealt_words(t: Words, unit: np.uint64, series: Series, scale: float, bits: int) -> Words:
    """Encode c cos(m t) and c sin(m t) at the helper; t is (rows, outputs)."""
    numbers, count = rotate(t, unit, series), len(series.multiples)
    words = np.empty((2 * count, *t.shape), np.uint64)
    for half, floats in zip((words[:count], words[count:]), numbers, strict=True):
        kernels().encode_scaled(floats.reshape(count, -1), scale, 2.0**bits, half.reshape(count, -1))
    return words


def evaluate(opened: CosSin, dealt: Words, terms: Terms, bits: int, factor: float = 1.0) -> Words:
    """Compute a share of a function times a factor, but for its constant, (rows, outputs).

    From cos and sin of m (z + t), and a share of the dealt words; public factors have so many fractional bits.
    """
    cosines, sines = opened
    out, flat = np.empty(cosines.shape[1:], np.uint64), (len(cosines), -1)
    of_cosines, of_sines = factor * np.array(terms.cosines), factor * np.array(terms.sines)
    kernels().add_series(
        cosines.reshape(flat), sines.reshape(flat), dealt.reshape(2 * len(cosines), -1), of_cosines, of_sines,
        2.0**bits, out.reshape(-1),
    )  # fmt: skip
    return out


@dataclass(slots=True)
class MaskedLayer:
    """Holds what a data party knows of a layer's masked pre-activations in a batch."""

    numbers: LayerNumbers
    dealt: Words = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint64))  # a share of c cos and c sin of t
    opened: CosSin = field(default_factory=lambda: (np.zeros(0), np.zeros(0)))  # of the multiples of z + t

    def open(self, words: Words) -> None:
        """Take in the opened z + t, (rows, width)."""
        self.opened = rotate(words, self.numbers.unit, self.numbers.series)

    def share(self, terms: Terms, factor: float = 1.0) -> Words:
        """Compute a share of c times a function times a factor, but for its constant.

        (rows, width), F fractional bits at the output and P below.
        """
        return evaluate(self.opened, self.dealt, terms, self.numbers.bits.public, factor)

    def unscaled(self, terms: Terms, bits: int) -> Words:
        """Compute a share of the function itself, but for its constant.

        It has so many fractional bits.
        """
        scale, dealt = self.numbers.scale, self.numbers.bits.dealt
        return evaluate(self.opened, self.dealt, terms, bits - dealt, 1.0 / scale)

    def first_cosine(self) -> Words:
        """Compute a share of c cos(m_1 z), as many fractional bits as `share` has."""
        (cosines, sines), public = self.opened, self.numbers.bits.public
        cosine, sine = encode_bounded(cosines[0], public), encode_bounded(sines[0], public)
        found: Words = cosine * self.dealt[0] + sine * self.dealt[len(self.numbers.series.multiples)]
        return found
