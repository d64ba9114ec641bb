"""Evaluates a series on masked scores, from what the helper deals.

With the angle a of a score, a + t opened, and m running over the multiples of the series,

    sin(m a) = sin(m (a + t)) cos(m t) - cos(m (a + t)) sin(m t)
    cos(m a) = cos(m (a + t)) cos(m t) + sin(m (a + t)) sin(m t)

so a sum of them is one product of a public factor and a dealt word for each. Arrays of factors and of dealt words have
the shape (2 K, rows, outputs): K for cos(m t), then K for sin(m t). Angles are words, in 2^-64ths of a turn.
"""

from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_bounded
from tercet.mpc.arithmetic.ring import Words, kernels
from tercet.mpc.dealing.sizes import LayerNumbers
from tercet.mpc.functions.series import Series, Terms
from tercet.mpc.functions.trigonometry import rotations

CosSin = tuple[Floats, Floats]


def dealt_words(t: Words, series: Series, bits: int) -> Words:
    """Encode cos(m t) and sin(m t) of an angle's mask at the helper; t is (rows, outputs)."""
    numbers, count = rotations(t, series.multiples), len(series.multiples)
    words = np.empty((2 * count, *t.shape), np.uint64)
    for half, floats in zip((words[:count], words[count:]), numbers, strict=True):
        kernels().encode_scaled(floats.reshape(count, -1), 2.0**bits, half.reshape(count, -1))
    return words


def evaluate(opened: CosSin, dealt: Words, terms: Terms, bits: int, factor: float = 1.0) -> Words:
    """Compute a share of a function times a factor, but for its constant, (rows, outputs).

    From cos and sin of m (a + t), and a share of the dealt words; public factors have so many fractional bits.
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
    dealt: Words = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint64))  # a share of cos and sin of t
    opened: CosSin = field(default_factory=lambda: (np.zeros(0), np.zeros(0)))  # of the multiples of a + t

    def open(self, angles: Words) -> None:
        """Take in the opened a + t, (rows, width)."""
        self.opened = rotations(angles, self.numbers.series.multiples)

    def share(self, terms: Terms, factor: float = 1.0) -> Words:
        """Compute a share of c times a function times a factor, but for its constant.

        (rows, width), F fractional bits at the output and P below.
        """
        return evaluate(self.opened, self.dealt, terms, self.numbers.bits.public, factor * self.numbers.scale)

    def unscaled(self, terms: Terms, bits: int) -> Words:
        """Compute a share of the function itself, but for its constant.

        It has so many fractional bits.
        """
        return evaluate(self.opened, self.dealt, terms, bits - self.numbers.bits.dealt)

    def first_cosine(self) -> Words:
        """Compute a share of c cos(m_1 z), as many fractional bits as `share` has."""
        (cosines, sines), scale, public = self.opened, self.numbers.scale, self.numbers.bits.public
        cosine, sine = encode_bounded(scale * cosines[0], public), encode_bounded(scale * sines[0], public)
        found: Words = cosine * self.dealt[0] + sine * self.dealt[len(self.numbers.series.multiples)]
        return found
