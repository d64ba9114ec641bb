"""A helper that deals wrong words for rows is found by both parties that they are for, and by nobody's opening.

`python -m tests.mpc.dealing.test_row_checks` counts in 200 jobs how many lies are found.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.dealing.row_checks import RowChecks, check_columns
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import Blind, choose_series
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.blind import train
from tests.mpc.blind.test_disclosure import Tamper, Watched, split_dealt
from tests.mpc.blind_world import BlindWorld
from tests.mpc.driver import Sent
from tests.mpc.network_world import NetworkJob, make_network_job
from tests.mpc.world import Job, keyed, make_job, same

LOGISTIC = Request("logistic", rows=24, columns=(2, 1), batch=8, epochs=2, rate=0.1, checks=2, blind=Blind(16, 16))
LIES = 1000  # one word in so many is wrong
LIE = np.uint64(1 << 58)  # it changes a score or a gradient by much
ROW_WORDS = ("c", "check c", "g", "check g")


def job_of(seed: int = 0, **changes: Any) -> Job:
    """Three steps in an epoch."""
    return make_job(replace(LOGISTIC, **changes), 1, seed)


def network_job(**changes: Any) -> NetworkJob:
    """The same of a network with two hidden layers."""
    blind = choose_series("logistic", None, None, "silu")
    return make_network_job(replace(LOGISTIC, network=Network((3, 2), "silu"), blind=blind, **changes), 1)


def agree(world: BlindWorld) -> dict[tuple[int, int], bool]:
    """Whether each two parties have found the same."""
    found = [party.digests for party in world.parties]
    return {(i, j): found[i][j] == found[j][i] for i, j in combinations(world.ids, 2)}


# --- who deals rightly


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_rightly_dealt_job_is_the_oracles_and_all_find_the_same(data):
    """Two or three parties, any number of checks, any rows and batches, any order, and any way ahead."""
    columns = data.draw(st.sampled_from([(2, 1), (1, 2, 1), (2, 0)]))
    job = make_job(
        replace(LOGISTIC, rows=data.draw(st.integers(3, 40)), batch=data.draw(st.integers(3, 20)), columns=columns,
                checks=data.draw(st.integers(0, 3)), checked=data.draw(st.sampled_from([0.0, 0.4]))),
        len(columns) - 1, data.draw(st.integers(0, 9)),
    )  # fmt: skip
    world = BlindWorld(job, seed=data.draw(st.integers(0, 99))).run(data.draw(st.integers(1, 4)))
    assert same(world.weights(), train(world.oracle()))
    assert all(agree(world).values()) if job.plan.request.checks else not any(party.digests for party in world.parties)


def test_so_is_a_networks():
    """With as many outputs of layer 0 as it has units."""
    assert all(agree(BlindWorld(network_job(columns=(1, 2, 1)), seed=3).run(2)).values())


def test_a_later_attempt_goes_on_from_what_the_one_before_has_found():
    """Digests are of all steps; check rows are others than before."""
    job = job_of(epochs=1)
    first = BlindWorld(job).run(1, stop=2)
    found = {i: dict(party.digests) for i, party in enumerate(first.parties)}
    again = BlindWorld(job, keyed(2), start=[party.shares() for party in first.parties], found=found).run(1, first=2)
    assert all(agree(again).values())
    found[0][1] = bytes(32)  # as if the helper had lied before
    lied = BlindWorld(job, keyed(2), start=[party.shares() for party in first.parties], found=found).run(1, first=2)
    assert agree(lied) == {(0, 1): False}


def test_projections_are_data_parties_own_and_check_rows_of_one_step():
    """Another key has others; a step, an epoch and an attempt have check rows of their own, and columns stay."""
    job = job_of()
    steps, masks = list(job.plan.steps()), keyed()(0, HELPER)

    def rows(key: bytes, attempt: int, step: int) -> bytes:
        return RowChecks(0, job.plan, masks, count=2, key=key, attempt=attempt)._a(steps[step]).tobytes()

    found = [rows(key, attempt, step) for key in (b"k" * 32, b"l" * 32) for attempt in (1, 2) for step in range(6)]
    assert len({*found}) == len(found)
    columns = [check_columns((2, 1), 2, key)[0].tobytes() for key in (b"k" * 32, b"l" * 32)]
    assert columns[0] != columns[1]


# --- who lies


def lying(kind: str, to: int, of: int, change: Callable[[Words], None], first: int = 2) -> Tamper:
    """The helper changes words of one kind that it deals a party for another one, in one step."""

    def lie(world: Watched, sent: Sent) -> None:
        if (sent.what, sent.step, sent.receiver) == ("dealt", first, to):
            change(split_dealt(world, sent)[kind, of])

    return lie


def one_more(words: Words) -> None:
    """The smallest lie."""
    words[-1, -1] += np.uint64(1)


def much_more(words: Words) -> None:
    """One that changes the model."""
    words[-1, -1] += LIE


@pytest.mark.parametrize("checks", [1, 2])
@pytest.mark.parametrize("kind", ROW_WORDS)
def test_one_wrong_word_is_found_by_the_two_parties_that_it_is_for(kind, checks):
    """By no other pair; a party lied to about one partner has no quarrel with the other."""
    job = job_of(columns=(2, 1, 1), checks=checks)
    world = Watched(job, tamper=lying(kind, 0, 2, one_more)).run(2)
    assert agree(world) == {(0, 1): True, (0, 2): False, (1, 2): True}


@pytest.mark.parametrize("kind", ["c", "g"])
def test_nobody_finds_it_where_nothing_is_checked(kind):
    """The model is another one then."""
    job = job_of(checks=0)
    world = Watched(job, tamper=lying(kind, 0, 1, much_more)).run(2)
    assert not any(party.digests for party in world.parties)
    assert not same(world.weights(), Watched(job).run(2).weights())


@pytest.mark.parametrize("kind", ["c", "g"])
def test_so_is_one_of_a_network(kind):
    """In any unit of layer 0."""
    world = Watched(network_job(), tamper=lying(kind, 1, 0, one_more)).run(2)
    assert agree(world) == {(0, 1): False}


def knowing(kind: str, world: Watched) -> Mapping[tuple[str, int], Words]:
    """What a helper that knows a and s adds to the check of a lie in the first word, so that nobody finds it."""
    step = list(world.job.plan.steps())[2]
    checks = RowChecks(0, world.job.plan, world.masks(0, HELPER), count=2, key=world.choice)
    weights = checks._a(step)[:, :1] if kind == "c" else checks._s[0][:1].T
    return {(f"check {kind}", 1): weights}


@pytest.mark.parametrize("kind", ["c", "g"])
def test_a_helper_that_is_told_the_combinations_gets_by_and_one_that_guesses_does_not(kind):
    """It alters a word and what that is checked by; so they must be data parties' own."""

    def lies(*, knows: bool) -> Tamper:
        def lie(world: Watched, sent: Sent) -> None:
            if (sent.what, sent.step, sent.receiver) != ("dealt", 2, 0):
                return
            dealt = split_dealt(world, sent)
            dealt[kind, 1][0, 0] += LIE
            guessed = {(f"check {kind}", 1): np.random.default_rng(1).integers(0, 2**63, (2, 1), np.uint64)}
            for place, weights in (knowing(kind, world) if knows else guessed).items():
                dealt[place] += weights * LIE

        return lie

    honest = Watched(job_of()).run(2)
    for knows in (True, False):
        world = Watched(job_of(), tamper=lies(knows=knows)).run(2)
        assert agree(world) == {(0, 1): knows}
        assert not same(world.weights(), honest.weights())


def lies_often(seed: int) -> Tamper:
    """Of all words that the helper deals by masks on rows, one in a thousand is wrong, by a power of two."""
    rng = np.random.default_rng(seed)

    def lie(world: Watched, sent: Sent) -> None:
        for (kind, _), words in split_dealt(world, sent).items() if sent.what == "dealt" else ():
            if kind in ROW_WORDS:
                wrong = rng.random(words.shape) < 1.0 / LIES
                words[wrong] += np.uint64(1) << rng.integers(0, 48, int(wrong.sum()), dtype=np.uint64)

    return lie


def is_found(seed: int) -> bool:
    """Whether two parties differ after 30 steps of 128 rows, in which some eight words are wrong."""
    job = job_of(seed, rows=1280, batch=128, epochs=3)
    return not all(agree(Watched(job, tamper=lies_often(seed)).run(1)).values())


def test_a_helper_that_deals_one_wrong_word_in_a_thousand_is_found():
    """In each job; the file says how to count it in more."""
    assert all(is_found(seed) for seed in range(3))


if __name__ == "__main__":
    print(f"{sum(is_found(seed) for seed in range(200))} of 200 jobs")
