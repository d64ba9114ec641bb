"""Scores that the label party adds up itself: right, bounded in what a lie can put into them, and noised anew."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.blind import train
from tercet.mpc.reference.linear import release
from tests.mpc.blind_world import BlindWorld
from tests.mpc.passes import Pass
from tests.mpc.world import Job, make_job

JOB = Request("logistic", rows=150, columns=(3, 4), batch=40, epochs=2, rate=0.3, blind=Blind(32, 16))
PENALISED = replace(JOB, l2=0.01)
CLASSES = replace(JOB, model="one-vs-rest", outputs=3)


def pass_of(job: Job) -> Pass:
    """Over the rows that were trained on, by the trained model."""
    world = BlindWorld(job).run()
    return Pass(job, world.shares(), job.xs, limit=100.0)


@pytest.mark.parametrize("request_", [JOB, PENALISED, CLASSES], ids=["plain", "l2", "classes"])
def test_scores_are_those_of_the_model(request_):
    """To what rounding them to 16 fractional bits leaves."""
    job = make_job(request_)
    one, model = pass_of(job), release(train(oracle_of(job)), job.plan)
    plain = sum((decode(x, job.plan.fx) @ w for x, w in zip(job.xs, model.blocks, strict=True)), model.intercept)
    assert np.abs(one.run() - plain).max() < 2.0**-12


def oracle_of(job: Job):
    return BlindWorld(job).run().oracle()


@pytest.mark.parametrize(("request_", "spare"), [(JOB, 0), (PENALISED, 6)], ids=["plain", "l2"])
def test_a_score_has_few_bits_before_the_point_whatever_is_shifted(request_, spare):
    """With a penalty words have more room; it is left out of each share, so that a lie cannot use it."""
    one = pass_of(make_job(request_))
    with patch.object(one.scorers[0], "add_scores", wraps=one.scorers[0].add_scores) as added:
        one.run()
    shares = added.call_args_list[0].args[1]
    assert all((words & np.uint64(2**spare - 1)).max() == 0 for words in shares.values())
    if not spare:
        assert any((words & np.uint64(1)).any() for words in shares.values())
    z = total(shares.values()) >> np.uint64(spare)
    assert int(z.max()).bit_length() <= 64 - spare
