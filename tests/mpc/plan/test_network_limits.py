"""Networks that fit are planned, others refused with what to change; and a run that diverges stops."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.network.helper import HIDDEN_LIMIT
from tercet.mpc.plan import network_limits
from tercet.mpc.plan.architecture import NARROW_BITS, Network
from tercet.mpc.plan.plan import PlanRefused, Request
from tercet.mpc.plan.planner import make_plan
from tests.mpc.network_world import NetworkWorld, make_network_job

DIGITS = Request("softmax", 1400, (32, 32), 128, 20, 0.5, outputs=10, network=Network((64,)))
CREDIT = Request("logistic", 24_000, (40, 40), 256, 20, 0.1, network=Network((32,)))


def test_the_networks_of_the_examples_have_all_bits():
    """Digits and credit: 13 bits of features, 26 of activations, and room for any score that makes sense."""
    for request in (DIGITS, CREDIT):
        plan = make_plan(request)
        assert (plan.fx, plan.f) == (13, 26)
        assert plan.score_limit == 1024
        assert not plan.warnings


@pytest.mark.parametrize("model", ["logistic", "linear", "poisson"])
@pytest.mark.parametrize("hidden", [(16,), (64, 32), (256, 128, 64)])
@pytest.mark.parametrize("activation", sorted(HIDDEN))
def test_sensible_networks_are_accepted(model, hidden, activation):
    """At the rates at which plain SGD trains them, with every activation, features keeping 10 bits at least."""
    for rate in (0.01, 0.1, 0.3):
        assert make_plan(replace(CREDIT, model=model, rate=rate, network=Network(hidden, activation))).fx >= 10


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"network": Network((32,), "swish")}, '"swish" of hidden layers is unknown', "relu, leaky-relu, tanh"),
        ({"network": Network(())}, "0 hidden layers", "1 to 8"),
        ({"network": Network((4,) * 9)}, "9 hidden layers", "1 to 8"),
        ({"network": Network((32, 0))}, "fewer than 1", "1 to 4096"),
        ({"network": Network((4097,))}, "more than 4096 units", "1 to 4096"),
        ({"network": Network((4096,)), "batch": 8192}, "elements in a batch", "smaller batches or fewer units"),
        ({"model": "gamma"}, 'no output "gamma"', "poisson"),
        ({"model": "softmax", "outputs": 2}, "two classes", "logistic"),
        ({"model": "cauchit"}, "model is unknown", "choose one of"),
        ({"rate": 1e-6}, "fractional bits", "larger rate"),
        ({"rate": 500.0}, "one step could move", "fewer columns or hidden layers"),
        ({"model": "linear", "network": Network((32,) * 8)}, "one step could move", "learning rate of about"),
        ({"l2": 0.9, "rate": 0.3, "epochs": 9}, "shrinks the weights", "smaller l2"),
        ({"rate": 30.0, "batch": 4, "epochs": 100, "model": "linear", "network": Network((1,)), "columns": (6, 6)},
         "", "rate"),
        ({"columns": (5, 6)}, "only 8.5 bits", "accept_narrow"),
        ({"held_out": 100, "scorings": 11}, "scored 11 times", 'metrics = "end"'),
        ({"held_out": 100, "scorings": 4, "model": "softmax", "outputs": 4}, "scored 4 times", 'metrics = "none"'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_to_change(change, reason, remedy):
    """Before it starts, one reason and one remedy each."""
    with pytest.raises(PlanRefused) as caught:
        make_plan(replace(CREDIT, **change))
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy


def test_narrow_data_may_be_accepted():
    """As for linear models; a hidden layer's elements say less than scores, but each is of a row's columns."""
    make_plan(replace(CREDIT, columns=(5, 6), accept_narrow=True))
    make_plan(replace(CREDIT, columns=(6, 6)))


def test_following_the_advice_on_the_rate_helps():
    """The rate that the refusal names is accepted."""
    for model, hidden in [("logistic", (32,)), ("linear", (64, 32)), ("poisson", (32,))]:
        wild = replace(CREDIT, model=model, rate=500.0, network=Network(hidden))
        with pytest.raises(PlanRefused) as caught:
            make_plan(wild)
        advised = float(caught.value.remedy.split("about ")[1].split(" ")[0])
        make_plan(replace(wild, rate=advised))


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["logistic", "linear", "poisson", "softmax"]),
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.floats(-4, 2.5),
    st.integers(32, 2048),
    st.sampled_from([0.0, 0.001, 0.05]),
)
def test_a_planned_network_keeps_its_nominal_errors_far_from_what_a_truncation_holds(model, hidden, power, batch, l2):
    """Of the largest error of a score that the plan lets pass, carried back through all layers, 1/8 of the range."""
    outputs = 5 if model == "softmax" else 1
    request = replace(CREDIT, model=model, outputs=outputs, batch=batch, epochs=2, l2=l2, rate=10.0**power,
                      network=Network(tuple(hidden)))  # fmt: skip
    try:
        plan = make_plan(request)
    except PlanRefused:
        reject()
    error = {"linear": plan.score_limit + 16.0, "poisson": math.exp(min(plan.score_limit, 99.0))}.get(model, 1.0)
    for step in plan.steps():
        for layer in range(len(hidden)):
            carried = step.scale * error * network_limits.error_at_layer(Network(tuple(hidden)), layer, outputs)
            assert carried < 2.0 ** (62 - plan.f - NARROW_BITS) / 8
    assert network_limits.WEIGHT / plan.last_alpha < 2.0 ** (61 - plan.fw)
    assert 2.0 ** (62 - plan.fz) >= HIDDEN_LIMIT


def at_the_largest_rate(request: Request) -> Request:
    """The request at about the largest rate that the planner lets pass."""
    rate = 2.0**10
    while True:
        try:
            make_plan(replace(request, rate=rate))
        except PlanRefused:
            rate /= 1.25
        else:
            return replace(request, rate=rate)


@pytest.mark.parametrize(
    ("model", "activation"),
    [
        *((model, "relu") for model in ("logistic", "softmax", "linear", "poisson")),
        ("linear", "tanh"),
        ("softmax", "gelu"),
    ],
)  # each model stops at an output of its own, each activation holds hidden values in another way
def test_a_network_that_diverges_is_stopped_long_before_a_word_wraps(model, activation):
    """At the largest rate that the planner lets pass, which no network is trained at."""
    outputs = 4 if model == "softmax" else 1
    request = replace(CREDIT, model=model, rows=512, batch=64, outputs=outputs, network=Network((16, 8), activation))
    job = make_network_job(at_the_largest_rate(request))
    world = NetworkWorld(job)
    with pytest.raises(Diverged):
        world.run(2)
    largest = max(float(np.abs(words.view(np.int64) / 2.0**job.plan.fw).max()) for words in world.weights().upper)
    assert largest < 2.0 ** (62 - job.plan.fw) / 2**12
