"""The opened held-out loss is the oracle's to the last word, close to float64's, and no score leaves the helper."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.plan import GUARD_BIT, Request
from tercet.mpc.plan.schedule import OutOfTurn
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.linear import held_out_loss
from tercet.mpc.scoring.linear import NOBODY
from tests.mpc import network_world
from tests.mpc.held_out_world import HeldOutPass, flat_losses
from tests.mpc.linear.test_joint import jobs
from tests.mpc.network_world import NetworkWorld, make_network_job
from tests.mpc.world import SHOWN, World, make_job, opened, quiet

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=2, rate=0.3, accept_narrow=True)
DEEP = Request("logistic", rows=120, columns=(4, 5), batch=40, epochs=1, rate=0.2, accept_narrow=True,
               network=Network((5, 4), "tanh"))  # fmt: skip


def passed(job, world, rows: int, **changes) -> HeldOutPass:
    """A pass over some of the job's own rows, by the weights as they are."""
    shares = [party.shares() for party in world.parties]
    return HeldOutPass(job, shares, [x[:rows] for x in job.xs], job.y[:rows], **changes)


@settings(max_examples=20, deadline=None)
@given(jobs(), st.integers(1, 80), st.integers(0, 5))
def test_the_held_out_loss_equals_the_oracles_words(job, rows, epoch):
    """2, 3 or 5 parties, any label party, model and penalty; of the weights that the steps have come to."""
    world = World(job)
    try:
        world.run(1)
    except Diverged:
        reject()
    found = passed(job, world, rows, epoch=epoch).run()
    weights = opened([party.shares() for party in world.parties])
    xs, y = [x[:rows] for x in job.xs], job.y[:rows]
    expected = held_out_loss(xs, y, weights, plan=job.plan, order=found.order, steps=found.steps)
    assert np.array_equal(found.words(), expected)


@pytest.mark.parametrize(
    ("output", "outputs", "activation", "label"),
    [("logistic", 1, "relu", 0), ("linear", 1, "gelu", 1), ("softmax", 3, "tanh", 2), ("poisson", 1, "softplus", 0)],
)
def test_so_does_a_networks(output, outputs, activation, label):
    """Whatever rounds within it, by the pass's own order and noise."""
    rate = 0.02 if output == "poisson" else 0.1
    request = replace(DEEP, model=output, outputs=outputs, columns=(3, 4, 2), rate=rate, l2=0.02)
    job = make_network_job(replace(request, network=Network((5, 4), activation)), label)
    world = NetworkWorld(job).run(2)
    found = passed(job, world, 70, epoch=3).run()
    setting = network_reference.PassSetting(job.plan, found.order, found.elements)
    weights = network_world.opened([party.shares() for party in world.parties])
    xs, y = [x[:70] for x in job.xs], job.y[:70]
    expected = network_reference.held_out_loss(xs, y, weights, plan=job.plan, setting=setting, steps=found.steps)
    assert np.array_equal(found.words(), expected)


@pytest.mark.parametrize(("model", "l2"), [("logistic", 0.0), *((model, 0.02) for model in SHOWN)])
def test_the_opened_loss_is_close_to_float64s_mean_loss(model, l2):
    """1e-4, of the released weights, but for noise."""
    rate, outputs = (0.02 if model in {"poisson", "gamma"} else 0.1), 4 if model == "softmax" else 1
    request = Request(model, 600, (9, 11, 10), 64, 3, rate, "inverse-time", 0.02, l2, outputs=outputs)
    job = quiet(make_job(request, label=1))
    world = World(job).run(2)
    weights = opened([party.shares() for party in world.parties])
    scores = sum(
        (x @ job.plan.weights(block) for x, block in zip(job.x, weights.blocks, strict=True)),
        job.plan.intercept(weights.intercept),
    )
    expected = job.plan.link.loss(scores[:200], job.y[:200]) / 200
    assert passed(job, world, 200).run().loss() == pytest.approx(expected, abs=1e-4)


def test_at_weights_of_zero_it_is_that_of_guessing():
    """A check by hand: ln 2."""
    job = quiet(make_job(SMALL))
    assert passed(job, World(job), 100).run().loss() == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("model", ["logistic", "poisson", "gamma", "linear"])
def test_a_row_beyond_the_limit_counts_as_the_limit_and_nothing_wraps(model):
    """Else one odd row could turn the sum of all into nonsense, or end the job."""
    job = make_job(replace(SMALL, model=model, rate=0.02))
    world = World(job).run(1)
    link, plan, (low, high) = job.plan.link, job.plan, job.plan.score_bounds()
    shares, far = [party.shares() for party in world.parties], 0.9 * math.ldexp(1.0, GUARD_BIT - job.plan.fz)
    for score in (far, -far):  # one party's share of the intercept takes all scores nearly to the guard
        moved = shares[0].intercept + np.uint64(int(math.ldexp(score, plan.fw)) % 2**64)
        found = HeldOutPass(job, [replace(shares[0], intercept=moved), *shares[1:]], job.xs, job.y).run()
        counted = np.full_like(job.y, min(max(score, low), high))
        expected = link.cumulant(counted) - link.target(job.y) * counted + link.label_part(job.y)
        assert found.loss() == pytest.approx(float(expected.mean()), rel=0.05)
        bits = plan.loss_bits_of(len(job.y)).total
        assert abs(float(decode(found.words(), bits)[0, 0])) < math.ldexp(1.0, 62 - bits)


def test_no_party_can_take_scores_out_of_the_pass():
    """The helper sends terms instead, and no scorer opens anything."""
    linear, network = make_job(SMALL, 1), make_network_job(DEEP, 1)
    for found in (passed(linear, World(linear), 90), passed(network, NetworkWorld(network), 90)):
        words = np.zeros((48, 1), np.uint64)
        for party in found.parties:
            assert party._scorer._label == NOBODY
            with pytest.raises(OutOfTurn, match="only the label party"):
                party._scorer.open_scores(found.steps[0], words)
        found.run()
        reported = {(one.what, one.receiver) for one in found.sent if one.sender == HELPER}
        assert ("loss terms", 1) in reported
        assert not any(what == "scores" for what, _ in reported)
        assert all(not getattr(party._scorer, "_states", None) for party in found.parties)


@pytest.mark.parametrize("what", ["loss labels", "loss terms", "masked inputs", "masked weights", "output share"])
def test_one_flipped_bit_changes_the_loss(what):
    """All that travels matters to it."""

    class Flipping(HeldOutPass):
        def post(self, kind, turn, index, way, words):
            if (kind, index) == (what, kind != "masked weights") and not flipped:  # weights come before any step
                flipped.append(kind)
                words[-1, -1] ^= np.uint64(1 << 50 if kind != "output share" else 1 << 45)
            super().post(kind, turn, index, way, words)

    flipped: list[str] = []
    job = make_job(SMALL)
    world = World(job).run(1)
    shares = [party.shares() for party in world.parties]
    right = HeldOutPass(job, shares, job.xs, job.y).run()
    try:
        wrong = Flipping(job, shares, job.xs, job.y).run()
    except Diverged:
        pass
    else:
        assert not np.array_equal(right.words(), wrong.words())
    assert flipped == [what]


def test_a_share_of_the_loss_says_nothing():
    """It is off by uniform words."""
    job = make_job(SMALL)
    world = World(job).run(1)
    shares = [share for epoch in range(8) for share in passed(job, world, 60, epoch=epoch).run().shares]
    assert np.median(np.abs([float(decode(share, 21)[0, 0]) for share in shares])) > 2.0**35


def test_the_helpers_terms_are_no_scores():
    """Words all over the ring, where scores of 20 fractional bits are small numbers."""
    job = make_job(SMALL)
    found = passed(job, World(job).run(1), 150).run()
    assert np.median(np.abs(decode(flat_losses(found.sent, "loss terms"), 20))) > 2.0**35
