"""The joint run of the blind mode is the plaintext run, bit for bit."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.dealing.sizes import series_of
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.functions.series import Terms
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import DEFAULT_HIDDEN, Blind, choose_series, relative_norm, step_bits
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.blind import BlindRun, _walk, losses, train, train_network
from tercet.mpc.reference.linear import release, train_float
from tercet.mpc.reference.network import NetworkModel, TrainingRun
from tercet.mpc.reference.network import release as release_network
from tercet.mpc.reference.network import train_float as train_network_float
from tests.mpc.blind_world import BlindWorld
from tests.mpc.network_world import make_network_job, opened
from tests.mpc.network_world import same as same_network
from tests.mpc.world import keyed, make_job, same

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=2, rate=0.3, blind=Blind(32, 16))


LINKS = [
    SMALL,
    replace(SMALL, model="linear", rate=0.02, blind=Blind(32, 8)),
    replace(SMALL, model="poisson", rate=0.02, blind=Blind(5, 16)),
    replace(SMALL, model="gamma", rate=0.02, blind=Blind(5, 16)),
    replace(SMALL, model="tweedie", rate=0.02, blind=Blind(5, 16, power=1.5)),
    replace(SMALL, model="one-vs-rest", outputs=3),
    replace(SMALL, model="one-vs-rest", outputs=10),
]
NETWORK_OUTPUTS = ["logistic", "linear", "poisson"]
by_link = pytest.mark.parametrize("request_", LINKS, ids=lambda one: f"{one.model}-{one.outputs}")


@settings(max_examples=15, deadline=None)
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
        checked=data.draw(st.sampled_from([0.0, 0.1, 0.4])),
    )
    job = make_job(request, label, data.draw(st.integers(0, 99)))
    together = data.draw(st.integers(1, 3))
    world = BlindWorld(job, seed=data.draw(st.integers(0, 9)), together=together).run(data.draw(st.integers(1, 4)))
    assert same(world.weights(), train(world.oracle()))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_an_attempt_that_goes_on_equals_the_oracle_bit_for_bit(data):
    """From any step, with bundles and masks of its own."""
    checked = data.draw(st.sampled_from([0.0, 0.1, 0.5]))
    request = replace(SMALL, rows=data.draw(st.integers(40, 200)), epochs=3, checked=checked)
    job = make_job(request)
    step = data.draw(st.integers(1, job.plan.steps_total - 1))
    before = BlindWorld(job).run(stop=step)
    after = BlindWorld(job, keyed(2), start=[*before.shares()], choice=b"d" * 32).run(2, first=step)
    begun = train(before.oracle(), step)
    assert same(before.weights(), begun)
    assert same(after.weights(), train(after.oracle()._replace(first=step, begin=begun)))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_network_equals_the_oracle_bit_for_bit(data):
    """2 or 3 parties, up to three hidden layers of any activation, with its loss."""
    parties = data.draw(st.sampled_from([2, 3]))
    label = data.draw(st.integers(0, parties - 1))
    hidden = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    activation, model = data.draw(st.sampled_from(sorted(DEFAULT_HIDDEN))), data.draw(st.sampled_from(NETWORK_OUTPUTS))
    request = Request(
        model,
        columns=tuple(data.draw(st.integers(int(i != label), 4)) for i in range(parties)),
        rows=data.draw(st.integers(3, 60)),
        batch=data.draw(st.integers(3, 30)),
        epochs=2,
        rate=0.02,
        l2=data.draw(st.sampled_from([0.0, 0.01])),
        network=Network(hidden, activation),
        blind=choose_series(model, None, None, activation),
        checked=data.draw(st.sampled_from([0.0, 0.1, 0.5])),
    )
    job = make_network_job(request, label, data.draw(st.integers(0, 99)))
    together = data.draw(st.integers(1, 3))
    world = BlindWorld(job, seed=data.draw(st.integers(0, 9)), loss=True, together=together)
    world.run(data.draw(st.integers(1, 4)))
    assert same_network(world.network_weights(), train_network(world.oracle()))
    found = [total(p.loss.share(epoch) for p in world.parties if p.loss) for epoch in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(found, losses(world.oracle()), strict=True))


@pytest.mark.parametrize(("hidden", "activation"), [((32,), "silu"), ((32, 16), "gelu")])
def test_digits_are_learnt_as_by_float64_sgd(hidden, activation):
    """Is a digit 5 or more? 100 steps; weights within 1e-3, and no row is told otherwise."""
    x, digits = load_digits(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    blind = replace(choose_series("logistic", None, None, activation), terms=32)
    request = Request(
        "logistic", rows=len(x), columns=(40, 24), batch=64, epochs=8, rate=0.2, network=Network(hidden, activation),
        blind=blind,
    )  # fmt: skip
    job = make_network_job(request, 1, x=[x[:, :40], x[:, 40:]], y=(digits >= 5).astype(np.float64))
    plan, first, widths = job.plan, opened(job.first), (*hidden, 1)

    def masks(name: str, k: int, step: Step) -> Words:
        shape = (widths[k], widths[k + 1]) if name == "weights" else (step.rows, widths[k])
        seed = [["t", "weights", "error", "delta"].index(name), k, step.index, 1]
        return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)

    run = BlindRun(job.xs, job.y, plan, job.order.permutation, masks, begin=first)
    joint = release_network(train_network(run, 100), plan, 100)
    plain_run = TrainingRun(job.xs, job.y, plan, job.order, job.elements, first, masks)
    xs, start = [decode(words, plan.fx) for words in job.xs], release_network(first, plan, 0)
    plain = train_network_float(plain_run, xs, start, 100)
    for a, b in zip(
        (*joint.blocks, *joint.upper, *joint.biases), (*plain.blocks, *plain.upper, *plain.biases), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-3)
    reported = [network_scores(model, xs, activation) > 0 for model in (joint, plain)]
    assert (reported[0] != reported[1]).mean() < 0.002


def network_scores(model: NetworkModel, xs: list[Floats], activation: str) -> Floats:
    """A forward pass in float64."""
    z = sum((x @ block for x, block in zip(xs, model.blocks, strict=True)), model.biases[0])
    for above, bias in zip(model.upper, model.biases[1:], strict=True):
        z = (HIDDEN[activation].phi(z) + HIDDEN[activation].centre) @ above + bias
    return z


def test_it_is_near_plain_sgd():
    job = make_job(replace(SMALL, rows=2000, batch=128, epochs=6, blind=Blind(32, 32)))
    world = BlindWorld(job).run()
    plain = train_float(job.x, job.y, job.plan, world.order)
    joint = release(world.weights(), job.plan)
    for a, b in zip(joint.blocks, plain.blocks, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4)


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
    dealt = step_bits(step.least, plan.f - plan.factor_bits, relative_norm(series_of(plan))).dealt
    return norm * math.ldexp(1.0, -dealt) / math.sqrt(12)


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
        assert opened_loss([found], job.plan) == pytest.approx(expected, abs=near * job.plan.outputs)


@given(st.integers(3, 2**31), st.integers(3, 200))
def test_no_epochs_loss_of_many_outputs_can_wrap(rows, outputs):
    """All scores as far as the series goes, and on the wrong side of their labels."""
    plan = make_plan(replace(SMALL, model="one-vs-rest", rows=rows, batch=max(40, rows // 1000), outputs=outputs))
    y = plan.link.centre(np.zeros(1), outputs)
    most = plan.link.loss(-np.sign(y) * plan.score_limit, y)
    assert rows * most * 2.0**plan.loss_bits.total < 2.0**61
    assert plan.loss_bits.score >= 16
