"""The joint loss is the plaintext's to the last word, close to float64's, and no sum of losses can wrap."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import ShapeProblem, total
from tercet.mpc.functions.elementary import log_sum_exp, log_two_cosh, softmax
from tercet.mpc.functions.links import LINKS
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.linear.loss import LossParty, opened_loss
from tercet.mpc.plan.plan import LossBits, PlanRefused, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import OutOfTurn
from tercet.mpc.reference.linear import losses, train
from tests.mpc.linear.test_joint import jobs
from tests.mpc.world import SHOWN, Job, World, keyed, make_job, quiet, same

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=3, rate=0.3, accept_narrow=True)
LOSS = keyed(purpose="loss")


@settings(max_examples=15, deadline=None)
@given(jobs(), st.integers(0, 3))
def test_the_joint_loss_of_every_epoch_equals_the_oracles_words(job, look_ahead):
    """2, 3 or 5 parties, any label party, model, penalty and look-ahead; the model is the one without a loss."""
    world = World(job, loss_masks=LOSS)
    try:
        world.run(look_ahead)
    except Diverged:
        reject()
    expected = losses(job.xs, job.y, job.plan, job.order)
    assert len(expected) == job.plan.request.epochs
    for epoch, words in enumerate(expected):
        assert np.array_equal(total(party.share(epoch) for party in world.losses), words)
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))


def plain_losses(model, z, y):
    """Of scores and centred labels, as textbooks have them: log-losses, and halves of deviances."""
    match model:
        case "logistic":
            return np.log1p(np.exp(-2 * y * z))
        case "softmax":
            return np.log(np.exp(z).sum(axis=1)) - z[y > 0]
        case "poisson":
            return y * np.log(np.maximum(y, 1) / np.exp(z)) - y + np.exp(z)
        case "gamma":
            return y / np.exp(z) - 1 - np.log(y / np.exp(z))
        case _:
            return (z - y) ** 2 / 2


def float_losses(job: Job) -> list[float]:
    """The mean loss of each epoch in ordinary float64 SGD, each row's before its own step."""
    request, link = job.plan.request, job.plan.link
    k, sums = request.outputs, [0.0] * request.epochs
    w, w0 = [np.zeros((x.shape[1], k)) for x in job.x], np.zeros((1, k))
    for step, rate in zip(job.plan.steps(), request.rates(), strict=False):
        rows = job.order.permutation(step.epoch)[step.start : step.stop]
        score = sum((x[rows] @ block for x, block in zip(job.x, w, strict=True)), w0)
        sums[step.epoch] += float(plain_losses(request.model, score, job.y[rows]).sum())
        error = rate / step.rows * (link.phi(link.shifted(score, job.y[rows])) - link.target(job.y[rows]))
        w = [(1 - rate * request.l2) * block - x[rows].T @ error for x, block in zip(job.x, w, strict=True)]
        w0 = w0 - error.sum(axis=0, keepdims=True)
    return [each / request.rows for each in sums]


@pytest.mark.parametrize(("model", "l2"), [("logistic", 0.0), *((model, 0.02) for model in SHOWN)])
def test_the_opened_loss_is_close_to_float64s_mean_loss(model, l2):
    """1e-4 but for noise; it falls from epoch to epoch, each of which begins at nothing. The words are the oracle's."""
    rate, outputs = (0.02 if model in {"poisson", "gamma"} else 0.1), 4 if model == "softmax" else 1
    request = Request(model, 1000, (9, 11, 10), 64, 4, rate, "inverse-time", 0.02, l2, outputs=outputs)
    noisy = make_job(request, label=1)
    for job, bound in ((quiet(noisy), 1e-4), (noisy, 0.03)):
        found = [opened_loss([words], job.plan) for words in losses(job.xs, job.y, job.plan, job.order)]
        assert found == pytest.approx(float_losses(job), abs=bound)
        assert found == sorted(found, reverse=True)
        assert found[0] > 1.2 * found[-1] > (0 if bound < 1e-3 else -bound)  # noise is taken off on average only


@pytest.mark.parametrize("model", LINKS)
@pytest.mark.parametrize("h", [0.25, 0.5])
def test_noise_leaves_loss_and_exp_where_they_were_on_average(model, h):
    """A thousandth, over noise that fills its range; without the correction it is 0.01 to 0.1 for all links."""
    link, outputs = LINKS[model], 3 if LINKS[model].classes else 1
    rng, evenly = np.random.default_rng(3), np.linspace(-h, h, 5_001)[:, np.newaxis]
    for z in rng.normal(0.0, 1.5, (4, outputs)):
        noisy = z + rng.permuted(np.repeat(evenly, outputs, axis=1), axis=0)
        plain, found = link.cumulant(z[np.newaxis])[0, 0], link.cumulant_of_noisy(noisy, h).mean()
        assert found == pytest.approx(plain, abs=2e-3 * (1 + abs(plain)))
        if link.side:
            phi = link.phi(z[np.newaxis])[0, 0]
            assert link.phi_of_noisy(noisy, h).mean() == pytest.approx(phi, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(("model", "outputs", "classes"), [("logistic", 1, 2), ("softmax", 5, 5)])
def test_the_first_loss_is_that_of_guessing(model, outputs, classes):
    """A check by hand: at w = 0 every row's loss is ln K."""
    job = quiet(make_job(replace(SMALL, model=model, outputs=outputs, batch=150, epochs=1)))
    world = World(job, loss_masks=LOSS).run()
    found = opened_loss([party.share(0) for party in world.losses], job.plan)
    assert found == pytest.approx(math.log(classes), abs=1e-5)


def test_a_share_of_the_loss_says_nothing():
    """It is off by uniform words, and so is every epoch's."""
    job = make_job(replace(SMALL, epochs=6))
    world = World(job, loss_masks=LOSS).run()
    shares = [float(decode(party.share(epoch), 21)[0, 0]) for party in world.losses for epoch in range(6)]
    assert np.median(np.abs(shares)) > 2.0**35


@pytest.mark.parametrize(("what", "receiver"), [("E_y", 1), ("terms", 0)])
@pytest.mark.parametrize(("model", "outputs"), [("logistic", 1), ("softmax", 3)])
def test_one_flipped_bit_changes_the_loss_but_not_the_model(what, receiver, model, outputs):
    """All that travels for the loss matters to it, and to it alone."""

    class Flipping(World):
        def post(self, kind, turn, index, way, words):
            if (self.name(kind, turn), index, way[1]) == (what, 1, receiver):
                words[-1, -1] ^= np.uint64(1 << 40)
            super().post(kind, turn, index, way, words)

    job = make_job(replace(SMALL, model=model, outputs=outputs))
    world = Flipping(job, loss_masks=LOSS).run()
    expected = losses(job.xs, job.y, job.plan, job.order)
    right = [np.array_equal(total(p.share(epoch) for p in world.losses), words) for epoch, words in enumerate(expected)]
    assert right == [False, True, True]
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))


def test_a_loss_is_told_once_for_a_whole_epoch():
    """While work ahead has gone on into the next one; half an epoch's loss would tell of fewer rows."""
    job = make_job(SMALL)
    world, steps = World(job, loss_masks=LOSS), list(job.plan.steps())
    assert job.plan.steps_per_epoch == 3
    for step in steps[:5]:
        world.ahead(step)
    for step in steps[:2]:
        world.online(step)
    other, label = world.losses[1], world.losses[0]
    with pytest.raises(OutOfTurn, match="not complete"):
        label.share(0)
    world.online(steps[2])
    assert np.array_equal(label.share(0) + other.share(0), losses(job.xs, job.y, job.plan, job.order, stop=3)[0])
    for party in (label, other):
        with pytest.raises(OutOfTurn, match="asked for"):
            party.share(0)
        assert 0 not in party._sums._epochs
    assert set(label._labels) == {3, 4}


def test_loss_roles_refuse_what_is_out_of_turn_or_of_a_wrong_shape():
    """A mask must not meet two values."""
    job = make_job(SMALL)
    world, step = World(job, loss_masks=LOSS), next(job.plan.steps())
    label, other = world.losses
    column, one = np.zeros((40, 1), np.uint64), np.zeros((1, 1), np.uint64)
    with pytest.raises(OutOfTurn, match="not masked yet"):
        label.absorb_terms(step, column, one)
    with pytest.raises(OutOfTurn, match="only the label party"):
        other.masked_labels(step)
    with pytest.raises(OutOfTurn):
        label.absorb(step, column)
    with pytest.raises(OutOfTurn, match="no step is answered"):
        _ = world.helper.scores
    label.masked_labels(step)
    with pytest.raises(OutOfTurn):
        label.masked_labels(step)
    for p, g in [(one, one), (column, column)]:
        with pytest.raises(ShapeProblem, match="the helper's"):
            label.absorb_terms(step, p, g)
    with pytest.raises(ShapeProblem, match="the label party's"):
        other.absorb(step, one)
    other.absorb(step, column)
    with pytest.raises(OutOfTurn):
        other.absorb(step, column)
    helper = world.helper._loss
    assert helper is not None
    helper.terms(step, np.zeros((40, 1)))
    with pytest.raises(OutOfTurn):
        helper.terms(step, np.zeros((40, 1)))
    for me, y in [(0, None), (1, job.y)]:
        with pytest.raises(ValueError, match="label party"):
            LossParty(me, 0, job.plan, y, order=job.order, helper_masks=LOSS(me, HELPER))


def test_training_without_a_loss_does_nothing_for_it():
    """Neither masks nor messages nor sums."""
    asked: set[str] = set()

    def noting(a, b):
        masks = keyed()(a, b)

        def spy(mask, *address):
            asked.add(mask)
            return masks(mask, *address)

        return spy

    world = World(make_job(SMALL), noting).run()
    assert asked == {"U", "V", "M", "R", "m_y", "zero"}
    assert {sent.what for sent in world.sent} == {"E", "y~", "f", "g", "z", "p"}


# No sum can wrap


@settings(deadline=None)
@given(
    st.sampled_from(sorted(SHOWN)), st.integers(1, 2**31), st.integers(2**10, 2**22), st.floats(1e-4, 0.2),
    st.integers(1, 60), st.sampled_from([0.0, 0.01]),
)  # fmt: skip
def test_no_epochs_loss_can_wrap(model, rows, batch, rate, columns, l2):
    """All rows at the limit and on the wrong side, each rounded to the worst; in whole numbers, not in floats."""
    batch = max(batch, rows // 1000)
    try:
        plan = make_plan(Request(model, rows, (columns, columns), batch, 1, rate, l2=l2, accept_narrow=True,
                                 outputs=5 if model == "softmax" else 1))  # fmt: skip
    except PlanRefused:
        reject()
    link, (score, label) = plan.link, plan.loss_bits
    low, high = link.bounds(plan.score_limit, 2.0 ** (62 - plan.fz))
    worst_score, most = Fraction(max(-low, high)) + Fraction(1, 2 ** (score + 1)), Fraction(plan.most_label)
    worst_label = Fraction(0) if link.offset else most + Fraction(1, 2 ** (label + 1))
    cumulants = np.abs(link.cumulant(np.array([[low] * plan.outputs, [high] * plan.outputs])))
    cumulant = Fraction(float(cumulants.max())) + Fraction(1, 2**score)
    part = Fraction(float(link.label_part(np.array([[float(worst_label)]]))[0, 0])) + Fraction(1, 2**score)
    assert rows * (cumulant + part + worst_score * worst_label) * 2**plan.loss_bits.total < 2**63
    assert score >= 1
    assert label >= min(1, link.label_bits)
    assert score <= 20
    assert label <= link.label_bits


def test_losses_have_twenty_bits_of_the_score_unless_rows_are_many():
    """The design's bits for a logistic regression of up to a billion rows, both labels exact."""

    def bits(model, rows, batch=1024, rate=0.05):
        return make_plan(Request(model, rows, (20, 20), batch, 1, rate)).loss_bits

    assert bits("logistic", 24_000) == bits("logistic", 5_000_000) == LossBits(20, 1)
    assert bits("linear", 24_000).total >= 25
    assert bits("linear", 2**30, 2**16, 0.008).total < bits("linear", 2**24, 2**16, 0.008).total


@pytest.mark.parametrize("name", LINKS)
def test_the_parts_of_a_loss_keep_their_promises(name):
    """The cumulant is even where signs are secret, convex, and its slope is phi; a whole loss is never below 0."""
    link, rng = LINKS[name], np.random.default_rng(5)
    outputs = 4 if link.classes else 1
    z = rng.normal(size=(5000, outputs)) * 10.0 ** rng.uniform(-6, 0.5, (5000, 1))
    if link.odd:
        wide = np.concatenate([z * 300, np.full((3, outputs), [[0.0], [700.0], [5000.0]])])
        assert np.array_equal(link.cumulant(wide), link.cumulant(-wide))
    other = rng.normal(size=(5000, outputs)) * 3
    assert (link.cumulant((z + other) / 2) <= (link.cumulant(z) + link.cumulant(other)) / 2 + 1e-9).all()
    for k in range(outputs):
        h = np.eye(outputs)[k] * 1e-5
        slope = (link.cumulant(z + h) - link.cumulant(z - h))[:, 0] / 2e-5
        assert slope == pytest.approx(link.phi(z)[:, k], abs=1e-5, rel=1e-5)
    raw = {"logistic": [0, 1], "linear": [-16, 0, 16], "poisson": [0, 1, 50], "gamma": [0.01, 9]}
    y = link.centre(np.array(raw.get(name, range(4)), np.float64), outputs)
    assert all(link.loss(np.full_like(one, score), one) > -1e-9 for score in (-30.0, 0.0, 30.0) for one in y[:, None])


@given(st.lists(st.floats(-700, 700), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_show_in_a_single_bit(scores, random):
    """Neither in a softmax nor in a loss, whatever else is in the batch: the oracle knows no secret order."""
    order = random.sample(range(len(scores)), len(scores))
    z = np.array([scores, scores[::-1], [0.0] * len(scores)])
    assert np.array_equal(softmax(z[:, order]).view(np.uint64), softmax(z)[:, order].view(np.uint64))
    assert np.array_equal(log_sum_exp(np.asfortranarray(z)[:, order]), log_sum_exp(z))
    of_each = LINKS["one-vs-rest"].cumulant
    assert np.array_equal(of_each(np.asfortranarray(z)[:, order]), of_each(z))
    assert np.array_equal(softmax(z[1:2]), softmax(z)[1:2])


def test_log_two_cosh_is_accurate_everywhere():
    """Against extended precision."""
    z = np.concatenate([np.linspace(-800, 800, 100_001), 10.0 ** np.linspace(-12, 2, 10_000)])
    wide = np.abs(z.astype(np.longdouble))
    right = wide / 2 + np.log1p(np.exp(-wide))
    assert float(np.abs(log_two_cosh(z) / right - 1).max()) < 5e-16
