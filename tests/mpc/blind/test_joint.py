"""The joint run of the blind mode is the plaintext run, bit for bit."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.linear import release, train_float
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import make_job, same

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=2, rate=0.3, blind=Blind(32, 16))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_joint_run_equals_the_oracle_bit_for_bit(data):
    """2, 3 or 4 parties, any label party, penalty, schedule, look-ahead and order of events."""
    parties = data.draw(st.sampled_from([2, 3, 4]))
    request = replace(
        SMALL,
        columns=tuple(data.draw(st.integers(1, 6)) for _ in range(parties)),
        rows=data.draw(st.integers(3, 200)),
        batch=data.draw(st.integers(3, 90)),
        l2=data.draw(st.sampled_from([0.0, 0.01])),
        schedule=data.draw(st.sampled_from(["constant", "linear"])),
    )
    job = make_job(request, data.draw(st.integers(0, parties - 1)), data.draw(st.integers(0, 99)))
    world = BlindWorld(job, seed=data.draw(st.integers(0, 9))).run(data.draw(st.integers(1, 4)))
    assert same(world.weights(), world.oracle())


def test_it_is_near_plain_sgd():
    job = make_job(replace(SMALL, rows=2000, batch=128, epochs=6, blind=Blind(32, 32)))
    world = BlindWorld(job).run()
    plain = train_float(job.x, job.y, job.plan, world.order)
    joint = release(world.weights(), job.plan)
    for a, b in zip(joint.blocks, plain.blocks, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
