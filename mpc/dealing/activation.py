"""Evaluates a series on masked scores, from what the helper deals.

With the angle a of a score, a + t opened, and m running over the multiples of the series,

    sin(m a) = sin(m (a + t)) cos(m t) - cos(m (a + t)) sin(m t)
    cos(m a) = cos(m (a + t)) cos(m t) + sin(m (a + t)) sin(m t)

so a sum of them is one product of a public factor and a dealt word for each. Arrays of factors and of dealt words have
the shape (2 K, rows, outputs): K for cos(m t), then K for sin(m t). Angles are words, in 2^-64ths of a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.fixed import encode_bounded
from tercet.mpc.arithmetic.ring import Words, series_kernels
from tercet.mpc.dealing.sizes import LayerNumbers
from tercet.mpc.functions.series import Series, Terms
from tercet.mpc.functions.trigonometry import equal_steps, flat, rotations

Function = tuple[Terms, float]  # and a factor


def dealt_words(t: Words, series: Series, bits: int) -> Words:
    """Encode cos(m t) and sin(m t) of an angle's mask at the helper; t is (rows, outputs)."""
    words = np.empty((2 * len(series.multiples), *t.shape), np.uint64)
    series_kernels().encode(flat(t), *equal_steps(series.multiples), 2.0**bits, words.reshape(len(words), -1))
    return words


def evaluate(angles: Words, series: Series, dealt: Words, functions: Sequence[Function], bits: int) -> Words:
    """Compute a share of each function times its factor, but for its constant.

    (functions, rows, outputs).

    From a + t, (rows, outputs), and a share of the dealt words; public factors have so many fractional bits.
    """
    out = np.empty((len(functions), angles.size), np.uint64)
    of_cosines = np.array([np.multiply(factor, terms.cosines) for terms, factor in functions])
    of_sines = np.array([np.multiply(factor, terms.sines) for terms, factor in functions])
    words, places = dealt.reshape(len(dealt), -1), equal_steps(series.multiples)
    series_kernels().add_series(flat(angles), *places, words, of_cosines, of_sines, 2.0**bits, out)
    found: Words = out.reshape(-1, *angles.shape)
    return found


@dataclass(slots=True)
class MaskedLayer:
    """Holds what a data party knows of a layer's masked pre-activations in a batch."""

    numbers: LayerNumbers
    dealt: Words = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint64))  # a share of cos and sin of t
    opened: Words = field(default_factory=lambda: np.zeros((0, 0), np.uint64))  # a + t, (rows, width)

    def shares(self, functions: Sequence[Function]) -> Words:
        """Compute a share of c times each function times its factor, but for its constant.

        (functions, rows, width), F fractional bits at the output and P below.
        """
        scale, public = self.numbers.scale, self.numbers.bits.public
        return self._evaluate([(terms, factor * scale) for terms, factor in functions], public)

    def unscaled(self, terms: Terms, bits: int) -> Words:
        """Compute a share of the function itself, but for its constant.

        It has so many fractional bits.
        """
        found: Words = self._evaluate([(terms, 1.0)], bits - self.numbers.bits.dealt)[0]
        return found

    def _evaluate(self, functions: Sequence[Function], bits: int) -> Words:
        return evaluate(self.opened, self.numbers.series, self.dealt, functions, bits)

    def first_cosine(self) -> Words:
        """Compute a share of c cos(m_1 z), as many fractional bits as `shares` have."""
        multiples, scale, public = self.numbers.series.multiples, self.numbers.scale, self.numbers.bits.public
        words = [encode_bounded(scale * numbers[0], public) for numbers in rotations(self.opened, multiples[:1])]
        found: Words = words[0] * self.dealt[0] + words[1] * self.dealt[len(multiples)]
        return found
