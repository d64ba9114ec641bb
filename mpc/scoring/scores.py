"""Makes the shares of scores that leave a data party.

Rounds their sum for the label party.

Whoever adds shares up sees the sum of all and nothing of one: each is under a zero share. Where the label party adds
them up itself, nobody rounds them before it. So they have the partners' noise, and lack top bits that no score needs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode
from tercet.mpc.arithmetic.ring import Words, expect, from_signed, to_signed, total
from tercet.mpc.linear.algebra import zero_share
from tercet.mpc.linear.helper import Diverged, check_range
from tercet.mpc.plan.exposure import MOST_BLIND_SCORE_BITS
from tercet.mpc.plan.forward import SCORE_BITS, Forward
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.scoring.openings import is_within


@dataclass(frozen=True, slots=True)
class ScoreShares:
    """Makes and adds up shares of the scores of a pass, as data party `me`.

    Attributes:
        me: This party's index.
        numbers: The plan, or what of it was kept with the model.
        alpha: What the weights are multiplied by.
        zero_masks: Shared with each other data party, by its index.
        noise: What this party adds to the scores; nothing if None.
    """

    me: int
    numbers: Forward
    alpha: float
    zero_masks: Mapping[int, Masks]
    noise: ScoreNoise | None = None

    def hide(self, step: Step, z: Words) -> Words:
        """Hide a share of a batch's pre-activations.

        (rows, outputs), f_z bits, from whoever adds up all.
        """
        numbers, shape = self.numbers, (step.rows, self.numbers.outputs)
        if self.noise is not None:
            z = z + self.noise.words(step, numbers.outputs, self.alpha, numbers.fz)
        z = z + zero_share(self.me, self.zero_masks, step, shape)  # last, over everything
        return z << self._spare_bits if numbers.is_blind else z

    def add(self, step: Step, shares: Mapping[int, Words], limit: float) -> Words:
        """Add up all data parties' shares where the helper sees no score.

        SCORE_BITS fractional bits.

        Raises:
            Diverged: as `check_scores`.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape, fz = (step.rows, self.numbers.outputs), self.numbers.fz
        words = total(expect(words, shape, f"masked scores of party {i}") for i, words in shares.items())
        check_range(step, words, fz + int(self._spare_bits))  # before what is left out of them is gone
        z = from_signed(to_signed(words) >> np.int64(self._spare_bits))
        check_scores(step, z, fz, limit)
        return encode_scores(decode(z, fz))

    @property
    def _spare_bits(self) -> np.uint64:
        """Count the top bits of z that no score needs.

        Each share leaves them out where the label party adds up scores itself, so that they tell it nothing. What is
        left holds scores in a range of 2^9 at most. A quarter of that on each side of zero is told; the other half is
        the guard by which a row that strays further is seen.
        """
        whole_bits = MOST_BLIND_SCORE_BITS + math.frexp(1.0 / self.alpha)[1] - 1
        return np.uint64(max(0, 64 - self.numbers.fz - whole_bits))


def check_scores(step: Step, z: Words, fz: int, limit: float) -> None:
    """Return if raw z, of f_z fractional bits, may be told to the label party.

    Raises:
        Diverged: one is outside the safe half of the words, or its score, alpha z, beyond the limit.
    """
    check_range(step, z, fz)
    if not is_within(step.alpha * decode(z, fz), limit):
        raise Diverged(step, f"a score exceeded {limit:g}")


def encode_scores(scores: Floats) -> Words:
    """Encode scores as words of SCORE_BITS fractional bits.

    They may be one party's part, where each owns its weights.

    Parts of all data parties add up to the scores; under a zero share (`linear.zero_share`) only all together do.

    Raises:
        RangeProblem: for nan, inf, and anything that reaches 2^46.
    """
    return encode(scores, SCORE_BITS)


def without_noise(words: Words, noise: Words, fz: int) -> Words:
    """Subtract noise of f_z bits, rounded alike, from scores of SCORE_BITS bits."""
    return words - encode_scores(decode(noise, fz))


def decode_scores(words: Words) -> Floats:
    """Decode scores from words of SCORE_BITS fractional bits.

    Each party's part is rounded, by 2^-17 at most.
    """
    return decode(words, SCORE_BITS)
