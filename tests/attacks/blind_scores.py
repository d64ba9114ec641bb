"""The attack of a label party that opens its weights falsely once, where it adds up the scores itself.

The lie puts several yes/no columns of a partner into each score, the next one twice as large as the one before, like
the digits of a number. No helper sees the scores, and the party passes over its own check of their range. So the lie is
bounded by what the words of a score hold, and drowned by the partner's noise.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import Floats, encode_features, encode_number
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear.shares import Shares
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.scoring.openings import ModelMasks, WeightMasks
from tercet.mpc.scoring.scores import ScoreShares
from tests.mpc.blind_world import BlindWorld
from tests.mpc.passes import Pass
from tests.mpc.world import Job, keyed, make_job

LABEL, PARTNER, COLUMNS = 0, 1, 14
REQUEST = Request("logistic", rows=600, columns=(3, COLUMNS), batch=100, epochs=3, rate=0.3, l2=0.01,
                  blind=Blind(32, 16))  # fmt: skip
NOISE = 2.0**-5  # of a partner, by default
RANGE_BITS = 9  # of a score as it is told
ALL_RANGE_BITS = 15  # of the words of this model, which have a penalty's bits beside


class BlindPass(Pass):
    """A pass in which the label party adds up the scores, and stops at none."""

    def add_noise(self, half_width: float, run: int) -> None:
        """Let the partner add noise."""
        scorer, noise = self.scorers[PARTNER], ScoreNoise(bytes([run + 1]) * 32, half_width, "prediction")
        scorer._scores = replace(scorer._scores, noise=noise)

    def run(self) -> Floats:
        """The scores in the order of the rows."""
        with patch("tercet.mpc.scoring.scores.check_range"), patch("tercet.mpc.scoring.scores.check_scores"):
            return super().run()


@contextmanager
def spare_bits_sent() -> Iterator[None]:
    """Send the bits along that no score needs."""
    with patch.object(ScoreShares, "_spare_bits", property(lambda _: np.uint64(0))):
        yield


@dataclass
class Scene:
    """A blind model, and people whose partner's columns are all yes or no; the attack may use no value of those.

    With `request.l2` the model has words with room for more than scores. Where `empty` all weights are zero, so that
    nothing is in a score but the lie and the noise: the most that a score can tell.
    """

    request: Request = REQUEST
    empty: bool = False
    people: int = 1000
    job: Job = field(init=False)
    shares: list[Shares] = field(init=False)

    def __post_init__(self) -> None:
        self.job = make_job(self.request, LABEL)
        self.shares = BlindWorld(self.job).run().shares()
        if self.empty:
            self.shares = [_emptied(one) for one in self.shares]
        rng, plan = np.random.default_rng(5), self.job.plan
        self.truth = rng.integers(0, 2, (self.people, COLUMNS))
        raw = [rng.normal(size=(self.people, plan.columns[LABEL])), (2 * self.truth - 1).astype(np.float64)]
        self.xs = [encode_features(x, norm, plan.fx) for x, norm in zip(raw, plan.norms, strict=True)]

    @property
    def alpha(self) -> float:
        """By which pre-activations are scores."""
        return self.job.plan.alpha_after(self.shares[0].step)

    def lie(self, unit: float, columns: int, first: int = 0) -> Words:
        """What is added to the opened weights, so that columns add `unit` times a number from 0 to 2^columns - 1."""
        words = np.zeros((COLUMNS, 1), np.uint64)
        for c in range(columns):
            words[first + c] = encode_number(unit * 2.0 ** (c - 1) / self.alpha, self.job.plan.fw)
        return words

    def open_pass(self, run: int) -> BlindPass:
        """A prediction of everybody, whose weights are opened by the model's masks, the same in each."""
        weights: dict[int, WeightMasks] = {
            i: ModelMasks(bytes([7 + i]) * 32, ("label", "partner")) for i in (LABEL, PARTNER)
        }
        scored = BlindPass(self.job, self.shares, self.xs, masks=keyed(run, "prediction"), weights=weights)
        scored.open()
        return scored

    def scores(self, run: int, lie: Words, noise: float) -> Floats:
        """The scores of a prediction by weights to which the label party has added a lie."""
        scored = self.open_pass(run)
        scored.add_noise(noise, run)
        scored.add_to_weights(LABEL, PARTNER, lie)
        return scored.run()[:, 0]

    def read(self, columns: int, *, headroom: int, noise: float = NOISE) -> float:
        """The part of people of whom all these columns are read, by one lie that fills a range of 2^headroom."""
        unit = self.alpha * 2.0 ** (headroom - columns)
        digits = _digits(self.scores(1, self.lie(unit, columns), noise), unit, columns)
        return float((digits == self.truth[:, :columns]).all(axis=1).mean())

    def most_read(self, *, headroom: int, noise: float = NOISE) -> int:
        """The most columns that are all read of nine in ten people."""
        return max(n for n in range(COLUMNS + 1) if n == 0 or self.read(n, headroom=headroom, noise=noise) > 0.9)

    def read_twice(self, half: int, *, once: bool) -> float:
        """The part of people of whom twice `half` columns are read, by a lie about each half in two predictions.

        Where weights are opened `once`, the partner keeps what was opened for the first prediction.
        """
        unit = self.alpha * 2.0 ** (RANGE_BITS - half)
        lies = self.lie(unit, half), self.lie(unit, half, 0 if once else half)
        digits = [_digits(self.scores(run, lie, NOISE), unit, half) for run, lie in enumerate(lies)]
        return float((np.hstack(digits) == self.truth[:, : 2 * half]).all(axis=1).mean())


def _digits(scores: Floats, unit: float, columns: int) -> NDArray[np.int64]:
    """The digits of numbers in units of a score, the first column's is the smallest: (people, columns)."""
    numbers = np.mod(np.rint(scores / unit + (2.0**columns - 1) / 2), 2.0**columns).astype(np.int64)
    return (numbers[:, None] >> np.arange(columns)) & 1


def _emptied(shares: Shares) -> Shares:
    nothing = {i: np.zeros_like(words) for i, words in shares.partners.items()}
    return replace(shares, own=np.zeros_like(shares.own), partners=nothing, intercept=np.zeros_like(shares.intercept))


# --- rows of `make attacks`

READ = 12  # columns, in each attack


@functools.cache
def scene() -> Scene:
    """A trained model whose words have room for more than scores."""
    return Scene()


def one_lie(protected: bool) -> float:
    """People of whom twelve columns are read by one lie."""
    if protected:
        return scene().read(READ, headroom=RANGE_BITS)
    with spare_bits_sent():
        return scene().read(READ, headroom=ALL_RANGE_BITS, noise=0.0)


def two_lies(protected: bool) -> float:
    """People of whom twelve columns are read by two predictions, half of them by each."""
    return scene().read_twice(READ // 2, once=protected)


def guessed() -> float:
    """People who have the most frequent values of these columns."""
    return float(np.unique(scene().truth[:, :READ], axis=0, return_counts=True)[1].max() / scene().people)
