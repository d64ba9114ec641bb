"""Draws the order of a hidden layer's elements, their signs and noise.

The data parties keep these from the helper.

The helper has no part in the key. In its view a layer is one row of elements; nothing in it tells rows or units apart.
"""

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words, to_signed
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Keystream
from tercet.mpc.randomness.order import Purpose, centred, derive_subkey, noise_label


class Elements:
    """Orders, signs and noise words of hidden layers, from the order key, for one purpose.

    `attempt` is the one whose noise it is.
    """

    def __init__(self, key: bytes, purpose: Purpose = "training", attempt: int = 1) -> None:
        self._key, self._prefix, self._attempt = key, "" if purpose == "training" else f"{purpose} ", attempt
        self._streams: dict[tuple[str, int], Keystream] = {}

    def permutation(self, step: Step, layer: int, count: int) -> Signed:
        """Draw the element that stands in each place of the helper's view; (count,).

        The indices sorted by uniform words, of which the lowest bits make place for the index: no two are alike, so
        every way of sorting gives the same, and plain words are sorted many times as fast as by `argsort`.
        """
        low = np.uint64((1 << count.bit_length()) - 1)
        keyed = (self._words("permutation", step, layer, count) & ~low) | np.arange(count, dtype=np.uint64)
        keyed.sort()
        return to_signed(keyed & low)

    def signs(self, step: Step, layer: int, count: int) -> Words:
        """Return 1 or -1 for each place of the helper's view, (count,)."""
        words = self._words("signs", step, layer, -(-count // 64))
        bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=count)
        return np.uint64(1) - np.uint64(2) * bits.astype(np.uint64)

    def noise(self, step: Step, layer: int, count: int, width: int) -> Words:
        """Make noise for each place of the helper's view, uniform in [-2^width, 2^width).

        (count,).
        """
        return centred(self._words(noise_label("noise", self._attempt), step, layer, count), width)

    def level(self, step: Step, rows: int) -> Words:
        """Draw one uniform word for all logits of a row, (rows, 1).

        The helper needs their differences only.
        """
        return self._words(noise_label("level", self._attempt), step, 0, rows)[:, np.newaxis]

    def _words(self, label: str, step: Step, layer: int, count: int) -> Words:
        if (label, layer) not in self._streams:
            self._streams[label, layer] = Keystream(derive_subkey(self._key, f"{self._prefix}hidden {label} {layer}"))
        return self._streams[label, layer].words(0, step.epoch, step.position, (count,))


def restore_elements(words: Words, order: Signed, shape: tuple[int, int]) -> Words:
    """Put the helper's view, (1, count), back into rows and units."""
    placed = np.empty(words.size, np.uint64)
    placed[order] = words.reshape(-1)
    return placed.reshape(shape)
