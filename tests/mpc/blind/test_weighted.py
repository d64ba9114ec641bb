"""A training whose rows have weights is the plaintext run, bit for bit, and the loss is the weighted one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.functions.links import LINKS
from tercet.mpc.functions.row_labels import RowLabels, rounded_weights
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.blind import _walk, losses, train
from tercet.mpc.reference.linear import release
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import Job, make_job, same

SMALL = Request(
    "logistic", rows=300, columns=(7, 8), batch=60, epochs=2, rate=0.3, blind=Blind(32, 16), weighted=True, checked=0.4
)
REQUESTS = [
    SMALL,
    replace(SMALL, l2=0.02, columns=(3, 4, 2), checks=2),
    replace(SMALL, model="linear", rate=0.02, blind=Blind(32, 8)),
    replace(SMALL, model="gamma", rate=0.02, blind=Blind(5, 16)),
    replace(SMALL, model="one-vs-rest", outputs=4),
    replace(SMALL, model="tweedie", rate=0.02, blind=Blind(5, 16, power=1.5)),
]
by_link = pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.model}-{len(one.columns)}")


def with_weights(job: Job, weights: Any = None) -> Job:
    """The same job; rows have weights, of which some are 0."""
    if weights is None:
        weights = np.random.default_rng(5).gamma(0.8, size=len(job.y))
        weights[::7] = 0.0
    rows: Any = RowLabels(job.plan.link, job.y).weighed(weights, np.ones(len(job.y), np.bool_))
    return job._replace(y=rows)


@by_link
def test_model_and_loss_equal_the_oracles_bit_for_bit(request_: Request) -> None:
    """Any label party, bundles opened, more steps dealt together."""
    label = REQUESTS.index(request_) % 2
    job = with_weights(make_job(request_, label))
    world = BlindWorld(job, loss=True, seed=label, together=2).run(3)
    assert same(world.weights(), train(world.oracle()))
    shares = [total(p.loss.share(epoch) for p in world.parties if p.loss) for epoch in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(shares, losses(world.oracle()), strict=True))
    assert {sent.receiver for sent in world.sent if sent.what == "unweighted errors"} == {label}


def test_an_attempt_that_goes_on_equals_the_oracle_bit_for_bit() -> None:
    """With masks of its own."""
    job = with_weights(make_job(replace(SMALL, epochs=3)))
    before = BlindWorld(job).run(stop=7)
    after = BlindWorld(job, start=[*before.shares()], choice=b"d" * 32).run(2, first=7)
    begun = train(before.oracle(), 7)
    assert same(before.weights(), begun)
    assert same(after.weights(), train(after.oracle()._replace(first=7, begin=begun)))


@by_link
def test_a_loss_is_near_the_plaintext_one(request_: Request) -> None:
    """Of each row, by its score before its own step, times its weight."""
    job = with_weights(make_job(replace(request_, rows=2000, batch=128)))
    world, rows = BlindWorld(job, loss=True).run(), RowLabels.of(job.plan.link, job.y)
    plain = 0.0
    for record in _walk(world.oracle(), job.plan.steps_per_epoch):
        batch, scores = rows[record.rows], record.step.alpha * decode(record.z, job.plan.fz)
        plain += batch.loss(scores if batch.shift is None else scores - batch.shift) / 2000
    found = opened_loss([total(party.loss.share(0) for party in world.parties if party.loss)], job.plan)
    assert found == pytest.approx(plain, abs=0.02, rel=0.01)


def test_weights_of_1_change_rounding_alone() -> None:
    """The model is that of a job without weights, but for what the weights' bits take from errors."""
    plain = make_job(replace(SMALL, weighted=False))
    heavy = make_job(SMALL)
    found = release(BlindWorld(with_weights(heavy, np.ones(300))).run().weights(), heavy.plan)
    due = release(BlindWorld(plain).run().weights(), plain.plan)
    for a, b in zip((*found.blocks, found.intercept), (*due.blocks, due.intercept), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)


@pytest.mark.parametrize("name", ["logistic", "linear", "gamma"])
def test_the_best_constant_is_the_best(name: str) -> None:
    """Weights move it, with offsets or without."""
    link, rng = LINKS[name], np.random.default_rng(2)
    y = {"logistic": rng.integers(0, 2, 200) - 0.5, "linear": rng.normal(size=200), "gamma": rng.gamma(2.0, 0.5, 200)}
    weights = rounded_weights(rng.gamma(1.0, size=(200, 1)))
    for offset in (None, rng.normal(size=(200, 1))):
        rows = RowLabels(link, y[name].reshape(-1, 1).astype(float), offset, weights)
        best = rows.constant_loss(rows)
        for shift in (-0.1, -1e-3, 1e-3, 0.1):
            assert rows.loss(np.broadcast_to(rows.best_constant() + shift, rows.shape)) / 200 > best


def test_rounded_weights_are_right_on_average() -> None:
    """Of all rows that have one weight, however coarse it is."""
    weights = np.where(np.arange(3000) % 3 == 0, 0.6435, 1.7)
    rounded = rounded_weights(weights.reshape(-1, 1))[:, 0]
    for one in (0.6435, 1.7):
        assert rounded[weights == one].mean() == pytest.approx(one, abs=1e-5)
    assert np.abs(rounded - weights).max() < 2.0**-8


def test_a_weighted_count_is_a_label_and_an_offset() -> None:
    """No product is needed: the loss is the weighted one."""
    link, rng = LINKS["poisson"], np.random.default_rng(4)
    y, z, weights = rng.poisson(1.0, (200, 1)).astype(float), rng.normal(size=(200, 1)), rng.gamma(2.0, size=200)
    rows = RowLabels(link, y).weighed(weights, np.ones(200, np.bool_))
    assert rows.weights is None
    assert rows.loss(z) == pytest.approx(float(weights @ link.losses(z, y)[:, 0] / weights.mean()))
