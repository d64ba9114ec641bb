"""What each role receives of a network's training gives nothing away but what is promised; omissions are noticed.

A coalition's view is not affine in the masks that it does not know, as in linear models: dealt products multiply them,
and a truncation goes by the bits of one. But every tensor has a mask of its own which nothing that comes before it in
some order depends on, and by which it is shifted. So, from the last to the first, each is uniform given those before
it, whatever the others hold: the view is exactly uniform. `test_every_tensor_...` follows that order, and the rank of
small differences over GF(2), taken at random points, notices every mask that is left out.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.architecture import Entry, Layout, Network, unpack
from tercet.mpc.plan.plan import Request
from tests.mpc.driver import Sent
from tests.mpc.linear.test_disclosure import TINY, Differences, cached, differences_of
from tests.mpc.network_world import NetworkJob, NetworkWorld, make_network_job
from tests.mpc.passes import NetworkPass
from tests.mpc.world import MaskSource, keyed

KEYED = cached(keyed())

# What a coalition receives, tensor by tensor


class Cover(NamedTuple):
    """The mask of a tensor: of whom and the helper, and which sign it has."""

    holder: int
    mask: str
    i: int
    j: int
    sign: int = -1


class Piece(NamedTuple):
    """A tensor, its place in the order in which each is uniform given those before it, and its mask."""

    place: tuple[int, int]
    what: tuple[Any, ...]
    words: Words
    cover: Cover

    @property
    def address(self) -> tuple[Any, ...]:
        """Of the mask: step, holder, name, i and j."""
        return (self.what[0], *self.cover[:4])


FIRST, BACK, LAST = 0, 1, 2  # parts of a step
BACKWARDS = {"error opening", "truncation opening", "slope opening"}  # from the last layer to the first
KINDS: list[tuple[int, str]] = [  # by part, in order; those of a line depend on earlier lines only
    (FIRST, "masked inputs, masked labels, masked weights, hidden answer"),
    (FIRST, "mask openings, G, c"),
    (FIRST, "C, qg, hw, tw"),
    (FIRST, "T"),
    (FIRST, "output answer"),
    (BACK, "error opening"),
    (BACK, "ov, qo"),
    (BACK, "truncation opening"),
    (BACK, "h, t, ht, tt"),
    (BACK, "slope opening"),
    (BACK, "h2, t2"),
    (LAST, "masked error"),
    (LAST, "g"),
]
PLACES = {kind: (part, place) for place, (part, kinds) in enumerate(KINDS) for kind in kinds.split(", ")}


@dataclass
class View:
    """All that data parties of a coalition receive from others, in pieces."""

    world: NetworkWorld
    coalition: tuple[int, ...]

    def pieces(self, messages: list[Sent] | None = None) -> list[Piece]:
        """In order; what several of them receive alike is there once."""
        found: dict[tuple[Any, ...], Piece] = {}
        for sent in self.world.sent if messages is None else messages:
            if sent.receiver in self.coalition and sent.sender not in self.coalition:
                for piece in self._split(sent):
                    found.setdefault(piece.what, piece)
                    assert np.array_equal(found[piece.what].words, piece.words)
        return sorted(found.values(), key=lambda piece: (piece.place, str(piece.what)))

    def _split(self, sent: Sent) -> list[Piece]:
        """The tensors of one message."""
        kind, turn = sent.what.rsplit(" ", 1)
        cover = self._cover(sent, kind, self.layout.last - int(turn))
        if cover:
            own = sent.receiver if kind in {"masked weights", "masked error"} else HELPER
            layer = self.layout.last - int(turn) if kind in BACKWARDS else 0
            return [self._piece(sent, kind, own, sent.words, cover, layer)]
        if kind == "hidden answer":
            return [
                self._piece(sent, kind, (turn, name), row[np.newaxis], self._of_helper(f"{name}/{turn}"))
                for name, row in zip(self.answers, sent.words, strict=True)
            ]
        return [
            self._piece(sent, kind if kind in PLACES else name, (name, k), words, self._part(sent, kind, name, k), k)
            for (name, k), words in unpack(self._entries(sent, kind), sent.words, kind).items()
        ]

    @property
    def layout(self) -> Layout:
        """Of the network."""
        return self.world.parties[0].layout

    @property
    def answers(self) -> tuple[str, ...]:
        """Masks of the rows of a hidden answer."""
        return ("u+", "tau") if self.layout.activation.kappa is None else ("u+", "u-", "tau")

    def _of_helper(self, mask: str) -> Cover:
        """The share that some data party outside has of a mask that only the helper has whole."""
        honest = next(i for i in self.world.ids if i not in self.coalition)
        return Cover(honest, mask, honest, honest)

    def _cover(self, sent: Sent, kind: str, back: int) -> Cover | None:
        """Of a message that is one tensor."""
        j, to = sent.sender, sent.receiver
        return {
            "masked inputs": Cover(j, "U", j, j),
            "masked labels": Cover(j, "m_y", j, j),
            "masked weights": Cover(j, "V", to, j),
            "masked error": Cover(j, "S", to, j),
            "output answer": self._of_helper(f"m/{self.layout.last}"),
            "error opening": Cover(j, f"o/{back}", j, j),
            "truncation opening": Cover(j, f"rd/{back}", j, j, 1),
            "slope opening": Cover(j, f"rs/{back}", j, j, 1),
        }.get(kind)

    def _entries(self, sent: Sent, kind: str) -> tuple[Entry, ...]:
        """Of a message that is several."""
        layout, plan = self.layout, self.world.job.plan
        rows = list(plan.steps())[sent.step].rows
        return {
            "mask openings": layout.openings(rows),
            "weight opening": layout.weights("G", "c"),
            "narrow opening": layout.weights("T"),
            "dealt": layout.dealt_to(max(sent.receiver, 0), rows, smooth=plan.smooth, checks=plan.checks),
        }[kind]

    def _part(self, sent: Sent, kind: str, name: str, k: int) -> Cover:
        """Of one of several."""
        if kind == "dealt":
            honest = self._of_helper(f"dealt {name}/{k}")
            return honest._replace(mask="R", i=sent.receiver) if name == "g" else honest
        mask, sign = {"D": ("q", -1), "G": ("g", -1), "c": ("rw", 1), "T": ("v", -1)}[name]
        return Cover(sent.sender, f"{mask}/{k}", sent.sender, sent.sender, sign)

    def _piece(self, sent: Sent, name: str, item: Any, words: Words, cover: Cover, layer: int = 0) -> Piece:
        part, place = PLACES[name]
        turn = self.layout.last - layer if part == BACK else 0
        what = (sent.step, name, item, layer, sent.sender, sent.receiver if name == "g" else HELPER)
        return Piece((sent.step, part * 1000 + turn * 100 + place), what, words, cover)


class ScoringView(View):
    """The same of a pass of scoring: without slopes, and without anything that goes back."""

    passing: NetworkPass

    @property
    def answers(self) -> tuple[str, ...]:
        return super().answers[:-1]

    def _entries(self, sent: Sent, kind: str) -> tuple[Entry, ...]:
        rows = self.passing.steps[sent.step].rows
        return {
            "mask openings": self.layout.openings(rows),
            "weight opening": self.layout.weights("G"),
            "dealt": self.layout.dealt_forward(rows),
        }[kind]


def shifted(deltas: dict[tuple[Any, ...], Words], source_of: MaskSource | None = None):
    """Masks of which some are shifted: by (step, holder, mask, i, j)."""
    source_of = source_of or KEYED

    def source(a, b):
        masks, holder = source_of(a, b), max(a, b)
        if HELPER not in {a, b}:
            return masks

        def words(mask, i, j, step, shape):
            found = masks(mask, i, j, step, shape)
            delta = deltas.get((step.index, holder, mask, i, j))
            return found if delta is None else found + delta.reshape(shape)

        return words

    return source


NETWORKS = [
    ("softmax", 3, Network((2, 2), "gelu"), (2, 1), 1, 0.0),
    ("softmax", 3, Network((2,), "relu"), (1, 2, 1), 2, 0.0),
    ("logistic", 1, Network((2, 1, 2), "tanh"), (1, 2, 1), 0, 0.1),
    ("poisson", 1, Network((1, 2), "leaky-relu"), (1, 1, 1, 1), 1, 0.0),
    ("linear", 1, Network((2, 2), "relu"), (2, 1), 0, 0.2),
    ("logistic", 1, Network((2,), "relu"), (0, 2), 0, 0.0),
    ("softmax", 3, Network((2,), "tanh"), (1, 2, 0), 2, 0.0),
]
COALITIONS = [
    (network, coalition)
    for network in NETWORKS
    for coalition in itertools.combinations(range(len(network[3])), len(network[3]) - 1)
    if len(coalition) < 3 or coalition in {(0, 1, 2), (0, 2, 3)}  # with the label party, and without it
]


def tiny_job(network, epochs: int = 2) -> NetworkJob:
    """Two rows, and a step for each epoch."""
    model, outputs, hidden, columns, label, l2 = network
    request = Request(model, columns=columns, epochs=epochs, outputs=outputs, network=hidden, l2=l2, **TINY)
    return make_network_job(request, label)


def check_covers(
    base: list[Piece], again: Callable[[dict[tuple[Any, ...], Words], int], list[Piece]], coalition
) -> None:
    """Each piece's mask, unknown to the coalition, shifts it and nothing before it.

    `again` gives the view with shifted masks, of steps before a number at least: what comes later is not looked at.
    """
    rng = np.random.default_rng(0)
    assert len({piece.address for piece in base}) == len(base)
    assert not any(piece.cover.holder in coalition for piece in base)
    for place, group in itertools.groupby(enumerate(base), key=lambda at: at[1].place):
        numbered = list(group)
        deltas = {piece.address: rng.integers(0, 2**64, piece.words.shape, dtype=np.uint64) for _, piece in numbered}
        view = again(deltas, place[0] + 1)
        for before, now in zip(base[: numbered[0][0]], view, strict=False):
            assert np.array_equal(before.words, now.words), (place, "shifts", before.what)
        for n, piece in numbered:
            delta = deltas[piece.address]
            due = piece.words + delta if piece.cover.sign == 1 else piece.words - delta
            assert np.array_equal(view[n].words, due), piece.what


@pytest.mark.parametrize(("network", "coalition"), COALITIONS)
def test_every_tensor_that_a_coalition_receives_has_a_mask_of_its_own(network, coalition):
    """Which shifts it, and shifts nothing before it: the whole view is uniform, of two parties over two steps."""
    job = tiny_job(network, 2 if len(network[3]) == 2 else 1)
    check_covers(
        View(NetworkWorld(job).run(1), coalition).pieces(),
        lambda deltas, stop: View(NetworkWorld(job, shifted(deltas)).run(1, stop=stop), coalition).pieces(),
        coalition,
    )


@pytest.mark.parametrize("coalition", [(0,), (1,), (0, 2), (1, 2)])
def test_so_has_every_tensor_of_a_pass_of_scoring_but_the_scores(coalition):
    """Over two batches."""
    world = NetworkWorld(tiny_job(("softmax", 3, Network((2, 2), "gelu"), (1, 2, 1), 2, 0.0))).run(1)
    shares = [party.shares() for party in world.parties]
    xs = [np.repeat(x, 33, axis=0) for x in world.job.xs]

    def pieces(deltas: dict[tuple[Any, ...], Words], _stop: int = 0) -> list[Piece]:
        passing = NetworkPass(world.job, shares, xs, batch=33, masks=shifted(deltas, keyed(purpose="validation")))
        passing.run()
        view = ScoringView(world, coalition)
        view.passing = passing
        return view.pieces([sent for sent in passing.sent if sent.what != "scores 0"])

    check_covers(pieces({}), pieces, coalition)


SMALLEST = ("logistic", 1, Network((1, 2), "gelu"), (1, 1), 1, 0.0)  # it has every kind of tensor


@cache
def differences() -> Differences:
    """Differences of the view that party 0 has of one step by the unknown masks, at a random point."""

    def view(masks: MaskSource) -> Words:
        world = NetworkWorld(tiny_job(SMALLEST), masks).run(1, stop=1)
        return np.concatenate([piece.words.ravel() for piece in View(world, (0,)).pieces()])

    return differences_of(lambda a, b: 0 in {a, b}, view)


def test_the_rank_of_small_differences_is_full():
    """At a random point, for the party that gets dealt words."""
    assert differences().deficiency() == 0


DEALT = ("C", "qg", "h", "t", "ht", "tt", "h2", "t2", "qo", "hw", "tw", "ov")
LAYERED = ("u+", "u-", "tau", "q", "g", "v", "rw", "rd", "rs", "o", "m", *(f"dealt {name}" for name in DEALT))


@pytest.mark.parametrize("omitted", ["U", "V", "S", "R", "m_y", *LAYERED])
def test_no_mask_of_a_network_can_be_left_out(omitted):
    """The view of a coalition that knows any one kind of mask is no longer uniform."""
    names = {omitted} if omitted not in LAYERED else {f"{omitted}/{k}" for k in range(2)}
    assert differences().deficiency(names) > 0
