"""Draws the noise that a partner adds to its part of every score that leaves.

The label party does not know it.

It sees a secret of one party and addresses, never a score. Scores of the same rows under many models are equations in
the partners' columns; with noise each of them says less (docs/protocol.md).
"""

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Keystream
from tercet.mpc.randomness.order import derive_subkey

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
        unit: Floats = (words >> np.uint64(64 - UNIT_BITS)).astype(np.float64) * 2.0**-UNIT_BITS
        return encode((2.0 * unit - 1.0) * (self._half_width / alpha), bits)
