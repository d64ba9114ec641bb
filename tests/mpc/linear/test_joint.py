"""The joint run is the plaintext run, bit for bit, whoever takes part and however far ahead they work."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.arithmetic.ring import ShapeProblem
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.data_party import LinearParty
from tercet.mpc.linear.helper import Diverged, activation
from tercet.mpc.linear.shares import Shares
from tercet.mpc.plan.plan import PlanRefused, Request
from tercet.mpc.plan.schedule import OutOfTurn
from tercet.mpc.reference.linear import release, train, train_float
from tests.mpc.world import SHOWN, Job, World, keyed, make_job, opened, quiet, same

SMALL = Request("logistic", rows=150, columns=(7, 8), batch=40, epochs=2, rate=0.3, accept_narrow=True)


@st.composite
def jobs(draw) -> Job:
    """Jobs of every kind that the planner accepts."""
    parties = draw(st.sampled_from([2, 3, 5]))
    label = draw(st.integers(0, parties - 1))
    columns = [draw(st.integers(int(party != label), 6)) for party in range(parties)]
    schedule = draw(st.sampled_from(["constant", "inverse-time", "exponential"]))
    model, rows = draw(st.sampled_from(sorted(SHOWN))), draw(st.integers(3, 200))
    request = Request(
        model,
        rows=rows,
        columns=tuple(columns),
        batch=draw(st.integers(max(3, rows // 12), 90)),  # a dozen steps tell what sixty do
        epochs=draw(st.integers(1, 3)),
        rate=draw(st.floats(0.01, 0.2)),
        schedule=schedule,
        decay=0.97 if schedule == "exponential" else 0.02,
        l2=draw(st.sampled_from([0.0, 0.01, 0.3])),
        accept_narrow=True,
        outputs=draw(st.integers(3, 6)) if model == "softmax" else 1,
    )
    outliers = draw(st.sampled_from([0.0, 0.02]))
    try:
        return make_job(request, label, draw(st.integers(0, 1000)), outliers)
    except PlanRefused:
        reject()


@settings(max_examples=20, deadline=None)
@given(jobs(), st.integers(0, 3))
def test_the_joint_run_equals_the_oracle_bit_for_bit(job, look_ahead):
    """Any link, 3 to 6 classes, 2, 3 or 5 parties, any label party, batch size, penalty, schedule, look-ahead."""
    world = World(job)
    try:
        world.run(look_ahead)
    except Diverged:  # wild columns in tiny batches may do that where errors have no bound
        assert job.plan.request.model in {"linear", "poisson", "gamma"}
        reject()
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_any_interleaving_of_ahead_and_online_gives_the_same_model(data):
    """Nothing known ahead depends on how many activations have come back."""
    job = make_job(SMALL)
    world, steps = World(job), list(job.plan.steps())
    prepared = done = 0
    while done < len(steps):
        if prepared < len(steps) and (prepared == done or data.draw(st.booleans())):
            world.ahead(steps[prepared])
            prepared += 1
        else:
            world.online(steps[done])
            done += 1
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))


@pytest.mark.parametrize(("model", "l2"), [("logistic", 0.0), *((model, 0.02) for model in SHOWN)])
def test_the_model_is_close_to_float64_sgd(model, l2):
    """Features are rounded at f_x bits and rates snapped; but for noise, the joint run's oracle is as near as that."""
    rate, outputs = (0.02 if model in {"poisson", "gamma"} else 0.1), 4 if model == "softmax" else 1
    request = Request(model, 1000, (9, 11, 10), 64, 6, rate, "inverse-time", 0.02, l2, outputs=outputs)
    noisy = make_job(request, label=1)
    for job, bound in ((quiet(noisy), 3e-4), (noisy, 0.02)):
        ours = release(train(job.xs, job.y, job.plan, job.order), job.plan)
        theirs = train_float(job.x, job.y, job.plan, job.order)
        for mine, other in zip((*ours.blocks, ours.intercept), (*theirs.blocks, theirs.intercept), strict=True):
            assert np.abs(mine - other).max() < bound


@pytest.mark.parametrize("columns", [4, 0])
def test_a_run_taken_up_from_its_shares_ends_with_the_same_model(columns):
    """Another attempt, with other masks, from the shares of a step while partner shares had run ahead."""
    job = make_job(replace(SMALL, columns=(5, 6, columns)), label=2)
    first = World(job)
    steps = list(job.plan.steps())
    for step in steps[:5]:
        first.ahead(step)
    for step in steps[:2]:
        first.online(step)
    shares = [party.shares() for party in first.parties]
    assert {share.step for share in shares} == {2}
    second = World(job, keyed(attempt=2), start=shares).run(1, first=2)
    assert same(second.weights(), train(job.xs, job.y, job.plan, job.order))


def test_shares_alone_say_nothing_of_the_weights():
    """One share is off by uniform words, so it decodes to numbers of no plausible size."""
    job = make_job(SMALL)
    world = World(job).run()
    sizes = np.abs(decode(world.parties[0].shares().own, job.plan.fw))
    assert np.median(sizes) > 2.0**15


@pytest.mark.parametrize("what", ["E", "y~", "f", "g", "z", "p"])
@pytest.mark.parametrize("receiver", [HELPER, 0, 1])
@pytest.mark.parametrize(("model", "outputs"), [("logistic", 1), ("softmax", 3), ("gamma", 1)])
def test_one_flipped_bit_in_any_tensor_changes_the_model(what, receiver, model, outputs):
    """Every tensor that travels matters, so equality with the oracle means that all arrived.

    (The lowest bits of a pre-activation are lost in the activation's rounding, on purpose.)
    """

    class Flipping(World):
        flipped = False

        def post(self, kind, turn, index, way, words):
            if (self.name(kind, turn), index, way[1]) == (what, 1, receiver) and not self.flipped:
                words[-1, -1] ^= np.uint64(1 << 40)
                self.flipped = True
            super().post(kind, turn, index, way, words)

    job = make_job(replace(SMALL, model=model, outputs=outputs, epochs=1, rows=80, rate=0.1))
    world = Flipping(job)
    try:
        changed = not same(world.run().weights(), train(job.xs, job.y, job.plan, job.order))
    except Diverged:
        changed = True
    assert changed == world.flipped


def test_a_diverging_run_is_stopped_by_the_helper():
    """Scores beyond the plan's limit stop the job; nothing wraps and no score is quoted."""
    job = make_job(replace(SMALL, model="linear", rate=1.0, rows=64, batch=64, epochs=60), outliers=0.05)
    with pytest.raises(Diverged, match=r"a score exceeded|a pre-activation reached") as caught:
        World(job).run()
    assert caught.value.step.index > 0


@pytest.mark.parametrize(
    ("word", "stops"),
    [(2**62 - 1, False), (2**62, True), (2**63, True), (2**64 - 2**62 - 1, True), (2**64 - 2**62, False)],
)
def test_the_guard_holds_at_its_edges(word, stops):
    """Raw z may be anything below 2^62 in size, and nothing else, the most negative word included."""
    job = make_job(SMALL)
    step, z = next(job.plan.steps()), np.array([[word]], np.uint64)
    if stops:
        with pytest.raises(Diverged):
            activation(job.plan, step, z)
    else:
        activation(job.plan, step, z)


def test_scores_beyond_the_limit_stop_a_linear_regression():
    """Its limit is far below what the words could hold, and it is the score that counts, not the raw z."""
    job = make_job(replace(SMALL, model="linear", l2=0.5))
    step = list(job.plan.steps())[-1]
    assert step.alpha < 0.5
    for part, stops in [(0.99, False), (1.01, True), (-0.99, False), (-1.01, True)]:
        z = encode(np.array([[part * job.plan.score_limit / step.alpha]]), job.plan.fz)
        if stops:
            with pytest.raises(Diverged, match="a score exceeded"):
                activation(job.plan, step, z)
        else:
            activation(job.plan, step, z)


@pytest.mark.parametrize(("model", "side"), [("poisson", 1.0), ("gamma", -1.0)])
def test_the_exponential_is_guarded_on_the_side_where_it_grows(model, side):
    """No exponential is taken of a score beyond the limit; far out on the other side is no error to speak of."""
    job = make_job(replace(SMALL, model=model, rate=0.02))
    step = next(job.plan.steps())
    for score, stops in [(1.01, True), (0.99, False), (-30.0, False), (150.0, True), (-150.0, False)]:
        z = encode(np.array([[side * score * job.plan.score_limit]]), job.plan.fz)
        if stops:
            with pytest.raises(Diverged, match="a score exceeded"):
                activation(job.plan, step, z)
        else:
            sizes = np.abs(decode(activation(job.plan, step, z), job.plan.f))
            assert sizes.max() <= step.scale * np.exp(job.plan.score_limit)


def test_labels_in_one_column_are_refused_where_there_are_classes():
    """Numpy would broadcast them; and the other way round."""
    job = make_job(replace(SMALL, model="softmax", outputs=3))
    masks = keyed()
    for y in (job.y[:, :1], job.y[:-1], job.y[:, 0]):
        with pytest.raises(ShapeProblem, match=r"labels: expected \(150, 3\)"):
            LinearParty(0, 0, job.plan, ArrayFeatures(job.xs[0]), y, order=job.order, helper_masks=masks(0, HELPER),
                      zero_masks={1: masks(0, 1)})  # fmt: skip


def test_roles_forget_what_is_done():
    """Memory is bounded by the look-ahead: of a finished step nothing but the shares after it is kept."""
    job = make_job(SMALL)
    world = World(job).run(2)
    assert not world.helper._deals
    for party in world.parties:
        assert not party._batches
        assert list(party._partners) == list(party._intercepts) == [job.plan.steps_total]


def test_a_wrong_shape_is_refused_and_names_its_sender():
    """A (1, d) tensor would broadcast silently."""
    job = make_job(SMALL)
    world, step = World(job), next(job.plan.steps())
    world.ahead(step)
    with pytest.raises(ShapeProblem, match="masked weights of party 1"):
        world.parties[0].preactivation(step, {1: np.zeros((1, 1), np.uint64)})
    with pytest.raises(ShapeProblem, match="share of party 1"):
        world.helper.masked_activations(step, {0: np.zeros((40, 1), np.uint64), 1: np.zeros((1, 1), np.uint64)})
    world.online(step)


def test_roles_refuse_to_repeat_or_to_skip_a_step():
    """A mask must not meet two values, so nothing is asked for twice."""
    job = make_job(SMALL)
    world, steps = World(job), list(job.plan.steps())
    with pytest.raises(OutOfTurn):
        world.parties[0].masked_inputs(steps[1])
    with pytest.raises(OutOfTurn):
        world.parties[0].absorb(steps[0], {1: np.zeros((40, 8), np.uint64)})
    world.ahead(steps[0])
    with pytest.raises(OutOfTurn):
        world.parties[0].masked_inputs(steps[0])
    with pytest.raises(OutOfTurn):
        world.parties[1].masked_labels(steps[0])
    with pytest.raises(OutOfTurn):
        world.parties[0].update(steps[0], np.zeros((40, 1), np.uint64), np.zeros((7, 1), np.uint64), None)
    with pytest.raises(OutOfTurn):
        world.helper.gradient_shares(steps[0])
    world.ahead(steps[1])
    with pytest.raises(OutOfTurn):
        world.parties[0].preactivation(steps[1], {1: np.zeros((7, 1), np.uint64)})
    z = world.received("z")
    assert not z
    world.online(steps[0])
    with pytest.raises(OutOfTurn, match="answered already"):
        world.helper.masked_activations(steps[0], {i: np.zeros((40, 1), np.uint64) for i in (0, 1)})


def test_labels_and_zero_masks_belong_where_they_belong():
    """A party without the label gets none, and nobody runs without a zero share."""
    job = make_job(SMALL)
    masks = keyed()
    for y, zero in [(job.y, {0: masks(1, 0)}), (None, {})]:
        with pytest.raises(ValueError, match="zero masks"):
            LinearParty(1, 0, job.plan, ArrayFeatures(job.xs[1]), y, order=job.order, helper_masks=masks(1, HELPER),
                      zero_masks=zero)  # fmt: skip


def test_shares_are_those_of_one_step():
    """The step is part of them: shares of two steps do not add up."""
    job = make_job(SMALL)
    world = World(job).run(3, stop=4)
    assert [party.shares().step for party in world.parties] == [4, 4]
    assert all(isinstance(party.shares(), Shares) for party in world.parties)


@settings(max_examples=20, deadline=None)
@given(jobs(), st.integers(0, 3), st.data())
def test_a_job_stopped_after_an_epoch_keeps_the_model_of_that_epoch(job, look_ahead, data):
    """Although work ahead of time had gone on, into the next epochs too, and although training itself may go on."""
    steps, stored_steps = list(job.plan.steps()), job.plan.steps_per_epoch * data.draw(st.integers(1, 3))
    stored_steps = min(stored_steps, len(steps))
    world, prepared, stored = World(job), 0, None
    try:
        for turn, step in enumerate(steps):
            while prepared < min(len(steps), turn + 1 + look_ahead):
                world.ahead(steps[prepared])
                prepared += 1
            world.online(step)
            if turn + 1 == stored_steps:
                for further in steps[prepared : prepared + look_ahead]:
                    world.ahead(further)
                    prepared += 1
                stored = [party.shares() for party in world.parties]
    except Diverged:
        reject()
    assert stored is not None
    assert {shares.step for shares in stored} == {stored_steps}
    oracle = train(job.xs, job.y, job.plan, job.order, stop=stored_steps)
    assert same(opened(stored), oracle)
    alpha = steps[stored_steps - 1].after
    model = release(opened(stored), job.plan, stored_steps)
    assert all(
        np.array_equal(block, alpha * decode(words, job.plan.fw))
        for block, words in zip(model.blocks, oracle.blocks, strict=True)
    )


def test_a_job_stopped_after_two_epochs_releases_the_model_of_a_job_of_two_epochs():
    """With a penalty, whose alpha is that of the step and not of the end of the job."""
    long = make_job(replace(SMALL, epochs=5, l2=0.05))
    short = make_job(replace(SMALL, epochs=2, l2=0.05))
    steps = short.plan.steps_total
    stopped = release(train(long.xs, long.y, long.plan, long.order, steps), long.plan, steps)
    whole = release(train(short.xs, short.y, short.plan, short.order), short.plan)
    assert all(np.array_equal(a, b) for a, b in zip(stopped.blocks, whole.blocks, strict=True))
    assert np.array_equal(stopped.intercept, whole.intercept)
    assert long.plan.last_alpha < long.plan.alpha_after(steps) == short.plan.last_alpha < 1


def test_features_are_read_batch_by_batch_and_must_be_what_was_announced():
    """Anything with a shape and rows will do, as long as they have the columns that its shape says."""
    job, masks = make_job(SMALL), keyed()

    class Asked(ArrayFeatures):
        asked = 0

        def read_rows(self, rows):
            self.asked = max(self.asked, len(rows))
            return super().read_rows(rows)

    class Narrowed(ArrayFeatures):
        def read_rows(self, rows):
            return super().read_rows(rows)[:, 1:]

    def party(x):
        return LinearParty(1, 0, job.plan, x, None, order=job.order, helper_masks=masks(1, HELPER),
                         zero_masks={0: masks(1, 0)})  # fmt: skip

    rows, step = Asked(job.xs[1]), next(job.plan.steps())
    party(rows).masked_inputs(step)
    assert rows.asked == SMALL.batch
    with pytest.raises(ShapeProblem, match="features"):
        party(ArrayFeatures(job.xs[1][:-1]))
    with pytest.raises(ShapeProblem, match="features of a batch"):
        party(Narrowed(job.xs[1])).masked_inputs(step)


def test_masking_leaves_the_partys_own_features_alone():
    """Signs are applied to a copy of the batch."""
    job = make_job(SMALL)
    before = [x.copy() for x in job.xs]
    World(job).run(2)
    assert all(np.array_equal(x, y) for x, y in zip(job.xs, before, strict=True))
