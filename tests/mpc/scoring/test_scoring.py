"""Joint scores are the plaintext's, bit for bit, of rows that are not trained on and from shares of any epoch."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import RangeProblem, clip_rows, decode, encode_features
from tercet.mpc.arithmetic.ring import ShapeProblem, total
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.algebra import zero_share
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.forward import SCORE_BITS
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import LEAST_ROWS, OutOfTurn
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference.linear import release, scores, train
from tercet.mpc.scoring.linear import Numbers, Scorer, ScoringHelper, scoring_steps
from tercet.mpc.scoring.openings import PassMasks
from tercet.mpc.scoring.scores import decode_scores, encode_scores
from tests.mpc.linear.test_joint import jobs
from tests.mpc.passes import Pass
from tests.mpc.world import SHOWN, Job, World, keyed, make_job

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=2, rate=0.3, l2=0.1, accept_narrow=True)


def new_rows(job: Job, rows: int, seed: int = 1):
    """Encoded features of rows that the job does not train on."""
    rng = np.random.default_rng(seed)
    return [
        encode_features(rng.normal(size=(rows, columns)), norm, job.plan.fx)
        for columns, norm in zip(job.plan.columns, job.plan.norms, strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(jobs(), st.data())
def test_joint_scores_equal_the_plaintext_bit_for_bit(job, data):
    """2, 3 or 5 parties, any label party, alpha below 1, any step, epoch, number of rows and batch size."""
    stop = data.draw(st.integers(0, job.plan.steps_total))
    rows, batch = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 90))
    epoch = data.draw(st.integers(0, 5))
    try:
        world = World(job).run(2, stop=stop)
    except Diverged:
        reject()
    shares, xs = [party.shares() for party in world.parties], new_rows(job, rows)
    scored = Pass(job, shares, xs, epoch, batch=batch)
    weights = train(job.xs, job.y, job.plan, job.order, stop=stop)
    assert np.array_equal(scored.run(), scores(xs, weights, job.plan, scored.order, scored.steps))


@pytest.mark.parametrize("model", SHOWN)
def test_scores_are_the_released_models_but_for_their_rounding(model):
    """Each score of the model in float64, in the place of its row and class; no label's offset is in it."""
    outputs = 5 if model == "softmax" else 1
    job = make_job(replace(SMALL, model=model, columns=(7, 8, 5), rate=0.05, outputs=outputs), label=1)
    world, xs = World(job).run(), new_rows(job, 100)
    found = Pass(job, [party.shares() for party in world.parties], xs).run()
    ours = release(world.weights(), job.plan)
    plain = sum((decode(x, job.plan.fx) @ block for x, block in zip(xs, ours.blocks, strict=True)), ours.intercept)
    column = 2.0 ** -(job.plan.fx + 1) * float(np.abs(ours.intercept).max())  # the intercept's has f_x bits
    assert np.abs(found - plain).max() < 2.0**-16 + column
    assert found.shape == (100, outputs)
    assert found.std(axis=0).min() > 0.05


def test_partners_noise_stays_in_the_scores_and_the_helpers_does_not():
    """Each partner's is within its bound and fills it; the label party knows none of it, and the oracle adds it."""
    job = make_job(replace(SMALL, columns=(7, 8, 5)), label=1)
    world, xs, half = World(job).run(), new_rows(job, 2000), 2.0**-5
    shares = [party.shares() for party in world.parties]
    plain, noisy = Pass(job, shares, xs), Pass(job, shares, xs)
    sources = {i: ScoreNoise(bytes([i + 1]) * 32, half, "validation") for i in (0, 2)}
    for i, source in sources.items():
        noisy.scorers[i]._scores = replace(noisy.scorers[i]._scores, noise=source)

    def added(step):
        return total(one.words(step, 1, step.alpha, job.plan.fz) for one in sources.values())

    found, without = noisy.run(), plain.run()
    expected = scores(xs, train(job.xs, job.y, job.plan, job.order), job.plan, noisy.order, noisy.steps, added)
    assert np.array_equal(found, expected)
    off = found - without
    assert 1.8 * half < np.abs(off).max() <= 2 * half + 2.0**-15
    assert np.square(off).mean() == pytest.approx(2 * half**2 / 3, rel=0.1)


def test_scores_are_those_of_the_shares_that_were_kept():
    """Of an earlier epoch, whatever was trained since, and with that epoch's alpha."""
    job = make_job(SMALL)
    early, trained = World(job), World(job).run()
    early.run(3, stop=job.plan.steps_per_epoch)
    xs = new_rows(job, 60)
    one, other = (Pass(job, [party.shares() for party in world.parties], xs) for world in (early, trained))
    first = train(job.xs, job.y, job.plan, job.order, stop=job.plan.steps_per_epoch)
    assert one.steps[0].alpha > other.steps[0].alpha
    found = one.run()
    assert np.array_equal(found, scores(xs, first, job.plan, one.order, one.steps))
    assert not np.array_equal(found, other.run())


@pytest.mark.parametrize(("model", "outputs"), [("logistic", 1), ("softmax", 3)])
def test_a_model_is_scored_without_its_plan_by_the_numbers_kept_with_it(model, outputs):
    """They survive JSON, and give the very same scores."""
    job = make_job(replace(SMALL, model=model, outputs=outputs))
    canonical = json.loads(json.dumps(job.plan.canonical()))
    stored = Numbers.from_canonical(canonical)
    assert stored == Numbers(model, (7, 8), job.plan.fx, job.plan.f, outputs, noise_bits=job.plan.noise_bits)
    del canonical["request"]["outputs"]  # as it was when models had one output only
    assert Numbers.from_canonical(canonical).outputs == 1
    assert (stored.outputs, stored.fz, stored.link) == (job.plan.outputs, job.plan.fz, job.plan.link)
    shares = [party.shares() for party in World(job).run().parties]
    with_plan, without = Pass(job, shares, job.xs), Pass(job, shares, job.xs, numbers=stored)
    assert np.array_equal(with_plan.run(), without.run())


def test_a_label_party_is_told_scores_to_sixteen_bits_and_no_more():
    """z to the last bit would be an integer combination of the others' features, whose noise it knows itself."""
    job = make_job(SMALL)
    scored = Pass(job, [party.shares() for party in World(job).run().parties], new_rows(job, 100))
    scored.run()
    reported = [sent.words for sent in scored.sent if sent.receiver == job.label and sent.what == "scores"]
    assert {sent.sender for sent in scored.sent if sent.what == "scores"} == {HELPER}
    assert SCORE_BITS == 16 < job.plan.fz - 30
    assert np.abs(np.concatenate(reported).view(np.int64)).max() < 2**16 * 50


@given(st.integers(0, 400), st.integers(1, 100), st.integers(0, 3))
def test_a_pass_goes_through_all_rows_in_batches_of_its_own_epoch(rows, batch, epoch):
    """A rest of fewer than 32 joins the batch before it; nothing is learnt."""
    steps = list(scoring_steps(rows, batch, epoch, 0.5))
    assert [row for step in steps for row in range(step.start, step.stop)] == list(range(rows))
    assert [step.index for step in steps] == [step.position for step in steps] == list(range(len(steps)))
    assert all((step.epoch, step.alpha, step.after) == (epoch, 0.5, 0.5) for step in steps)
    assert len(steps) < 2 or min(step.rows for step in steps) >= min(batch, LEAST_ROWS)


@pytest.mark.parametrize(("word", "stops"), [(2**62 - 1, False), (2**62, True), (2**63, True), (2**64 - 2**62, False)])
def test_the_helper_refuses_scores_that_left_the_words_safe_half(word, stops):
    """As in training; the text quotes none."""
    job, masks = make_job(SMALL), keyed(purpose="validation")
    step = next(scoring_steps(1, 1, 0, 1.0))
    helped = {i: masks(i, HELPER) for i in (0, 1)}
    probe = ScoringHelper(job.plan, 0, helped, {i: PassMasks(helped[i], step) for i in (0, 1)})
    missing = total(probe._correction(i, step) for i in (0, 1))
    shares = {0: np.array([[word]], np.uint64) - missing, 1: np.zeros((1, 1), np.uint64)}
    if stops:
        with pytest.raises(Diverged, match="a pre-activation reached") as caught:
            probe.scores(step, shares)
        assert str(word) not in str(caught.value)
    else:
        probe.scores(step, shares)


def test_scoring_roles_refuse_what_is_out_of_turn_or_of_a_wrong_shape():
    """A mask must not meet two values, and what is wrong names its sender."""
    job = make_job(SMALL)
    shares, xs = [party.shares() for party in World(job).parties], new_rows(job, 100)
    scored = Pass(job, shares, xs, batch=50)
    one, (first, second), ok = scored.scorers[0], scored.steps, np.zeros((50, 8), np.uint64)
    with pytest.raises(OutOfTurn):
        one.preactivation(first, {1: ok}, {1: np.zeros((7, 1), np.uint64)})
    with pytest.raises(OutOfTurn):
        one.masked_inputs(second)
    one.masked_inputs(first)
    with pytest.raises(OutOfTurn):
        one.masked_inputs(first)
    with pytest.raises(ShapeProblem, match="masked inputs of party 1"):
        one.preactivation(first, {1: ok[:1]}, {1: np.zeros((7, 1), np.uint64)})
    with pytest.raises(ShapeProblem, match="masked weights of party 1"):
        one.preactivation(first, {1: ok}, {1: np.zeros((1, 1), np.uint64)})
    one.preactivation(first, {1: ok}, {1: np.zeros((7, 1), np.uint64)})
    with pytest.raises(OutOfTurn):
        one.preactivation(first, {1: ok}, {1: np.zeros((7, 1), np.uint64)})
    with pytest.raises(ShapeProblem, match="the helper's scores"):
        one.open_scores(first, np.zeros((1, 1), np.uint64))
    with pytest.raises(OutOfTurn, match="only the label party"):
        scored.scorers[1].open_scores(first, np.zeros((50, 1), np.uint64))
    with pytest.raises(ShapeProblem, match="share of party 1"):
        scored.helper.scores(first, {0: np.zeros((50, 1), np.uint64), 1: np.zeros((1, 1), np.uint64)})
    missing = total(scored.helper._correction(i, first) for i in (0, 1))
    reported = {0: np.uint64(0) - missing, 1: np.zeros((50, 1), np.uint64)}
    assert not scored.helper.scores(first, reported).any()
    with pytest.raises(OutOfTurn):
        scored.helper.scores(first, reported)


def test_nobody_scores_without_zero_shares_or_with_other_columns():
    """Nor is anything kept of a batch that is done."""
    job, masks = make_job(SMALL), keyed(purpose="validation")
    shares, order = World(job).parties[1].shares(), Order(b"k" * 32, 9, "scoring")
    weights = PassMasks(masks(1, HELPER), next(scoring_steps(9, 9, 0, 1.0)))
    for rows, zero in [(np.zeros((9, 8), np.uint64), {}), (np.zeros((9, 7), np.uint64), {0: masks(1, 0)})]:
        with pytest.raises(ValueError, match=r"zero masks|8 columns"):
            Scorer(1, 0, job.plan, ArrayFeatures(rows), shares, 1.0, order=order, helper_masks=masks(1, HELPER),
                   zero_masks=zero, weight_masks=weights)  # fmt: skip
    scored = Pass(job, [party.shares() for party in World(job).parties], new_rows(job, 100))
    scored.run()
    assert not any(scorer._batches for scorer in scored.scorers)


@given(st.sampled_from([2, 3, 5]), st.integers(0, 1000))
def test_parts_of_a_score_add_up_and_only_all_together_say_anything(parties, seed):
    """Where each party owns its weights: rounded to 16 bits, hidden by a zero share."""
    rng, masks = np.random.default_rng(seed), keyed(purpose="prediction")
    parts = [clip_rows(rng.normal(size=(40, 1)) * 100, 1000.0) for _ in range(parties)]
    step = next(scoring_steps(40, 64, 0, 1.0))
    hidden = [
        encode_scores(part) + zero_share(i, {j: masks(i, j) for j in range(parties) if j != i}, step, (40, 1))
        for i, part in enumerate(parts)
    ]
    assert np.array_equal(decode_scores(total(hidden)), sum(np.rint(part * 2**16) / 2**16 for part in parts))
    assert np.abs(decode_scores(total(hidden)) - sum(parts)).max() <= parties * 2.0**-17
    assert np.median(np.abs(decode_scores(total(hidden[:-1])))) > 2.0**40
    with pytest.raises(RangeProblem):
        encode_scores(np.array([[np.nan]]))
