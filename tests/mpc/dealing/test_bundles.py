"""A helper that deals wrong words is found, and no key of a bundle that is used leaves its holder.

`python -m tests.mpc.dealing.test_bundles` counts in 200 jobs how many lies are found.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.dealing.bundles import Bundle, Bundles, ChosenBundles
from tercet.mpc.dealing.received import WrongDealing
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import Blind, choose_series
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.randomness.masks import BUNDLE_KEY, BundleMasks, PairMasks
from tests.mpc.blind.test_disclosure import Tamper, Watched, pieces, split_bundles, step_of, with_weights
from tests.mpc.driver import Sent
from tests.mpc.network_world import make_network_job
from tests.mpc.world import Job, make_job, same

LOGISTIC = Request("logistic", rows=70, columns=(2, 1), batch=16, epochs=4, rate=0.1, checked=0.2, blind=Blind(16, 16))
LIES = 1000  # one word in so many is wrong


def job_of(seed: int = 0, **changes: Any) -> Job:
    """Five steps in an epoch, the last of another size."""
    return make_job(replace(LOGISTIC, **changes), 1, seed)


def chosen(plan: Plan, first: int = 0, key: bytes = b"k" * 32) -> ChosenBundles:
    """The bundles of an attempt."""
    return ChosenBundles(Bundles(plan, first), key)


def check_bundles(plan: Plan, first: int, bundles: ChosenBundles) -> None:
    """Each is dealt once, before it is used, to steps of its size; and is used once or opened once, never both."""
    dealt, used, opened = dict[int | None, int](), dict[int | None, int](), list[int | None]()
    for step in plan.steps(first):
        now = bundles.sent(step)
        assert len({bundle.turn for bundle in now}) == len(now), "two bundles in one message"
        for bundle in now:
            assert dealt.setdefault(bundle.number, step.rows) == step.rows
        found = bundles.used(step)
        assert dealt[found.number] == step.rows
        assert found.number not in used, "a bundle is used twice"
        used[found.number] = step.index
        if (one := bundles.opened(step)) is not None:
            assert one in now
            opened.append(one.number)
    assert not {*opened} & {*used}, "an opened bundle is used"
    assert {*opened} | {*used} == {*dealt}
    assert len(opened) + len(used) == len(dealt)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_each_bundle_is_used_once_or_opened(data):
    """Whatever the batches are, and wherever an attempt begins; of a group of steps one bundle is opened."""
    request = replace(
        LOGISTIC,
        columns=data.draw(st.sampled_from([(2, 1), (1, 1, 1)])),
        rows=data.draw(st.integers(3, 300)),
        batch=data.draw(st.integers(3, 120)),
        epochs=data.draw(st.integers(1, 12)),
        checked=data.draw(st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5])),
    )
    plan = make_plan(request)
    first = data.draw(st.integers(0, plan.steps_total - 1))
    bundles = chosen(plan, first, data.draw(st.binary(min_size=32, max_size=32)))
    check_bundles(plan, first, bundles)
    opened = sum(bundles.opened(step) is not None for step in plan.steps(first))
    left, group = plan.steps_total - first, int(1 / request.checked) if request.checked else 0
    assert not group <= 0 or opened == 0
    assert group == 0 or left / group <= opened <= left / group + 2


class UsesAll(ChosenBundles):
    """Forgets that a bundle was opened."""

    def used(self, step: Any) -> Bundle:
        """The one of the step's own place."""
        place = self._bundles.place(step)
        return self._bundles.bundle(place, place.position)


def test_an_opened_bundle_that_is_used_is_noticed():
    """By the check above, and by the disclosure test, whose covers would be known."""
    plan = make_plan(LOGISTIC)
    with pytest.raises(AssertionError, match="an opened bundle is used"):
        check_bundles(plan, 0, UsesAll(Bundles(plan), b"k" * 32))


def test_another_key_opens_others():
    """All places of a group are drawn about as often as each other; an attempt has a key of its own."""
    plan = make_plan(replace(LOGISTIC, rows=800, epochs=4))
    draws = Counter[int]()
    for n in range(30):
        bundles = chosen(plan, key=bytes([n]) * 32)
        draws.update((one.number or 0) // 2 % 6 for step in plan.steps() if (one := bundles.opened(step)))
    due = sum(draws.values()) / 6
    assert sum((draws[place] - due) ** 2 / due for place in range(6)) < 30.0


# --- what is found


def lying(number: int | None, name: str = "angles") -> Tamper:
    """The helper adds one to a word of one bundle."""

    def lie(world: Watched, sent: Sent) -> None:
        for bundle, tensors in split_bundles(world, sent) if sent.what == "dealt" else ():
            if bundle.number == number:
                tensors[name][0, 0] += np.uint64(1)

    return lie


@pytest.mark.parametrize("columns", [(2, 1), (1, 2, 1)])
def test_one_wrong_word_of_an_opened_bundle_is_found_and_of_a_used_one_is_not(columns):
    """By the keys of all data parties."""
    job = job_of(columns=columns, epochs=1)
    bundles = chosen(job.plan, key=b"c" * 32)
    for step in job.plan.steps():
        if (one := bundles.opened(step)) is not None:
            with pytest.raises(WrongDealing, match="does not follow from masks"):
                Watched(job, tamper=lying(one.number), by_keys=True).run(2)
    honest, used = Watched(job, by_keys=True).run(2), bundles.used(next(job.plan.steps()))
    lied = Watched(job, tamper=lying(used.number), by_keys=True).run(2)
    assert not same(lied.weights(), honest.weights())


def test_so_is_one_by_which_errors_are_weighed():
    """It would spoil the error of a row."""
    job = with_weights(job_of(epochs=1, weighted=True))
    bundles = chosen(job.plan, key=b"c" * 32)
    (opened, *_) = [one for step in job.plan.steps() if (one := bundles.opened(step))]
    with pytest.raises(WrongDealing):
        Watched(job, tamper=lying(opened.number, "weighted"), by_keys=True).run(2)
    honest, used = Watched(job, by_keys=True).run(2), bundles.used(next(job.plan.steps()))
    lied = Watched(job, tamper=lying(used.number, "weighted"), by_keys=True).run(2)
    assert not same(lied.weights(), honest.weights())


def test_so_is_one_of_a_network():
    """Any tensor of any layer."""
    network, blind = Network((2, 2), "silu"), choose_series("logistic", None, None, "silu")
    job = make_network_job(replace(LOGISTIC, rows=8, batch=8, epochs=2, network=network, blind=blind, checked=0.5), 1)
    bundles = chosen(job.plan, key=b"c" * 32)
    (opened,) = [one for step in job.plan.steps() if (one := bundles.opened(step))]
    names = set[str]()

    def naming(world: Watched, sent: Sent) -> None:
        for _, tensors in split_bundles(world, sent) if sent.what == "dealt" else ():
            names.update(tensors)

    Watched(job, tamper=naming, by_keys=True).run(1)
    assert len(names) > 20
    for name in names:

        def lie(world: Watched, sent: Sent, name: str = name) -> None:
            for bundle, tensors in split_bundles(world, sent) if sent.what == "dealt" else ():
                if bundle == opened:
                    tensors[name][-1, -1] ^= np.uint64(1)

        with pytest.raises(WrongDealing):
            Watched(job, tamper=lie, by_keys=True).run(1)


def lies_often(seed: int) -> Tamper:
    """Of all words that the helper deals of bundles, one in a thousand is wrong."""
    rng = np.random.default_rng(seed)

    def lie(world: Watched, sent: Sent) -> None:
        for _, tensors in split_bundles(world, sent) if sent.what == "dealt" else ():
            for words in tensors.values():
                wrong = rng.random(words.shape) < 1.0 / LIES
                words[wrong] += rng.integers(1, 2**63, int(wrong.sum()), dtype=np.uint64)

    return lie


def is_found(seed: int) -> bool:
    """Whether such a helper's job of 30 steps ends; the three bundles that are opened have 4,096 words each."""
    job = job_of(seed, rows=1280, batch=128, epochs=3, checked=0.1)
    try:
        Watched(job, tamper=lies_often(seed), by_keys=True, choice=bytes([1 + seed % 255]) * 32).run(1)
    except WrongDealing:
        return True
    return False


def test_a_helper_that_deals_one_wrong_word_in_a_thousand_is_found():
    """In each job; the file says how to count it in more."""
    assert all(is_found(seed) for seed in range(5))


# --- what keys tell


def reported_keys(world: Watched) -> set[tuple[int, int]]:
    """Whose key of which bundle was sent, by what the words are."""
    steps = list(world.job.plan.steps())
    numbers = {one.number: step for step in steps for one in world.bundles.sent(step) if one.number is not None}
    keys = {
        world.bundle_masks(Bundle(number, 0))[j](BUNDLE_KEY, j, j, step, (1, 4)).tobytes(): (j, number)
        for number, step in numbers.items()
        for j in world.ids
    }
    return {keys[sent.words.tobytes()] for sent in world.sent if sent.what == "bundle key"}


def check_keys(world: Watched) -> None:
    """Keys of opened bundles go to the party in turn, from each other data party; none of a bundle that is used."""
    used = {world.bundles.used(step).number for step in world.job.plan.steps()}
    reported = reported_keys(world)
    assert not {number for _, number in reported} & used, "a key of a bundle that is used was sent"
    opened = [one for step in world.job.plan.steps() if (one := world.bundles.opened(step))]
    assert reported == {(j, one.number) for one in opened for j in world.ids if j != one.turn}
    turns = {step.index: one.turn for step in world.job.plan.steps() if (one := world.bundles.opened(step))}
    assert all(sent.receiver == turns[sent.step] for sent in world.sent if sent.what == "bundle key")


@pytest.mark.parametrize("columns", [(2, 1), (1, 2, 1)])
def test_no_key_of_a_bundle_that_is_used_leaves(columns):
    """Neither to a data party nor to the helper."""
    check_keys(Watched(job_of(columns=columns), by_keys=True).run(2))


def tell_used(world: Watched, sent: Sent) -> None:
    """Send the key of the bundle that a step uses beside that of the opened one."""
    if sent.what == "bundle key":
        step = step_of(world, sent.step)
        masks = world.bundle_masks(world.bundles.used(step))[sent.sender]
        world.sent.append(sent._replace(words=masks(BUNDLE_KEY, sent.sender, sent.sender, step, (1, 4))))


def test_a_key_of_a_bundle_that_is_used_is_noticed():
    """Planted."""
    with pytest.raises(AssertionError, match="a key of a bundle that is used was sent"):
        check_keys(Watched(job_of(), tamper=tell_used, by_keys=True).run(2))


@pytest.mark.parametrize("coalition", [(0,), (1,)])
def test_an_opened_key_covers_nothing(coalition):
    """No tensor of a coalition's view is under a mask of a bundle whose key it is told."""
    world = Watched(job_of()).run(1)
    covered = [piece for piece in pieces(world, coalition) if piece.cover.mask.endswith("#")]
    keys, others = ({piece.what[0] for piece in covered if (piece.what[1] == "bundle key") is is_key}
                    for is_key in (True, False))  # fmt: skip
    assert keys
    assert others
    assert not keys & others


def pair(secret: int = 1, attempt: int = 1, purpose: str = "training") -> PairMasks:
    """Masks of one pair."""
    return PairMasks(
        bytes([secret] * 32), transcript=b"t" * 32, job=b"digest", attempt=attempt, sender="a", receiver="b",
        purpose=purpose,
    )  # fmt: skip


def words_of(masks: PairMasks | BundleMasks, name: str, number: int = 0) -> bytes:
    """Four words of a mask of a bundle."""
    step = replace(next(make_plan(LOGISTIC).steps()), position=number)
    return masks(name, 0, 0, step, (1, 4)).tobytes()


def test_a_bundles_masks_follow_from_its_key_and_from_no_other():
    """Of another bundle, pair, attempt or purpose all are others; so are names of masks."""
    made = BundleMasks(words_of(pair(), "key#"))
    assert words_of(made, "t#") == words_of(pair(), "t#")
    others = [pair(2), pair(attempt=2), pair(purpose="loss")]
    found = [words_of(one, name) for one in (pair(), *others) for name in ("key#", "t#", "t/1#", "q#", "t", "key")]
    found += [words_of(pair(), name, 1) for name in ("key#", "t#", "t", "key")]
    assert len({*found}) == len(found)


def test_keys_are_kept_of_few_bundles_and_are_the_same_again():
    """However many there are in between."""
    masks = pair()
    first = words_of(masks, "t#")
    assert len({words_of(masks, "t#", number) for number in range(200)}) == 200
    assert len(masks._bundles) < 100
    assert words_of(masks, "t#") == first


if __name__ == "__main__":
    found = sum(is_found(seed) for seed in range(200))
    print(f"{found} of 200 jobs")
