"""A helper that deals wrong gradient shares, so as to read columns in the top bits of z while the model stays honest.

It uses what a helper has, and the two values that each of its yes/no columns is encoded by, which it could count.

It takes D off one gradient share of the victim, which so adds D to the victim's share of its own weights. From the next
step on each z has the victim's row times D on top, which the helper reads and takes off before it answers. At another
step it adds D to a gradient share again.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Words, from_signed, to_signed
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.helper import LinearHelper, activation, largest_score
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.linear import train
from tests.mpc.world import Job, World, make_job, same

BATCHES, BATCH, COLUMNS = 37, 64, 6  # columns of the victim that are read
VICTIM = 1
RARE = (0.2, 0.25, 0.3, 0.35, 0.4, 0.15)  # how often each is yes
EPOCH = (0, BATCHES - 1)
LARGE = 2**61  # of what is left of z when a reading is taken off: more than any honest one


class Lie(NamedTuple):
    """What is altered: D at one step, and back at a later one."""

    victim: int
    weights: Mapping[int, int]  # D by column; others are zero
    values: Mapping[int, tuple[int, int]]  # that each of these columns has, f_x bits
    on: int  # the step whose gradient share brings D
    off: int  # the step whose gradient share takes it away

    def d(self, columns: int) -> Words:
        """D, (columns, 1)."""
        found = np.zeros((columns, 1), np.uint64)
        for column, weight in self.weights.items():
            found[column, 0] = weight
        return found

    def levels(self) -> tuple[NDArray[np.int64], list[tuple[int, ...]]]:
        """What a row of each pattern adds to z, as signed words, and the patterns."""
        patterns = list(itertools.product((0, 1), repeat=len(self.weights)))
        sums = [
            sum(weight * self.values[c][bit] for (c, weight), bit in zip(self.weights.items(), pattern, strict=True))
            for pattern in patterns
        ]
        return np.array(sums, np.int64), patterns


class LyingHelper(LinearHelper):
    """It deals as `lie` says, and keeps what it reads, by step: a pattern of each row, in secret order."""

    lie: Lie

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.read: dict[int, list[tuple[int, ...]]] = {}
        self._answer = self._read_and_answer

    def gradient_shares(self, step: Step) -> dict[int, Words]:
        """As an honest helper's but for two steps."""
        shares, lie = super().gradient_shares(step), self.lie
        columns = self._plan.columns[lie.victim]
        for index, sign in ((lie.on, -1), (lie.off, 1)):
            if step.index == index:
                block = shares[lie.victim].reshape(-1)[:columns]  # the first partner's part, where there are more
                block += np.uint64(sign % 2**64) * lie.d(columns)[:, 0]
        return shares

    def masked_activations(self, step: Step, shares: Mapping[int, Words]) -> dict[int, Words]:
        """As an honest helper's; it says as the largest score what that would be without the reading."""
        before = self.largest
        found = super().masked_activations(step, shares)
        self.largest = max(before, largest_score(step, self._honest, self._plan.fz))
        return found

    def _read_and_answer(self, plan: Plan, step: Step, z: Words) -> Words:
        if not self.lie.on < step.index <= self.lie.off:
            return self._answered_from(plan, step, z)
        sums, patterns = self.lie.levels()
        signed = np.concatenate([sums, -sums])  # under either sign of the row
        distance = np.abs(to_signed(z - from_signed(signed)[np.newaxis, :]))
        nearest = distance.argmin(axis=1)
        self.read[step.index] = [patterns[k % len(patterns)] for k in nearest]
        return self._answered_from(plan, step, z - from_signed(signed[nearest])[:, np.newaxis])

    def _answered_from(self, plan: Plan, step: Step, z: Words) -> Words:
        self._honest = tamed(z)
        return activation(plan, step, self._honest)


def tamed(z: Words) -> Words:
    """Words that an honest helper would not stop at: a liar that is found out goes on as if nothing were."""
    return np.where(np.abs(to_signed(z)) < LARGE, z, np.uint64(0))


def right(read: Sequence[tuple[int, ...]], truth: NDArray[Any]) -> int:
    """How many rows were read as they are; `truth` has a row for each, in secret order."""
    return sum(pattern == tuple(row) for pattern, row in zip(read, truth.tolist(), strict=True))


def chosen(values: Mapping[int, tuple[int, int]], lowest: int = 57) -> dict[int, int]:
    """D such that rows of all patterns are 2^lowest apart, and far from those under the other sign."""

    def weights(order: Sequence[int]) -> dict[int, int]:
        return {c: round(2 ** (lowest + k) / (values[c][1] - values[c][0])) for k, c in enumerate(order)}

    def apart(order: Sequence[int]) -> int:
        sums = sum(weight * sum(values[c]) for c, weight in weights(order).items()) % 2**lowest
        return int(min(sums, 2**lowest - sums))

    return weights(max(itertools.permutations(values), key=apart))


# --- a job in which it does so


class Scene(NamedTuple):
    """A job whose second party has yes/no columns, what they are, and their two values."""

    job: Job
    bits: NDArray[np.int64]
    values: dict[int, tuple[int, int]]

    @property
    def guess(self) -> float:
        """How frequent the most frequent pattern is."""
        return float(np.unique(self.bits, axis=0, return_counts=True)[1].max() / len(self.bits))


def scene(seed: int, checks: int, columns: tuple[int, ...] = (9, 12), label: int = 0) -> Scene:
    """One epoch."""
    rows = BATCHES * BATCH
    job = make_job(Request("logistic", rows, columns, BATCH, 1, 0.3, accept_narrow=True, checks=checks), label, seed)
    bits = (np.random.default_rng(seed + 1).random((rows, COLUMNS)) < np.array(RARE)).astype(np.int64)
    xs, values = [x.copy() for x in job.xs], {}
    for k in range(COLUMNS):
        p = float(bits[:, k].mean())
        no, yes = (round(value * 2**job.plan.fx) for value in (-np.sqrt(p / (1 - p)), np.sqrt((1 - p) / p)))
        values[k] = no, yes
        xs[VICTIM][:, k] = np.where(bits[:, k] == 1, yes, no).view(np.uint64)
    return Scene(job._replace(xs=xs), bits, values)


class Outcome(NamedTuple):
    """What came of it."""

    rows: int  # that it could have read
    right: int
    honest: bool  # whether the model is the oracle's
    caught: bool

    @property
    def part(self) -> float:
        """Which part of the rows it has right."""
        return self.right / self.rows


def attacked(place: Scene, on: int, off: int, weights: dict[int, int] | None = None) -> Outcome:
    """D from step `on` until step `off`, read in all steps between."""
    job, world = place.job, World(place.job)
    helper = LyingHelper(job.plan, job.label, {i: world.masks(i, HELPER) for i in world.ids})
    helper.lie = Lie(VICTIM, weights or chosen(place.values), place.values, on, off)
    world.helper = helper
    world.run(2)
    order, steps = list(helper.lie.weights), list(job.plan.steps())
    found = [
        (len(read), right(read, place.bits[job.order.rows(steps[t])][:, order])) for t, read in helper.read.items()
    ]
    honest = same(world.weights(), train(job.xs, job.y, job.plan, job.order))
    return Outcome(sum(n for n, _ in found), sum(k for _, k in found), honest, differ(world))


def differ(world: World) -> bool:
    """Whether two data parties have found different things of the dealing."""
    digests = [party.digests for party in world.parties]
    return any(digests[i][j] != digests[j][i] for i in world.ids for j in digests[i])
