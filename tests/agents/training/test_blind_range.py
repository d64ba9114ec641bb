"""Scores that leave the series end a job whichever epoch they do it in, or its model would pass for a right one."""

from dataclasses import replace

import numpy as np
import pytest

from tercet.agents.training.blind_training import least_cosine
from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.dealing.sizes import series_of
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.linear import release, train_float
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import make_job

LOGISTIC = Request("logistic", rows=300, columns=(4, 5), batch=32, epochs=1, rate=1.0, blind=Blind(32, 16))
LINEAR = replace(LOGISTIC, model="linear", blind=Blind(32, 8))
POISSON = replace(LOGISTIC, model="poisson", blind=Blind(5, 16))
GAMMA = replace(POISSON, model="gamma")
FAR = [(LOGISTIC, 10.0, 1000.0), (LINEAR, 0.5, 100.0), (POISSON, 0.1, 50.0), (GAMMA, 0.3, 50.0)]
WRONG = 0.2  # of the largest weight: beyond, a model is another one than plain steps give


def outcome(request: Request, seed: int) -> tuple[float, bool]:
    """How far a one-epoch job's weights are from those of plain steps, and whether its end stops it."""
    job = make_job(request, 0, seed)
    world, plan = BlindWorld(job, seed=seed).run(), job.plan
    last = [*plan.steps()][-1]
    shares, weights = zip(*(party.take_spread(last) for party in world.parties), strict=True)
    cosine = float(decode(total(shares), plan.f)[0, 0]) / float(weights[0][0])
    with np.errstate(all="ignore"):
        plain, found = train_float(job.x, job.y, plan, world.order), release(world.weights(), plan)
        expected, actual = np.concatenate(plain.blocks), np.concatenate(found.blocks)
        off = float(np.abs(actual - expected).max() / np.abs(expected).max())
    return (off if np.isfinite(off) else np.inf), cosine < least_cosine(series_of(plan))


@pytest.mark.parametrize(("request_", "low", "high"), FAR, ids=[one.model for one, *_ in FAR])
def test_a_model_that_is_wrong_is_not_kept_and_one_that_is_right_is(request_: Request, low: float, high: float) -> None:
    """Over rates from good to absurd, where the only epoch is the one in which scores run away."""
    rates = [float(rate) for rate in np.geomspace(low, high, 6)]
    found = [outcome(replace(request_, rate=rate), seed) for rate in rates for seed in range(2)]
    assert all(stopped for off, stopped in found if off > WRONG)
    assert not any(stopped for off, stopped in found if off < 0.01)
    assert {stopped for _, stopped in found} == {True, False}
