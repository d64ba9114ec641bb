"""A training whose scores begin with a number of each row is the plaintext run, bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import total
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.functions.links import LINKS
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.blind import losses, train
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import Job, make_job, same

SMALL = Request("logistic", rows=300, columns=(7, 8), batch=60, epochs=2, rate=0.3, blind=Blind(32, 16))
REQUESTS = [
    SMALL,
    replace(SMALL, l2=0.02, blind=Blind(32, 32)),
    replace(SMALL, model="poisson", rate=0.02, blind=Blind(5, 16)),
    replace(SMALL, model="gamma", rate=0.02, blind=Blind(5, 16)),
    replace(SMALL, model="tweedie", rate=0.02, blind=Blind(5, 16, power=1.5)),
]


def with_offsets(job: Job, scale: float = 0.5) -> Job:
    """The same job, with an offset of each row."""
    offset = np.random.default_rng(3).normal(scale=scale, size=(len(job.y), 1))
    rows: Any = RowLabels(job.plan.link, job.y, offset)
    return job._replace(y=rows)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.model}-{one.l2}")
def test_model_and_loss_equal_the_oracles_bit_for_bit(request_: Request) -> None:
    """And they are others than without offsets; the loss is that of shifted scores."""
    job = make_job(request_, REQUESTS.index(request_) % 2)
    world = BlindWorld(with_offsets(job), loss=True, seed=2).run(2)
    assert same(world.weights(), train(world.oracle()))
    assert not same(world.weights(), train(world.oracle()._replace(y=job.y)))
    shares = [total(p.loss.share(epoch) for p in world.parties if p.loss) for epoch in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(shares, losses(world.oracle()), strict=True))
    rows = world.oracle().labels
    first = opened_loss([shares[0]], job.plan)
    assert first == pytest.approx(rows.loss(np.zeros(job.y.shape)) / len(rows), rel=0.4)


@pytest.mark.parametrize("name", ["logistic", "poisson", "gamma"])
def test_the_best_constant_is_the_best(name: str) -> None:
    """Beside each row's offset."""
    link, rng = LINKS[name], np.random.default_rng(2)
    y = {"logistic": rng.integers(0, 2, 200) - 0.5, "poisson": rng.poisson(1.0, 200), "gamma": rng.gamma(2.0, 0.5, 200)}
    rows = RowLabels(link, y[name].reshape(-1, 1).astype(float), rng.normal(size=(200, 1)))
    best = rows.constant_loss(rows)
    for shift in (-0.1, -1e-3, 1e-3, 0.1):
        assert rows.loss(np.broadcast_to(rows.best_constant() + shift, rows.shape)) / 200 > best


def test_offsets_stay_well_within_the_series() -> None:
    """Of counts from -11 to 5, so that scores have room on both sides."""
    plan = make_job(REQUESTS[2]).plan
    plan.check_offsets(np.array([[-7.3], [3.3]]))
    for far in (-7.4, 3.4):
        with pytest.raises(LabelProblem, match="further out"):
            plan.check_offsets(np.array([[0.0], [far]]))
