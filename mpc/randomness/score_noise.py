"""Draws the noise that a party adds to its part of scores and mean cosines.

The others do not know it.

It sees a secret of one party and addresses, never a score. Scores of the same rows under many models are equations in
the partners' columns; with noise each of them says less (docs/protocol.md).
"""

import secrets
from collections.abc import Sequence
from typing import Final

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import KEY_BYTES, Keystream
from tercet.mpc.randomness.secret_order import derive_subkey

SPREAD_NOISE: Final = 2.0**-7  # of a mean cosine
UNIT_BITS = 53  # of a uniform word that a float64 in [0, 1) takes


class ScoreNoise:
    """One party's noise in the passes of one purpose, uniform in +-half_width of a score.

    Args:
        private: 32 bytes that only this party has, the same in every attempt of a run.
        half_width: In units of the score; 0 for none.
        purpose: Of the pass.
    """

    def __init__(self, private: bytes, half_width: float, purpose: str) -> None:
        self._stream, self._half_width = Keystream(derive_subkey(private, f"score noise {purpose}")), half_width

    def words(self, step: Step, outputs: int, alpha: float, bits: int) -> Words:
        """Make the noise on z, a score being alpha times z.

        (rows of the batch, outputs), `bits` fractional bits.
        """
        words = self._stream.words(0, step.epoch, step.position, (step.rows, outputs))
        return encode(_centred(words) * (self._half_width / alpha), bits)


def spread_noise(weights: Floats, bits: Sequence[int]) -> Words:
    """Draw a data party's noise on its share of an epoch's summed cosines, (1, layers).

    It is uniform in +-`SPREAD_NOISE` of the mean: the exact sum of a few rows would tell one whose others are known.

    Args:
        weights: What each sum would be at pre-activations of 0, (layers,).
        bits: Fractional bits of each sum.
    """
    words = Keystream(secrets.token_bytes(KEY_BYTES)).words(0, 0, 0, weights.shape)
    noise = _centred(words) * SPREAD_NOISE * weights
    return np.stack([encode(one, of) for one, of in zip(noise, bits, strict=True)]).reshape(1, -1)


def _centred(words: Words) -> Floats:
    """Make numbers in [-1, 1) of uniform words."""
    unit: Floats = (words >> np.uint64(64 - UNIT_BITS)).astype(np.float64) * 2.0**-UNIT_BITS
    return 2.0 * unit - 1.0
