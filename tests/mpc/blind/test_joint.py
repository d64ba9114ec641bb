"""The joint run of the blind mode is the plaintext run, bit for bit."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.blind.sizes import series_of
from tercet.mpc.functions.series import Terms
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.plan.blind import Blind, norm_bits, step_bits
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.blind import _walk, losses, train
from tercet.mpc.reference.linear import release, train_float
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import make_job, same

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=2, rate=0.3, blind=Blind(32, 16))


LINKS = [
    SMALL,
    replace(SMALL, model="linear", rate=0.02, blind=Blind(32, 8)),
    replace(SMALL, model="poisson", rate=0.02, blind=Blind(5, 16)),
    replace(SMALL, model="gamma", rate=0.02, blind=Blind(5, 16)),
]
by_link = pytest.mark.parametrize("request_", LINKS, ids=lambda one: one.model)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_joint_run_equals_the_oracle_bit_for_bit(data):
    """2 to 4 parties, any label party, with or without columns, penalty, schedule, look-ahead, order of events."""
    parties = data.draw(st.sampled_from([2, 3, 4]))
    label = data.draw(st.integers(0, parties - 1))
    request = replace(
        data.draw(st.sampled_from(LINKS)),
        columns=tuple(data.draw(st.integers(int(i != label), 6)) for i in range(parties)),
        rows=data.draw(st.integers(3, 200)),
        batch=data.draw(st.integers(3, 90)),
        l2=data.draw(st.sampled_from([0.0, 0.01])),
        schedule=data.draw(st.sampled_from(["constant", "linear"])),
    )
    job = make_job(request, label, data.draw(st.integers(0, 99)))
    together = data.draw(st.integers(1, 3))
    world = BlindWorld(job, seed=data.draw(st.integers(0, 9)), together=together).run(data.draw(st.integers(1, 4)))
    assert same(world.weights(), train(world.oracle()))


def test_it_is_near_plain_sgd():
    job = make_job(replace(SMALL, rows=2000, batch=128, epochs=6, blind=Blind(32, 32)))
    world = BlindWorld(job).run()
    plain = train_float(job.x, job.y, job.plan, world.order)
    joint = release(world.weights(), job.plan)
    for a, b in zip(joint.blocks, plain.blocks, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@by_link
@pytest.mark.parametrize("label", [0, 1])
def test_losses_equal_the_oracles_bit_for_bit(request_, label):
    job = make_job(request_, label)
    world = BlindWorld(job, loss=True, seed=3).run(3)
    parts = [party.loss for party in world.parties]
    found = [total(part.share(epoch) for part in parts if part) for epoch in range(job.plan.request.epochs)]
    assert all(np.array_equal(a, b) for a, b in zip(found, losses(world.oracle()), strict=True))


def rounding(terms: Terms, step: Step, plan: Plan) -> float:
    """The standard deviation of a row's function, as the words that are dealt are rounded."""
    norm = math.hypot(*terms.sines, *terms.cosines)
    dealt = step_bits(step.scale, plan.f, norm_bits(series_of(plan))).dealt
    return norm * math.ldexp(1.0, -dealt) / step.scale / math.sqrt(12)


@by_link
def test_a_loss_is_near_the_plaintext_one(request_):
    """Of each row, by its score before its own step."""
    job = make_job(replace(request_, rows=2000, batch=128))
    world = BlindWorld(job, loss=True).run()
    plain: dict[int, float] = defaultdict(float)
    for record in _walk(world.oracle(), None):
        scores = record.step.alpha * decode(record.z, job.plan.fz)
        link, y = job.plan.link, job.y[record.rows]
        plain[record.step.epoch] += link.loss(scores - (link.offset(y) if link.offset else 0.0), y) / 2000
    series, step = series_of(job.plan), next(job.plan.steps())
    label = float(np.sqrt((job.plan.link.target(job.y) ** 2).mean()))
    deviation = (
        rounding(series.second, step, job.plan) + label * rounding(series.score_terms, step, job.plan)
    ) / 2000**0.5
    near = 4.0 * deviation + series.second.error + label * series.score_terms.error
    assert near < {"linear": 9e-3}.get(request_.model, 4e-3)
    for epoch, expected in plain.items():
        found = total(party.loss.share(epoch) for party in world.parties if party.loss)
        assert opened_loss([found], job.plan) == pytest.approx(expected, abs=near)
