"""What data parties receive of a network's blind training is uniform; the helper receives nothing.

As for models without hidden layers, every tensor has a mask of its own, which shifts it and nothing that comes before
it in some order. The rank of small differences over GF(2), at a random point, notices a mask that is left out or
serves twice: dealt products multiply masks, and a truncation goes by the bits of one.
"""

import itertools
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.dealing.sizes import TRUNCATIONS, BlindLayout, layer_name
from tercet.mpc.functions import series
from tercet.mpc.functions.series import Terms
from tercet.mpc.plan.architecture import Network, unpack
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tests.mpc.blind.test_disclosure import (
    Watched,
    check_helper_receives_nothing,
    forgetful,
    is_bundled,
    is_uniform,
    parts_of,
)
from tests.mpc.blind.test_disclosure import pieces as linear_pieces
from tests.mpc.driver import Sent
from tests.mpc.linear.test_disclosure import Differences, Ledger, differences_of, without
from tests.mpc.network.test_disclosure import Piece, check_covers, shifted
from tests.mpc.network_world import NetworkJob, make_network_job
from tests.mpc.world import MaskSource, keyed

Case = tuple[str, Network, tuple[int, ...], int, float]  # model, hidden layers, columns, label, l2

NETWORKS: list[Case] = [
    ("logistic", Network((2, 2), "silu"), (2, 1), 1, 0.0),
    ("linear", Network((2,), "tanh"), (1, 2, 1), 2, 0.0),
    ("poisson", Network((2, 1, 2), "gelu"), (1, 2, 1), 0, 0.1),
    ("logistic", Network((2,), "softplus"), (0, 2), 0, 0.0),
]
DEEPEST = NETWORKS[2]
SMALLEST: Case = ("logistic", Network((1, 1), "silu"), (1, 1), 1, 0.0)  # it has every kind of tensor
OWN_WORDS = ("U", "U'", "U*", "V", "P", "P*", "R", "R'", "U_y", "N", "Q")  # that all models have
LAYERED = ("t", "r", "q", "slope", "v", "weights", "error", "delta", "angles", "gradient", "product", "weights high",
           "weights top", *TRUNCATIONS)  # fmt: skip


@pytest.fixture(autouse=True)
def _short_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sine and a cosine are all that an activation has here: a rank takes a run for every word of a mask."""
    terms = Terms(0.25, (1.0,), (0.5,), 0.0)
    short = {}
    for (name, reach, _), found in series.SERIES.items():
        score = found.score and terms
        short[name, reach, 1] = replace(found, multiples=(1,), phi=terms, second=terms, score=score)
    monkeypatch.setattr(series, "SERIES", {**series.SERIES, **short})


def tiny_job(case: Case, epochs: int = 2, batch: int = 2) -> NetworkJob:
    """Two rows; a step for each epoch, or for each row."""
    model, network, columns, label, l2 = case
    request = Request(
        model, columns=columns, rows=2, batch=batch, epochs=epochs, rate=0.1, network=network, l2=l2,
        accept_narrow=True, checked=0.4, checks=1, blind=Blind(5 if model == "poisson" else 32, 1, 16, 1),
    )  # fmt: skip
    return make_network_job(request, label)


def places(layout: BlindLayout) -> dict[str, tuple[int, str, int]]:
    """Of a tensor: in its step's order, its mask, and the sign of that; a line depends on earlier lines only."""
    found = [
        [("masked inputs", "U", -1), ("check columns", "U'", -1), ("masked weights", "V", -1),
         ("loss labels", "U_y", -1), *((f"c/{k}", layer_name("weights", k), 1) for k in layout.hidden)],
        [("check rows", "U*", -1), ("c", "P", -1), ("check c", "P*", -1)],
        [(layer_name(name, k), layer_name(name, k), -1) for k in layout.hidden
         for name in ("weights high", "weights top")],
        [("score opening", "t", 1), *((f"T/{k}", layer_name("v", k), -1) for k in layout.hidden)],
        [("angles", "angles", -1)],
    ]  # fmt: skip
    for k in layout.hidden:
        above = [layer_name(name, k + 1) for name in ("score opening", "angles")]
        product = layer_name("product", k)
        found += [[(f"Q/{k}", layer_name("q", k), -1), (f"S/{k}", layer_name("slope", k), -1)]]
        found += [[(product, product, -1)], [(above[0], layer_name("t", k + 1), 1)], [(above[1], above[1], -1)]]
    found += [[("masked scores", "N", -1), ("error opening", layer_name("r", layout.output), 1)]]
    for turn, k in enumerate(reversed(layout.hidden)):
        found += [[(layer_name("gradient", k), layer_name("gradient", k), -1)]]
        found += [[(layer_name("truncation opening", turn), layer_name("error", k), 1)]]
        found += [[(layer_name(name, k), layer_name(name, k), -1) for name in TRUNCATIONS[:3]]]
        found += [[(layer_name("slope opening", turn), layer_name("delta", k), 1)]]
        found += [[(layer_name(name, k), layer_name(name, k), -1) for name in TRUNCATIONS[3:]]]
        found += [[(f"error opening/{turn + 1}", layer_name("r", k), 1)]]
    found += [[("g", "R", -1), ("check g", "R'", -1), ("loss g", "Q", 1), ("bundle key", "key", 1)]]
    return {kind: (place, mask, sign) for place, kinds in enumerate(found) for kind, mask, sign in kinds}


def split(world: Watched, sent: Sent, known: tuple[int, ...]) -> list[tuple[int, str, Words]]:
    """The tensors of a message, as `parts_of` has them."""
    if sent.what in {"dealt", "bundle key", "masked inputs", "check rows"}:
        return parts_of(world, sent, known)
    return [(sent.step, kind, words) for kind, words in split_opening(world, sent).items()]


def split_opening(world: Watched, sent: Sent) -> dict[str, Words]:
    """The tensors of a message of a data party."""
    layout, kind = world.layout, sent.what
    if kind in {"weight opening", "narrow opening"}:
        name = "c" if kind == "weight opening" else "T"
        return {f"{name}/{k}": words for (_, k), words in unpack(layout.upper_weights(name), sent.words, kind).items()}
    if kind.startswith("hidden opening"):
        k, rows = int(kind.partition("/")[2] or 0), len(sent.words) // 2
        return {f"Q/{k}": sent.words[:rows], f"S/{k}": sent.words[rows:]}
    return {kind: sent.words}


def pieces(world: Watched, coalition: tuple[int, ...]) -> list[Piece]:
    """All that comes from others, in order."""
    return linear_pieces(world, coalition, places(world.layout), split)


@pytest.mark.parametrize(
    ("case", "coalition"),
    [
        (case, coalition)
        for case in NETWORKS
        for coalition in itertools.combinations(range(len(case[2])), len(case[2]) - 1)
        if case is not DEEPEST or coalition == (0, 2)  # who is honest matters no more with more layers
    ],
)
def test_every_tensor_that_a_coalition_receives_has_a_mask_of_its_own(case, coalition):
    """Which shifts it, and shifts nothing before it: the whole view is uniform, over two steps of the first network."""
    job = tiny_job(case, 2 if case is NETWORKS[0] else 1)
    check_covers(
        pieces(Watched(job).run(1), coalition),
        lambda deltas, stop: pieces(Watched(job, shifted(deltas)).run(1, stop=stop), coalition),
        coalition,
    )


@cache
def differences() -> Differences:
    """Differences of the label party's view of two steps by the unknown masks, at a random point."""

    def view(masks: MaskSource) -> Words:
        world = Watched(tiny_job(SMALLEST, 1, batch=1), cache(masks)).run(1)
        return np.concatenate([piece.words.ravel() for piece in pieces(world, (1,))])

    return differences_of(lambda a, b: 1 in {a, b}, view)


def of_bundle(mask: str, k: int) -> str:
    """The name of a layer's mask in a training."""
    name = layer_name(mask, k)
    return f"{name}#" if is_bundled(name) else name


def test_the_rank_of_small_differences_is_full():
    """Over two steps, so that each party has the turn in which it is dealt explicit words."""
    assert differences().deficiency() == 0


@pytest.mark.parametrize("omitted", [*OWN_WORDS[:8], *LAYERED])
def test_no_mask_of_a_network_can_be_left_out(omitted):
    """The view of a coalition that knows any one kind of mask is no longer uniform."""
    assert differences().deficiency({of_bundle(omitted, k) for k in range(3)}) > 0


@pytest.mark.parametrize("reused", LAYERED)
def test_no_mask_of_a_network_can_serve_two_steps(reused):
    """A mask that forgets the step is noticed, although the model comes out right."""
    ledger = Ledger(cache(forgetful({of_bundle(reused, k) for k in range(3)})))
    Watched(tiny_job(SMALLEST, 3), ledger).run(1)
    with pytest.raises(AssertionError, match="the same word"):
        ledger.check_words()


def test_no_word_of_a_mask_is_asked_for_at_two_places():
    """In a job of three parties and two hidden layers."""
    ledger = Ledger(keyed())
    Watched(tiny_job(NETWORKS[2]), ledger).run(1)
    ledger.check_words()


def test_what_is_opened_of_hidden_layers_is_uniform():
    """Over many jobs with the same data and other masks; without masks it is not, but for scores, which keep theirs."""
    job = tiny_job(NETWORKS[0], 1)

    def opened(change: Any) -> dict[str, Words]:
        found: dict[str, list[Words]] = {}
        for n in range(16):
            sums = dict[str, Words]()
            for sent in Watched(job, change(keyed(n))).run(1).sent:  # each of two parties' shares goes to the other
                if "opening" in sent.what:
                    sums[sent.what] = sums.get(sent.what, np.uint64(0)) + sent.words
            for what, words in sums.items():
                found.setdefault(what, []).append(words.ravel())
        return {what: np.array(words) for what, words in found.items()}

    assert all(is_uniform(words) for words in opened(lambda masks: masks).values())
    names = {of_bundle(name, k) for name in ("q", "slope", "weights", "v", "error", "delta", "r") for k in range(3)}
    bare = opened(partial(without, names))
    assert {what for what, words in bare.items() if is_uniform(words)} <= {"score opening", "score opening/1",
                                                                           "score opening/2"}  # fmt: skip


@pytest.mark.parametrize("case", NETWORKS)
def test_the_helper_receives_nothing(case):
    """In a whole job of a network."""
    check_helper_receives_nothing(Watched(tiny_job(case)).run(1))
