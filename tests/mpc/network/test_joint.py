"""A network's joint run is the plaintext run, bit for bit, whatever its shape and whoever goes first."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tercet.mpc.arithmetic.ring import ShapeProblem, Words, total
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.interface.script import Await, Receive, Send, Signal
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.plan import PlanRefused, Request
from tercet.mpc.plan.schedule import OutOfTurn, Step
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.network import NetworkModel, NetworkWeights, release, train_float
from tests.mpc.network_world import NetworkJob, NetworkWorld, make_network_job, opened, same
from tests.mpc.passes import Pass
from tests.mpc.world import keyed, quiet

SMALL = Request("softmax", 150, (7, 8), 40, 2, 0.3, outputs=3, network=Network((5, 4)))
LINKS = {"logistic": 1, "linear": 1, "poisson": 1, "softmax": 4}


@st.composite
def networks(draw) -> Network:
    """One to three hidden layers."""
    hidden = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    return Network(tuple(hidden), draw(st.sampled_from(sorted(HIDDEN))))


@st.composite
def network_jobs(draw, most_rows: int = 120) -> NetworkJob:
    """Jobs of every kind that the planner accepts."""
    parties = draw(st.sampled_from([2, 2, 3, 5]))
    label = draw(st.integers(0, parties - 1))
    columns = [draw(st.integers(int(party != label), 5)) for party in range(parties)]
    model, schedule = draw(st.sampled_from(sorted(LINKS))), draw(st.sampled_from(["constant", "exponential"]))
    rows = draw(st.integers(4, most_rows))
    request = Request(
        model,
        rows=rows,
        columns=tuple(columns),
        batch=draw(st.integers(max(4, rows // 12), 60)),  # a dozen steps tell what sixty do
        epochs=draw(st.integers(1, 2)),
        rate=draw(st.floats(0.01, 0.2)),
        schedule=schedule,
        decay=0.97 if schedule == "exponential" else 0.0,
        l2=draw(st.sampled_from([0.0, 0.01, 0.3])),
        accept_narrow=True,
        outputs=LINKS[model],
        network=draw(networks()),
    )
    try:
        return make_network_job(request, label, draw(st.integers(0, 1000)))
    except PlanRefused:
        reject()


@settings(max_examples=20, deadline=None)
@given(network_jobs(), st.integers(1, 4), st.none() | st.integers(0, 99), st.booleans())
def test_a_network_equals_the_oracle_bit_for_bit(job, look_ahead, seed, with_loss):
    """All links, activations, depths, parties, penalties, schedules, batches and look-aheads, whoever goes first.

    The shares of every epoch's loss add up to the oracle's, and the model is the same with them and without.
    """
    world = NetworkWorld(job, loss_masks=keyed(purpose="loss") if with_loss else None, seed=seed)
    try:
        world.run(look_ahead)
    except Diverged:
        assert job.plan.request.model in {"linear", "poisson"}
        reject()
    assert same(world.weights(), network_reference.train(world.oracle()))
    if not with_loss:
        return
    losses = network_reference.losses(world.oracle())
    shares = [total(loss.share(epoch) for loss in world.losses if loss) for epoch in range(job.plan.request.epochs)]
    assert all(np.array_equal(a, b) for a, b in zip(shares, losses, strict=True))


def apart(a: NetworkModel, b: NetworkModel) -> float:
    """The largest difference of two weights in the same place."""
    pairs = zip((*a.blocks, *a.upper, *a.biases), (*b.blocks, *b.upper, *b.biases), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


# Each with one of the other: neither knows which that is.
@pytest.mark.parametrize(
    ("model", "activation"),
    [*((model, "relu") for model in sorted(LINKS)), *(("softmax", name) for name in sorted(HIDDEN.keys() - {"relu"}))],
)
def test_a_network_is_close_to_float64_sgd(model, activation):
    """From the same first weights, with a penalty and a falling rate, three parties; the joint run is the oracle's."""
    network = Network((8, 6), activation)
    request = Request(model, 600, (6, 9, 8), 64, 4, 0.02, "inverse-time", 0.02, 0.02, outputs=LINKS[model],
                      network=network)  # fmt: skip
    job = quiet(make_network_job(request, label=1))
    run, first = NetworkWorld(job).oracle(), release(opened(job.first), job.plan, 0)
    ours, theirs = release(network_reference.train(run), job.plan), train_float(run, job.x, first)
    assert apart(ours, theirs) < 1e-3
    assert apart(ours, first) > 0.02


DIGITS = Request("softmax", 1400, (32, 32), 128, 20, 0.5, outputs=10, network=Network((64,)))


def digits(parties: int) -> tuple[NetworkJob, tuple[np.ndarray, np.ndarray]]:
    """A job on 1400 of scikit-learn's digits, and the others."""
    x, y = load_digits(return_X_y=True)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    columns = tuple(len(part) for part in np.array_split(np.arange(64), parties))
    edges = np.cumsum(columns)[:-1]
    job = make_network_job(replace(DIGITS, columns=columns), parties - 1, 0, np.split(x[train], edges, axis=1),
                           y[train].astype(float))  # fmt: skip
    return job, (x[test], y[test])


def test_digits_are_learnt_as_by_float64_sgd():
    """64-64-10 in batches of 128: weights within 5e-3 after 200 steps but for noise, accuracy within half a point.

    Nearly all of that is the rounding of features: float64 SGD on rounded features is as far from itself, by how much
    depends on the first weights, and the joint run is much nearer to that.
    """
    noisy, (x, y) = digits(2)
    job = quiet(noisy)
    run, first = NetworkWorld(job).oracle(), release(opened(job.first), job.plan, 0)
    ours, theirs = release(network_reference.train(run, 200), job.plan, 200), train_float(run, job.x, first, 200)
    rounded = [part.view(np.int64) / 2.0**job.plan.fx for part in job.xs]
    nearer = train_float(run, rounded, first, 200)
    assert apart(ours, theirs) < 5e-3
    assert apart(ours, nearer) < 1e-3

    def accuracy(model):
        hidden = np.maximum(x @ np.concatenate(model.blocks) + model.biases[0], 0.0)
        return float(((hidden @ model.upper[0] + model.biases[1]).argmax(axis=1) == y).mean())

    assert accuracy(theirs) > 0.95
    assert abs(accuracy(ours) - accuracy(theirs)) <= 0.005
    ours = release(network_reference.train(NetworkWorld(noisy).oracle(), 200), noisy.plan, 200)
    assert abs(accuracy(ours) - accuracy(theirs)) <= 0.005


# Scoring


@settings(max_examples=12, deadline=None)
@given(network_jobs(), st.integers(0, 5), st.integers(1, 50), st.booleans())
def test_scores_of_other_rows_equal_the_oracles(job, steps, rows, still):
    """All but a common part of a row's classes, after any number of steps; the model's own where noise is small."""
    job, steps = quiet(job) if still else job, min(steps, job.plan.steps_total)
    try:
        world = NetworkWorld(job).run(stop=steps)
    except Diverged:
        reject()
    xs = [np.resize(x, (rows, x.shape[1])) for x in job.xs]
    scoring = Pass(job, [party.shares() for party in world.parties], xs, batch=20)
    setting = network_reference.PassSetting(job.plan, scoring.order, scoring.elements)
    expected = network_reference.scores(xs, world.weights(), setting, scoring.steps)
    assert np.array_equal(scoring.run(), expected)
    if not still:
        return
    model, link = release(world.weights(), job.plan, steps), HIDDEN[job.plan.network.activation]
    features = np.concatenate([x.view(np.int64) / 2.0**job.plan.fx for x in xs], axis=1)
    z = features @ np.concatenate(model.blocks) + model.biases[0]
    for above, bias in zip(model.upper, model.biases[1:], strict=True):
        z = (link.phi(z) + link.centre) @ above + bias
    if job.plan.outputs > 1:
        z = z - z[:, :1]
        expected = expected - expected[:, :1]
    assert np.abs(z - expected).max() < 2.0 ** (6 - job.plan.fx) * (1.0 + np.abs(z).max())


def test_a_row_unlike_all_others_may_be_scored():
    """Hidden values beyond what training allows stop no scoring, as long as words hold them."""
    job = make_network_job(replace(SMALL, network=Network((5,), "tanh")))
    world = NetworkWorld(job)
    shares = [party.shares() for party in world.parties]
    shares[0] = replace(shares[0], own=shares[0].own + np.uint64(3 << job.plan.fw))
    xs = [np.full((3, x.shape[1]), 16 << job.plan.fx, np.uint64) for x in job.xs]
    scoring = Pass(job, shares, xs)
    setting = network_reference.PassSetting(job.plan, scoring.order, scoring.elements)
    expected = network_reference.scores(xs, opened(shares), setting, scoring.steps)
    assert np.array_equal(scoring.run(), expected)
    seen = total(sent.words for sent in scoring.sent if sent.what == "hidden share").view(np.int64)
    assert np.abs(seen / 2.0**job.plan.fz).max() > 300


# First weights and later ones


def test_first_weights_are_drawn_by_all_parties_together():
    """Each has its own share of every matrix, the sum has the variance of the rule, and biases begin at zero."""
    job, _ = digits(3)
    shares, first = job.first, release(opened(job.first), job.plan, 0)
    assert all(not share.biases[0].any() for share in shares)
    assert np.std(np.concatenate(first.blocks)) == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert np.std(first.upper[0]) == pytest.approx((1 / 64) ** 0.5, rel=0.1)
    draws = [share.upper[0].view(np.int64).ravel().astype(float) for share in shares]
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.15
    assert len({share.upper[0].tobytes() for share in shares}) == 3


def test_a_run_taken_up_from_its_shares_ends_as_the_oracle_does():
    """Another attempt has other masks, so that its truncations round otherwise; the oracle is handed those."""
    job = make_network_job(replace(SMALL, columns=(5, 6, 4)), label=2)
    first = NetworkWorld(job).run(3, stop=3)
    shares = [party.shares() for party in first.parties]
    assert {share.step for share in shares} == {3}
    assert {party.shares().step for party in first.parties} == {3}
    second = NetworkWorld(job, keyed(attempt=2), start=shares).run(2, first=3)

    def dealt(name: str, k: int, step: Step) -> Words:
        return (first if step.index < 3 else second).dealt(name, k, step)

    run = first.oracle()._replace(dealt=dealt)
    assert same(second.weights(), network_reference.train(run))


def test_shares_alone_say_nothing_of_the_weights():
    """After a step each is off by uniform words, so it decodes to numbers of no plausible size."""
    job = make_network_job(SMALL)
    world = NetworkWorld(job).run()
    for party in world.parties:
        for words in (party.shares().own, *party.shares().upper):
            assert np.median(np.abs(words.view(np.int64) / 2.0**job.plan.fw)) > 2.0**15


# What must not be


KINDS = ("masked inputs", "mask openings", "masked labels", "masked weights", "dealt", "weight opening",
         "narrow opening", "hidden share", "hidden answer", "output share", "output answer", "truncation opening",
         "slope opening", "error opening", "masked error")  # fmt: skip


class Flipping(NetworkWorld):
    """Flips one bit of one message of a kind."""

    what = ""
    flipped = False

    def _note(self, task):
        super()._note(task)
        keys = [key for key in self.box if key[0] == self.what and key[2] == 1]
        if keys and not self.flipped:
            self.box[keys[0]][0, -1] ^= np.uint64(1 << 50)
            self.flipped = True


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit_in_any_message_changes_the_model(kind):
    """Every tensor that travels matters, so equality with the oracle means that all arrived."""
    job = make_network_job(replace(SMALL, rows=80, network=Network((5, 4), "tanh")))
    world = Flipping(job)
    world.what = kind
    try:
        changed = not same(world.run().weights(), network_reference.train(world.oracle()))
    except Diverged:
        changed = True
    assert world.flipped
    assert changed


def test_roles_refuse_to_repeat_or_to_skip_a_step():
    """A mask must not meet two values, so nothing is asked for twice."""
    job = make_network_job(SMALL)
    world, steps = NetworkWorld(job).run(stop=1), list(job.plan.steps())
    party, helper, rows = world.parties[0], world.helper, steps[1].rows
    for wrong in (steps[0], steps[2]):
        with pytest.raises(OutOfTurn):
            party.prepare(wrong)
        with pytest.raises(OutOfTurn):
            helper.deal(wrong)
    with pytest.raises(OutOfTurn, match="not dealt, or answered already"):
        helper.answer_hidden(steps[0], 0, {})
    with pytest.raises(OutOfTurn, match="not masked yet"):
        party.absorb(steps[1], {1: np.zeros((rows, 8), np.uint64)}, {})
    party.prepare(steps[1])
    with pytest.raises(OutOfTurn):
        party.prepare(steps[1])
    with pytest.raises(OutOfTurn, match="not absorbed"):
        party.first_layer(steps[1], party.shares(), {1: np.zeros((7, 5), np.uint64)})


def prepared(world: NetworkWorld, step: Step) -> dict[int, Words]:
    """A step up to the shares of its first hidden layer; the parties' online scripts wait for the answer."""
    sent, dealt = {i: party.prepare(step) for i, party in enumerate(world.parties)}, world.helper.deal(step)
    shares = {}
    for i, party in enumerate(world.parties):
        inputs, openings, _, weights = sent[1 - i]
        party.absorb(step, {1 - i: inputs}, {1 - i: openings})
        party.absorb_dealt(step, dealt[i])
        online = party.run_online(step)
        assert next(online) == Await("absorbed")
        assert isinstance(online.send(None), Receive)
        assert online.send({1 - i: weights[i]}) == Await("dealt")
        share = online.send(None)
        assert isinstance(share, Send)
        shares[i] = share.words
    return shares


def test_scripts_and_answers_are_had_once():
    """A second online script of a step, a second opening and a second answer are refused, and an answer too early."""
    world = NetworkWorld(make_network_job(SMALL))
    step = next(world.job.plan.steps())
    shares = prepared(world, step)
    again = world.parties[0].run_online(step)
    assert [next(again), again.send(None)][0] == Await("absorbed")
    again.send({1: np.zeros((7, 5), np.uint64)})
    with pytest.raises(OutOfTurn):
        again.send(None)
    opening = [world.parties[0].open_weights(step) for _ in range(2)]
    for script in opening:
        waits = [next(script), script.send(None), script.send(None)]
        assert waits == [Await("absorbed"), Signal("weights"), Await("weights")]
    assert isinstance(opening[0].send(None), Send)
    with pytest.raises(OutOfTurn):
        opening[1].send(None)
    output = {i: np.zeros((step.rows, 3), np.uint64) for i in world.ids}
    with pytest.raises(OutOfTurn):
        world.helper.answer_hidden(step, 1, {i: np.zeros((1, step.rows * 4), np.uint64) for i in world.ids})
    with pytest.raises(OutOfTurn):
        world.helper.answer_output(step, output)
    world.helper.answer_hidden(step, 0, shares)
    with pytest.raises(OutOfTurn):
        world.helper.answer_hidden(step, 0, shares)


def test_a_wrong_shape_is_refused_and_names_its_sender():
    """One of another shape might broadcast silently."""
    job = make_network_job(SMALL)
    world, step = NetworkWorld(job), next(job.plan.steps())
    party, helper = world.parties[0], world.helper
    _, openings, _, _ = party.prepare(step)
    one, inputs = np.zeros((1, 1), np.uint64), np.zeros((step.rows, 8), np.uint64)
    with pytest.raises(ShapeProblem, match="masked inputs of party 1"):
        party.absorb(step, {1: one}, {1: openings})
    with pytest.raises(ShapeProblem, match="openings of party 1"):
        party.absorb(step, {1: inputs}, {1: one})
    party.absorb(step, {1: inputs}, {1: openings})
    with pytest.raises(ShapeProblem, match="what the helper dealt"):
        party.absorb_dealt(step, one)
    party.absorb_dealt(step, helper.deal(step)[0])
    with pytest.raises(ShapeProblem, match="masked weights of party 1"):
        party.first_layer(step, party.shares(), {1: one})
    fitting = np.zeros((1, step.rows * 5), np.uint64)
    with pytest.raises(ShapeProblem, match="hidden share of party 1"):
        helper.answer_hidden(step, 0, {0: fitting, 1: one})
    with pytest.raises(ShapeProblem, match="pre-activation share of party 0"):
        helper.answer_output(step, {0: one, 1: one})


def test_a_wrong_shape_changes_nothing():
    """The step can still be done with the right words."""
    job = make_network_job(SMALL)
    world, step = NetworkWorld(job), next(job.plan.steps())
    sent = {i: party.prepare(step) for i, party in enumerate(world.parties)}
    one = np.zeros((1, 1), np.uint64)
    for i, party in enumerate(world.parties):
        inputs, openings, _, _ = sent[1 - i]
        for wrong in (({1 - i: one}, {1 - i: openings}), ({1 - i: inputs}, {1 - i: one})):
            with pytest.raises(ShapeProblem):
                party.absorb(step, *wrong)
        party.absorb(step, {1 - i: inputs}, {1 - i: openings})
        with pytest.raises(OutOfTurn):
            party.absorb(step, {1 - i: inputs}, {1 - i: openings})


@pytest.mark.parametrize(
    ("word", "message"),
    [(257 << 52, "exceeded 256"), (2**64 - (257 << 52), "exceeded 256"), (2**62, "reached 2"), (2**63, "reached 2")],
)
def test_a_hidden_value_beyond_the_limit_stops_the_job(word, message):
    """Nothing wraps, and no value is quoted."""
    world = NetworkWorld(make_network_job(SMALL))
    step = next(world.job.plan.steps())
    assert world.job.plan.fz == 52
    world.helper.deal(step)
    shares = {i: np.zeros((1, step.rows * 5), np.uint64) for i in world.ids}
    shares[0][0, 3] = np.uint64(word)
    with pytest.raises(Diverged, match=message):
        world.helper.answer_hidden(step, 0, shares)


def test_roles_forget_what_is_done():
    """Memory is bounded by the look-ahead: of a finished step nothing but the shares after it is kept."""
    job = make_network_job(SMALL)
    world = NetworkWorld(job).run(3)
    assert not world.helper._deals
    for party in world.parties:
        assert not party._states
        assert not party._labels
        assert list(party._partners) == [job.plan.steps_total]


class Watched(NetworkWorld):
    """Asks every party for its shares after every move of any script."""

    def _advance(self, task, look_ahead):
        moved = super()._advance(task, look_ahead)
        for i, party in enumerate(self.parties):
            shares = party.shares()
            seen = self.seen.setdefault((shares.step, i), shares)
            assert seen is shares or same(alone(seen), alone(shares))
        return moved

    def __post_init__(self):
        super().__post_init__()
        self.seen: dict[tuple[int, int], NetworkShares] = {}


def alone(shares: NetworkShares) -> NetworkWeights:
    """One party's shares, to be compared."""
    return NetworkWeights((shares.own, *shares.partners.values()), shares.upper, shares.biases)


@settings(max_examples=8, deadline=None)
@given(network_jobs(most_rows=40), st.integers(1, 3), st.integers(0, 99))  # the oracle begins anew for each step
def test_shares_are_those_after_the_last_step_at_any_moment(job, look_ahead, seed):
    """Although weights above are updated, and other blocks' shares run ahead, while the next step is under way."""
    world = Watched(job, seed=seed)
    try:
        world.run(look_ahead)
    except Diverged:
        reject()
    for step in range(job.plan.steps_total + 1):
        shares = [world.seen.get((step, i)) for i in world.ids]
        found = [one for one in shares if one]
        if len(found) == len(shares):
            assert same(opened(found), network_reference.train(world.oracle(), step))
