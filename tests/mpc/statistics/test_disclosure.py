"""What each role receives in a statistics job is uniform but for what is opened; every planted omission is noticed.

A coalition's view is not affine in the masks that it does not know: dealt products multiply them, and tables are looked
up. But every tensor has a mask of its own which nothing before it in some order depends on, and by which it is shifted:
by a sum, or bit by bit. So, from the last to the first, each is uniform given those before it, whatever others hold.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import HELPER
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.checks import rounds, table_shape
from tercet.mpc.statistics.dealt import dealt_parts
from tercet.mpc.statistics.opening import WrongOpening, number_groups
from tercet.mpc.statistics.order import SecretOrder
from tercet.mpc.statistics.packing import split_words
from tercet.mpc.statistics.plan import StatisticsPlan
from tests.mpc.driver import Sent
from tests.mpc.linear.test_disclosure import cached, reusing, without
from tests.mpc.statistics.world import StatisticsJob, StatisticsWorld, make_statistics_job
from tests.mpc.world import MaskSource, keyed

CLASSES, THREE_CLASSES, AMOUNTS = (
    StatisticsPlan(
        6, 1, ((3, 1), (2,), (4,)), classes=classes, numbers=(2, 1, 1), least=1, woe=True, correlations="label",
        message_words=6 if classes else 12,
    )
    for classes in (2, 3, 0)
)  # fmt: skip
TWO = StatisticsPlan(6, 0, ((2,), (4,)), numbers=(1, 2), least=1, correlations="pairs", message_words=4)
COALITIONS = [
    (plan, coalition)
    for plan in (CLASSES, THREE_CLASSES, AMOUNTS, TWO)
    for coalition in itertools.combinations(range(len(plan.bins)), len(plan.bins) - 1)
]
OPENED = {"cell marks", "cell groups", "cells", "cell sums", "correlation share"}
"""Kinds by which something is opened: of shares and their sum a receiver knows all but one."""
OF_PASS = {"masked bins": "U", "masked targets": "V", "masked numbers": "A"}
KEYED = cached(keyed())

Address = tuple[str, int, int, int]  # of a mask: its name, i and j, and the index of its step


class Piece(NamedTuple):
    """A tensor that a coalition receives: its place in the order, its mask, and which way that is on it."""

    place: tuple[int, ...]
    address: Address
    words: Words
    way: str  # "add", "subtract" or "xor"
    part: slice = slice(None)  # columns of the mask that cover it
    lanes: int = 64  # bits of a word of the ring


@dataclass
class Shifted:
    """Masks of which one is shifted, in the columns of one piece."""

    piece: Piece | None = None
    delta: Words = field(default_factory=lambda: np.zeros((0, 0), np.uint64))
    source: MaskSource = KEYED

    def __call__(self, a: int, b: int) -> Masks:
        masks = self.source(a, b)

        def words(mask, i, j, step, shape):
            found = masks(mask, i, j, step, shape)
            piece = self.piece
            if piece is None or HELPER not in {a, b} or (mask, i, j, step.index) != piece.address:
                return found
            if max(a, b) != holder(piece.address):
                return found
            made = found.copy()
            way, delta = "xor" if piece.way == "xor" else "add", self.delta.reshape(shape[0], -1)
            made[:, piece.part] = applied(made[:, piece.part], delta, way, piece.lanes)
            return made

        return words


def holder(address: Address) -> int:
    """Which data party has a mask: the label party those of its own in a check of another's cells."""
    mask, i, j, _ = address
    return j if mask in {"S", "T", "Z"} else i


def applied(words: Words, delta: Words, way: str, lanes: int) -> Words:
    """Words with a delta on them: bit by bit, or added or subtracted, in lanes of 32 bits or as whole words."""
    a, b = (np.ascontiguousarray(each).view(f"u{lanes // 8}") for each in (words, delta))
    found: Words = (a ^ b if way == "xor" else a + b if way == "add" else a - b).view(np.uint64)
    return found


def pieces(world: StatisticsWorld, coalition: tuple[int, ...]) -> list[Piece]:
    """All that a coalition receives from others and that opens nothing, in order; once what all receive alike."""
    (honest,) = {*world.ids} - {*coalition}
    found: dict[tuple[Address, int], Piece] = {}
    for sent in world.sent:
        if sent.receiver in coalition and sent.sender not in coalition and sent.what.rsplit(" ", 1)[0] not in OPENED:
            for piece in split(world, sent, honest):
                same = found.setdefault((piece.address, piece.part.start or 0), piece)
                assert np.array_equal(same.words, piece.words)
    return sorted(found.values(), key=lambda piece: (piece.place, piece.address))


def split(world: StatisticsWorld, sent: Sent, honest: int) -> Iterator[Piece]:
    """The tensors of a message; what is dealt of a pair within the coalition follows from its own masks."""
    plan, step = world.job.plan, sent.step
    kind, turn = sent.what.rsplit(" ", 1)
    owner = honest if plan.label != honest else sent.receiver
    match kind:
        case "masked bins" | "masked targets" | "masked numbers":
            lanes = plan.word_bits if kind == "masked bins" else 64
            yield Piece((0, step), (OF_PASS[kind], honest, honest, step), sent.words, "subtract", lanes=lanes)
        case "dealt sums":
            yield from split_sums(plan, sent, honest)
        case "cell opening":
            yield Piece((2, step), ("S", owner, honest, step), sent.words, "add")
        case "cell tables":
            yield from split_tables(plan, sent, honest)
        case "gate opening":
            for n, part in enumerate(gate_parts(plan, int(turn))):
                words = sent.words[:, n * (part.stop - part.start) : (n + 1) * (part.stop - part.start)]
                yield Piece((4, step, int(turn), 0), ("Z", owner, honest, step), words, "xor", part)
        case _:
            raise AssertionError(f"nobody says what covers {kind}")


def split_sums(plan: StatisticsPlan, sent: Sent, honest: int) -> Iterator[Piece]:
    """Dealt sums of products of masks, of pairs with the honest party."""
    parts = dealt_parts(plan, sent.receiver)
    for (name, other), words in zip(parts, split_words(sent.words, parts.values()), strict=True):
        if other == honest:
            mask = ("W", honest, honest) if name == "bins" else ("G", honest, sent.receiver)
            yield Piece((1,), (*mask, sent.step), words, "subtract")


def split_tables(plan: StatisticsPlan, sent: Sent, honest: int) -> Iterator[Piece]:
    """Shares of tables, and of products of bits by round; a coalition with the label party knows the helper's."""
    if honest != plan.label:
        return
    cells = sent.words.size // (plan.tests * plan.table // 64 + plan.tests - 1)
    tables, products = split_words(sent.words, [table_shape(plan, cells), (cells, plan.tests - 1)])
    yield Piece((3, sent.step), ("T", sent.receiver, honest, sent.step), tables, "xor")
    used = 0
    for turn, pairs in enumerate(rounds(plan.tests)):
        part = slice(2 * (plan.tests - 1) + used, 2 * (plan.tests - 1) + used + pairs)
        words = products[:, used : used + pairs]
        yield Piece((4, sent.step, turn, 1), ("Z", sent.receiver, honest, sent.step), words, "xor", part)
        used += pairs


def gate_parts(plan: StatisticsPlan, turn: int) -> list[slice]:
    """Where the bits a and b of a round are in the stream of a, b and c."""
    sizes = list(rounds(plan.tests))
    start = sum(sizes[:turn])
    return [slice(first + start, first + start + sizes[turn]) for first in (0, plan.tests - 1)]


def check_covers(job: StatisticsJob, coalition: tuple[int, ...], source: Callable[[MaskSource], MaskSource]) -> None:
    """Each piece's mask, unknown to the coalition, shifts it and nothing before it."""
    rng = np.random.default_rng(0)
    base = pieces(StatisticsWorld(job, source(Shifted())).run(), coalition)
    addresses = [(piece.address, piece.part.start) for piece in base]
    assert len({*addresses}) == len(addresses)
    assert base
    for n, piece in enumerate(base):
        assert holder(piece.address) not in coalition
        most = 2 if piece.address[0] == "Z" else 2**64  # one bit of a word
        delta = rng.integers(1 % most, most, piece.words.shape, dtype=np.uint64)
        view = pieces(StatisticsWorld(job, source(Shifted(piece, delta))).run(), coalition)
        for before, now in zip(base[:n], view, strict=False):
            assert np.array_equal(before.words, now.words), (piece.address, "shifts", before.address)
        assert np.array_equal(view[n].words, applied(piece.words, delta, piece.way, piece.lanes)), piece.address


@cache
def job_of(plan: StatisticsPlan) -> StatisticsJob:
    """Rows for a plan."""
    return make_statistics_job(plan)


@pytest.mark.parametrize(("plan", "coalition"), COALITIONS)
def test_every_tensor_that_a_coalition_receives_has_a_mask_of_its_own(plan, coalition):
    """Which shifts it, and shifts nothing before it: the whole view is uniform but for what is opened."""
    check_covers(job_of(plan), coalition, lambda source: source)


MASKS = ["U", "V", "W", "A", "G", "S", "T", "Z"]


def is_noticed(plan: StatisticsPlan, source: Callable[[MaskSource], MaskSource]) -> bool:
    """Whether the view of some coalition is no longer covered, although the job comes out right."""
    for coalition in itertools.combinations(range(len(plan.bins)), len(plan.bins) - 1):
        try:
            check_covers(job_of(plan), coalition, source)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("mask", MASKS)
def test_no_mask_can_be_left_out(mask):
    """Neither W nor G, which look spare; nor any other."""
    assert is_noticed(THREE_CLASSES, partial(without, {mask}))


@pytest.mark.parametrize("mask", ["U", "V", "A", "S", "T", "Z"])
def test_no_mask_can_serve_two_steps(mask):
    """One that forgets the step is noticed."""
    assert is_noticed(TWO, partial(reusing, {mask}))


@pytest.mark.parametrize("plan", [CLASSES, THREE_CLASSES, AMOUNTS, TWO])
def test_the_helper_receives_nothing(plan):
    """In a whole job, with correlations."""
    world = StatisticsWorld(job_of(plan)).run()
    assert {sent.receiver for sent in world.sent} == {*world.ids}


# What is opened


class InOrder(SecretOrder):
    """A given order of one column's bins."""

    def __init__(self, cells: tuple[int, ...]) -> None:
        self.starts = np.zeros(1, np.int64)
        self.cells = np.array(cells)


def seen(rows: tuple[int, ...], groups: tuple[int, ...]) -> Counter[tuple[tuple[int, ...], ...]]:
    """What the label party may see of a column, over all secret orders: groups in place, and rows of each."""
    plan, found = StatisticsPlan(6, 0, ((), (len(rows),))), Counter[tuple[tuple[int, ...], ...]]()
    for cells in itertools.permutations(range(len(rows))):
        order = InOrder(cells)
        numbers = number_groups(plan, 1, order, [groups])[:, 0]
        added = np.bincount(numbers[order.cells].astype(np.int64), weights=rows)
        found[tuple(numbers.tolist()), tuple(added.astype(np.int64).tolist())] += 1
    return found


@pytest.mark.parametrize(
    ("rows", "groups", "other_rows", "other_groups"),
    [
        ((5, 7, 9), (0, 1, 2), (9, 5, 7), (0, 1, 2)),
        ((5, 7, 9, 2), (0, 1, 2, 2), (2, 9, 5, 7), (0, 0, 1, 2)),
        ((5, 7, 9, 2), (0, 1, 0, 1), (9, 5, 7, 2), (0, 0, 1, 1)),
    ],
)
def test_the_order_of_opened_cells_says_nothing_of_the_order_of_bins(rows, groups, other_rows, other_groups):
    """Over all secret orders the label party sees the same as often, whichever bins the cells are."""
    assert seen(rows, groups) == seen(other_rows, other_groups)


def test_groups_that_go_by_the_owners_order_would_say_it(monkeypatch):
    """So the comparison would notice."""
    monkeypatch.setattr(np, "argsort", lambda words: np.arange(len(words)))
    assert seen((5, 7, 9), (0, 1, 2)) != seen((9, 5, 7), (0, 1, 2))


def test_every_secret_order_is_as_likely():
    """Of three bins each of six orders; each column has one of its own."""
    count = 600
    orders = [SecretOrder((3, 3), int(n).to_bytes(32)).cells for n in range(1, count + 1)]
    for column in (slice(0, 3), slice(3, 6)):
        found = Counter(tuple(order[column].tolist()) for order in orders)
        assert len(found) == 6
        assert sum((n - count / 6) ** 2 / (count / 6) for n in found.values()) < 5 + 6 * 10**0.5
    assert len({tuple(order.tolist()) for order in orders}) == 36


def largest_opened(plan: StatisticsPlan) -> int:
    """Of all words of shares of sums that are opened, whether or not they are refused."""
    world = StatisticsWorld(job_of(plan))
    with suppress(WrongOpening):
        world.run()
    words = {"cells 0": slice(1, None), "cell sums 0": slice(None)}
    return max(int(sent.words[:, words[sent.what]].max()) for sent in world.sent if sent.what in words)


def test_no_bit_beyond_the_ring_leaves_a_party(monkeypatch):
    """Of shares modulo 2^32 the higher bits are no shares: they follow from carries of masks."""
    assert largest_opened(CLASSES) < 2**32
    monkeypatch.setattr(StatisticsPlan, "reduce", lambda _, words: words)
    assert largest_opened(CLASSES) >= 2**32
