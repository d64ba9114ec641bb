"""Checks of what the helper deals tell nobody anything, in linear models and in networks, and forget nothing."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.checks import Checks, Projections, commitment, commits
from tercet.mpc.linear.helper import ActivationFunction, Diverged
from tercet.mpc.network.helper import NetworkHelper
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.check_sizes import Sizes
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.linear import train
from tests.mpc.linear.test_disclosure import (
    MEDIUM,
    SOFTMAX,
    TINY,
    Ledger,
    Vector,
    check_ledger,
    check_sums,
    deficiency,
    differences_of,
    reusing,
)
from tests.mpc.network_world import NetworkWorld, make_network_job
from tests.mpc.network_world import same as network_same
from tests.mpc.world import Job, World, keyed, make_job, same

STEP_ZERO = 0


def coalition_view(job: Job, coalition):
    """As in test_disclosure, with what is opened for the checks; eps is the same for all and counts once.

    Of a gradient share the parts for partners within the coalition follow from its own masks.
    """
    shape = (99, job.plan.request.rows, job.plan.outputs)
    answers = np.random.default_rng(0).integers(0, 2**64, shape, dtype=np.uint64)
    checks = job.plan.request.checks

    def view(masks):
        world = World(job, masks, answer=lambda plan, step, z: answers[step.index]).run(1)
        once: dict[tuple[Any, ...], Words] = {}
        for s in world.sent:
            if s.receiver in coalition and s.sender not in coalition:
                if s.what == "check":
                    once["eps", s.step, s.sender, None] = s.words[:, :checks]
                    once["delta", s.step, s.sender, s.receiver] = s.words[:, checks:]
                elif s.what == "g":
                    partners = [j for j in world.ids if j != s.receiver]
                    for j, part in zip(partners, s.words.reshape(len(partners), -1), strict=True):
                        if j not in coalition:
                            once["g", s.step, j, s.receiver] = part
                else:
                    once[s.what, s.step, s.sender, s.receiver if s.what in "fgp" else None] = s.words
        return np.concatenate([words.ravel() for words in once.values()])

    return view


def knows(coalition):
    """Zero shares too: they are not in the view, and what their streams are called changes with what is dealt."""
    return lambda a, b: HELPER not in {a, b} or bool({a, b} & set(coalition))


@pytest.mark.parametrize(
    ("model", "outputs", "coalition"),
    [(*link, coalition) for link in [("linear", 1), ("softmax", 3)] for coalition in [(0, 1), (0, 2)]],
)
def test_what_a_coalition_receives_is_uniform_where_dealing_is_checked(model, outputs, coalition):
    """All of it together, over two steps of one output; what each finds itself follows, and is told to nobody."""
    epochs = 2 if outputs == 1 else 1
    job = make_job(Request(model, columns=(2, 1, 2), epochs=epochs, outputs=outputs, checks=2, **TINY), 1)
    assert deficiency(Vector(knows(coalition)), coalition_view(job, coalition)) == 0


def test_no_mask_of_a_check_can_be_left_out():
    """Without any one of them the view is no longer uniform."""
    job = make_job(Request("linear", columns=(2, 1, 2), epochs=2, checks=1, **TINY), 2)
    found = differences_of(knows((0, 1)), coalition_view(job, (0, 1)))
    assert found.deficiency() == 0
    assert all(found.deficiency({omitted}) > 0 for omitted in ("U*", "M*", "R*"))


def test_the_helper_still_sees_only_the_sum_of_the_shares():
    """Streams that are keyed by digests hide as much as those that are not."""
    job = make_job(Request("linear", columns=(3, 4, 2), epochs=2, checks=2, **TINY), 1)

    def view(masks):
        return np.concatenate([words.ravel() for words in World(job, masks).run(1).received("z", HELPER).values()])

    check_sums(view, 2 * 2)


@pytest.mark.parametrize("request_", [MEDIUM, SOFTMAX], ids=lambda one: one.model)
def test_a_reused_mask_of_a_check_is_noticed(request_):
    """Masks of checks are used once, too."""
    job = make_job(replace(request_, rows=150, epochs=1, checks=2), label=2)
    check_words_apart(job, keyed())
    for reused in ("U*", "M*", "R*"):
        with pytest.raises(AssertionError, match="the same word"):
            check_words_apart(job, reusing([reused]))


def check_words_apart(job: Job, source) -> None:
    """No two addresses of masks share a word."""
    ledger = Ledger(source)
    World(job, ledger).run(2)
    ledger.check_words()


def test_the_unchecked_ledger_is_as_it_was():
    """No checks, no masks of them."""
    check_ledger(make_job(MEDIUM, label=2), keyed())


def test_projections_are_new_at_each_step_for_each_party_and_attempt():
    """A helper that got by with an alteration cannot repeat it."""
    sizes, steps = Sizes((4, 4), 3, 2), list(make_job(MEDIUM).plan.steps())[:2]
    draws = [
        words.tobytes()
        for attempt, step in itertools.product((1, 2), steps)
        for both in Projections(b"k" * 32, sizes, attempt).of(step)
        for words in both
        if words is not None
    ]
    assert len(set(draws)) == len(draws) == 16


def test_a_commitment_binds_to_a_digest_and_to_who_gave_it():
    """Another digest, salt or party is none."""
    digest, salt = bytes(range(32)), b"s" * 32
    made = commitment(digest, salt, "card")
    assert commits(digest, salt, "card", made)
    for other in ((b"x" * 32, salt, "card"), (digest, b"t" * 32, "card"), (digest, salt, "bank")):
        assert not commits(*other, made)


def noting(seen: list[Words]) -> ActivationFunction:
    """A helper's answer of nothing, which keeps what it sees."""

    def answer(_plan: Plan, _step: Step, z: Words) -> Words:
        seen.append(z)
        return z * np.uint64(0)

    return answer


def test_an_attempt_goes_on_with_what_the_one_before_has_found():
    """A helper that alters a share and has the job begin another attempt, from a checkpoint after it, reads nothing."""
    job = make_job(Request("logistic", 256, (4, 3), 64, 1, 0.3, accept_narrow=True, checks=2))
    first = World(job)
    honest = first.helper.gradient_shares

    def altered(step):
        shares = honest(step)
        shares[1][0, 0] += np.uint64(2**50) if step.index == STEP_ZERO else np.uint64(0)
        return shares

    first.helper.gradient_shares = altered  # type: ignore[method-assign]
    first.run(0, stop=1)
    found = [party.digests for party in first.parties]
    assert found[0][1] != found[1][0]
    for digests, sees_garbage in ((found, True), ([None, None], False)):
        second = World(job, keyed(attempt=2), start=[party.shares() for party in first.parties])
        for i, party in enumerate(second.parties):
            projections = Projections(job.key, job.plan.checks, 2)
            party._checks = Checks(i, job.plan.checks, projections, second.masks(i, HELPER), digests[i])
        step = list(job.plan.steps())[1]
        second.ahead(step)
        seen: list[Words] = []
        second.helper._answer = noting(seen)
        second.online(step)
        top = np.abs(seen[0].view(np.int64).astype(float)) / 2.0**50 / 2**13
        # D times a column of standard deviation 1; uniform words are beyond that by the size of the ring.
        assert (np.median(top) > 0.2) or sees_garbage
        spread = np.unique(seen[0] >> np.uint64(60)).size
        assert (spread == 16) == sees_garbage or not sees_garbage


NETWORK = Request("softmax", 120, (5, 4, 3), 40, 2, 0.1, accept_narrow=True, outputs=3, checks=2,
                  network=Network((6, 4), "gelu"))  # fmt: skip


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("seed", [None, 4])
def test_a_network_is_the_oracles_and_nobody_is_blamed(label, seed):
    """In any order of delivery."""
    job = make_network_job(NETWORK, label)
    world = NetworkWorld(job, seed=seed).run(2)
    digests = [party.digests for party in world.parties]
    assert all(digests[i][j] == digests[j][i] for i, j in itertools.permutations(world.ids, 2))
    assert network_same(world.weights(), network_reference.train(world.oracle()))


def test_an_altered_share_of_a_network_is_noticed_before_its_next_layer_is_seen():
    """The helper's hidden pre-activations of the next step are uniform: they leave their range at once."""
    job = make_network_job(NETWORK, 1)
    world = NetworkWorld(job)
    honest = world.helper._deal_to

    def altered(i, step, explicit):
        words = honest(i, step, explicit).copy()
        words[0, 0] += np.uint64(2**44) if (i, step.index) == (2, STEP_ZERO) else np.uint64(0)
        return words

    world.helper._deal_to = altered  # type: ignore[method-assign]
    assert isinstance(world.helper, NetworkHelper)
    with pytest.raises(Diverged, match="a pre-activation reached") as caught:
        world.run(1)
    assert caught.value.step.index == STEP_ZERO + 1
    digests = [party.digests for party in world.parties]
    assert [(i, j) for i, j in itertools.combinations(world.ids, 2) if digests[i][j] != digests[j][i]] == [(0, 2)]


def test_nothing_is_dealt_drawn_or_sent_where_nothing_is_checked():
    """It costs nothing."""
    names: set[str] = set()

    def spy(a, b):
        masks = keyed()(a, b)

        def draw(mask, i, j, step, shape):
            names.add(mask)
            return masks(mask, i, j, step, shape)

        return draw

    job = make_job(replace(MEDIUM, checks=0))
    world = World(job, spy).run(1)
    assert names == {"U", "V", "M", "R", "m_y", "zero"}
    assert not world.received("check")
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))
