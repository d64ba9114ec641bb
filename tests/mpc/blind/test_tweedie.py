"""Tweedie models of any power: link, series, and a fit that is scikit-learn's. Their joint runs: `test_joint`."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import TweedieRegressor
from sklearn.metrics import mean_tweedie_deviance

from tercet.mpc.arithmetic.fixed import Floats, decode, encode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.functions.links import find_link
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.functions.series import Terms, tweedie_series
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import PlanRefused, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.blind import BlindRun, train
from tercet.mpc.reference.linear import release
from tests.mpc.blind.test_weighted import with_weights
from tests.mpc.blind_world import BlindWorld
from tests.mpc.world import make_job, same

POWERS = (1.02, 1.3, 1.5, 1.9)
REQUEST = Request("tweedie", 400, (3, 2), 400, 100, 0.6, "linear", blind=Blind(5, 16, power=1.5))


@settings(max_examples=5, deadline=None)
@given(st.floats(1.01, 1.99), st.booleans(), st.integers(0, 1), st.sampled_from([0.0, 0.02]))
def test_the_joint_run_of_any_power_equals_the_oracle_bit_for_bit(power, weighted, label, l2):
    """With weights or without, which multiply one more function."""
    request = replace(REQUEST, rows=90, batch=30, epochs=2, rate=0.02, l2=l2, weighted=weighted, checked=0.4)
    job = make_job(replace(request, blind=Blind(5, 12, power=power)), label)
    world = BlindWorld(with_weights(job) if weighted else job, loss=True, seed=label, together=2).run(2)
    assert same(world.weights(), train(world.oracle()))
    columns = {sent.what: sent.words.shape[1] for sent in world.sent if sent.what in {"row weights", "score opening"}}
    assert columns == {"row weights": 1 + weighted, "score opening": 1}


@pytest.mark.parametrize("power", POWERS)
def test_a_loss_is_half_the_deviance_and_an_error_its_slope(power):
    """As scikit-learn has it."""
    link, rng = find_link("tweedie", power), np.random.default_rng(1)
    y, z = rng.poisson(1.0, (500, 1)) * rng.gamma(2.0, size=(500, 1)), rng.normal(size=(500, 1))
    assert link.loss(z, y) / 500 == pytest.approx(mean_tweedie_deviance(y, np.exp(z), power=power) / 2, rel=1e-12)
    slope = (link.losses(z + 1e-5, y) - link.losses(z - 1e-5, y)) / 2e-5
    np.testing.assert_allclose(link.error(z, y), slope, atol=1e-6)


def errors(power: float, terms: int) -> list[tuple[Terms, float]]:
    """Each function of a series, and its largest error on a grid that no fit has seen."""
    series, link = tweedie_series(power, 5, terms), find_link("tweedie", power)
    z = decode(encode(np.linspace(series.low, series.high, 3777)[:, np.newaxis], 50), 50)
    assert link.slope is not None
    due = [(series.phi, link.phi(z)), (series.slope, link.slope(z)), (series.second, link.cumulant(z))]
    due.append((series.score_terms, link.parameter(z)))
    angles = series.angles(encode(z, 50), 50)
    return [(terms, float(np.abs(terms.value(*angles) - right).max())) for terms, right in due if terms is not None]


@pytest.mark.parametrize("terms", [12, 16])
@pytest.mark.parametrize("power", POWERS)
def test_a_series_is_as_near_as_it_says(power, terms):
    """Both exponentials, and their integrals, by which a loss is computed."""
    for stated, found in errors(power, terms):
        assert found <= 1.02 * stated.error < 5e-4


@pytest.mark.parametrize("power", [1.0000001, 1.5, 1.9999999])
def test_no_sum_of_losses_wraps(power):
    """Of the largest labels, or of none but 0, whose loss grows without bound towards a power of 2."""
    plan = make_plan(replace(REQUEST, blind=Blind(5, 16, power=power)))
    scores = np.repeat(plan.score_bounds(), 2)[:, np.newaxis]
    worst = plan.link.losses(scores, np.array([[0.0], [1024.0]] * 2)).max()
    assert 400 * worst < 2.0 ** (62 - plan.loss_bits.total)


def test_every_machine_fits_the_same_coefficients():
    """To the last bit: parties whose factors differ would spoil a row."""
    series = [tweedie_series(power, 5, 16).functions for power in POWERS]
    numbers = [n for both in series for terms in both for n in (terms.constant, *terms.sines, *terms.cosines)]
    digest = hashlib.sha256(np.array(numbers, "<f8").tobytes()).hexdigest()
    assert digest[:16] == "941c255090889b65"


@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_is_scikit_learns(weighted):
    """Coefficients within a thousandth of the largest, of amounts half of which are 0."""
    job = make_job(replace(REQUEST, weighted=weighted), 1, seed=4)
    weights = np.random.default_rng(7).gamma(2.0, size=400)
    used = with_weights(job, weights) if weighted else job

    def masks(name: str, k: int, step: Step) -> Words:
        return np.random.default_rng([step.index, k]).integers(0, 2**64, (step.rows, 1), dtype=np.uint64)

    run = BlindRun(used.xs, used.y, job.plan, job.order.permutation, masks)
    found = release(train(run), job.plan)
    theirs = TweedieRegressor(power=1.5, alpha=0, link="log", tol=1e-9, max_iter=1000)
    theirs.fit(np.hstack(job.x), job.y[:, 0], weights if weighted else None)
    mine: Floats = np.vstack([*found.blocks, found.intercept])[:, 0]
    due = np.r_[theirs.coef_, theirs.intercept_]
    assert (job.y == 0).mean() > 0.2
    np.testing.assert_allclose(mine, due, rtol=0, atol=1e-3 * np.abs(due).max())


def test_rounded_amounts_are_right_on_average():
    """However small they are, of rows before any are chosen."""
    rows = RowLabels(find_link("tweedie", 1.5), np.full((4000, 1), 0.001))
    assert rows.amounts is not None
    assert rows.amounts.mean() == pytest.approx(0.001, abs=1e-6)
    chosen = rows[np.arange(0, 4000, 2)]
    assert chosen.amounts is not None
    assert np.array_equal(chosen.amounts, rows.amounts[::2])


def test_what_cannot_be_is_refused():
    """Powers of other models, labels far out or below 0, and other series."""
    for power in (0.0, 1.0, 2.0, float("nan")):
        with pytest.raises(PlanRefused, match="power is not between 1 and 2"):
            make_plan(replace(REQUEST, blind=Blind(5, 16, power=power)))
    with pytest.raises(PlanRefused, match="the helper computes no tweedie activation"):
        make_plan(replace(REQUEST, blind=None))
    with pytest.raises(PlanRefused, match="stored are: reach 5 with 12 terms; reach 5 with 16"):
        make_plan(replace(REQUEST, blind=Blind(6, 16, power=1.5)))
    plan = make_plan(REQUEST)
    for wrong in (-0.1, float("inf"), 1025.0):
        with pytest.raises(LabelProblem):
            plan.check_labels(np.array([1.0, wrong]))
    with pytest.raises(LabelProblem, match="all labels are 0"):
        plan.check_labels(np.zeros(3))
