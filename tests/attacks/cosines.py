"""The attack on the mean cosine that blind trainings open each epoch, by who knows all of its rows but one.

It knows the model before the epoch's last step and the records of everybody else in it, and tries every record.
"""

import functools

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, decode, encode_features
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.dealing.sizes import series_of
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.randomness.score_noise import spread_noise
from tercet.mpc.reference.linear import release
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import Job, make_job

COLUMNS, BATCH, VICTIMS = 6, 32, 40  # a sum is over 32 rows at least
REQUEST = Request("logistic", rows=2 * BATCH, columns=(3, COLUMNS), batch=BATCH, epochs=4, rate=16.0,
                  blind=Blind(16, 16))  # fmt: skip
RECORDS = np.where((np.arange(2**COLUMNS)[:, None] >> np.arange(COLUMNS)) & 1, 1.0, -1.0)


def scene(seed: int) -> Job:
    """A job whose partner has six yes/no columns."""
    job, rng = make_job(REQUEST, 0, seed), np.random.default_rng(seed)
    x = RECORDS[rng.integers(0, len(RECORDS), REQUEST.rows)]
    words = encode_features(x, job.plan.norms[1], job.plan.fx)
    return job._replace(x=[job.x[0], x], xs=[job.xs[0], words])


@functools.cache
def reported(seed: int) -> tuple[float, float, Floats, int]:
    """The opened sum, what it is at scores of 0, what each record of the victim would make of it, and the truth."""
    job = scene(seed)
    *before, last = job.plan.steps()
    world = BlindWorld(job).run(stop=len(before))
    weights, rows = release(world.weights(), job.plan), world.order.rows(last)
    for party in world.parties:
        party.take_spread(last)  # of earlier epochs
    world.run(first=len(before))
    shares, scales = zip(*(party.take_spread(last) for party in world.parties), strict=True)
    own = job.x[0][rows] @ weights.blocks[0] + weights.intercept
    scores = own + job.x[1][rows] @ weights.blocks[1]
    turn = 2.0 * np.pi / series_of(job.plan).period
    others = np.cos(turn * scores[1:]).sum()
    tried = others + np.cos(turn * (own[0] + RECORDS @ weights.blocks[1]))[:, 0]
    truth = int(np.flatnonzero((job.x[1][rows[0]] == RECORDS).all(axis=1))[0])
    return float(decode(total(shares), job.plan.f)[0, 0]), float(scales[0][0]), tried / BATCH, truth


def recovered(protected: bool) -> float:
    """Victims whose whole record makes the mean that was told."""
    right = []
    for seed in range(VICTIMS):
        opened, scale, tried, truth = reported(seed)
        if protected:
            opened += float(decode(spread_noise(np.array([scale]), [40]), 40)[0, 0])  # the partner's alone
        right.append(np.abs(tried - opened / scale).argmin() == truth)
    return float(np.mean(right))


def guessed() -> float:
    """Any record is as frequent as another."""
    return 1 / len(RECORDS)
