"""What each role receives gives nothing away but what is promised; and every planted omission is noticed.

The ranks are those of the view as a function of the masks that the viewer does not know: everything is affine in them
modulo 2^64, and full row rank over GF(2) makes the view exactly uniform, whatever the others hold.
"""

import itertools
from collections import defaultdict
from collections.abc import Container
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.algebra import zero_share
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference.linear import train
from tests.mpc.world import Job, MaskSource, World, keyed, make_job

TINY: dict[str, Any] = {"rows": 2, "batch": 2, "rate": 0.1, "accept_narrow": True}
MEDIUM = Request("logistic", rows=300, columns=(10, 10, 9), batch=64, epochs=2, rate=0.3)
LINKS = [MEDIUM, *(replace(MEDIUM, model=model, rate=0.02) for model in ("linear", "poisson", "gamma")),
         replace(MEDIUM, model="softmax", outputs=4, epochs=6)]  # fmt: skip
SOFTMAX = LINKS[-1]
by_link = pytest.mark.parametrize("request_", LINKS, ids=lambda one: one.model)


def without(omitted, source=None):
    """Masks of which some are left out: they read as zero."""
    source = source or keyed()

    def masks(a, b):
        pair = source(a, b)
        return lambda mask, i, j, step, shape: (
            np.zeros(shape, np.uint64) if mask in omitted else pair(mask, i, j, step, shape)
        )

    return masks


def reusing(reused, source=None):
    """Masks of which some forget the step."""
    source = source or keyed()

    def masks(a, b):
        pair = source(a, b)
        first: dict[tuple[str, int, int], Step] = {}
        return lambda mask, i, j, step, shape: pair(
            mask, i, j, first.setdefault((mask, i, j), step) if mask in reused else step, shape
        )

    return masks


# Rank


def cached(source: MaskSource) -> MaskSource:
    """The same masks, each drawn once and then not to be written to: a rank takes hundreds of runs."""

    @cache
    def words(a, b, mask, i, j, step, shape):
        draws = source(a, b)(mask, i, j, step, shape)
        draws.flags.writeable = False
        return draws

    return lambda a, b: partial(words, a, b)


def rank_gf2(rows) -> int:
    """Rank over GF(2) of a matrix of bits."""
    basis: dict[int, int] = {}
    for row in rows:
        value = int.from_bytes(np.packbits(row).tobytes())
        while value:
            lead = value.bit_length()
            if lead not in basis:
                basis[lead] = value
                break
            value ^= basis[lead]
    return len(basis)


class Vector:
    """Masks that the viewer does not know, read from one vector mu; all others stay fixed."""

    def __init__(self, known):
        self.known, self.fixed = known, cached(keyed())
        self.places: dict[Any, slice] = {}
        self.mu: Words | None = None
        self.size = 0

    def purpose(self, name):
        """The masks of another purpose, from the same mu."""
        return lambda a, b: self(a, b, name)

    def __call__(self, a, b, purpose="training"):
        fixed = self.fixed(a, b)

        def masks(mask, i, j, step, shape):
            if self.known(a, b):
                return fixed(mask, i, j, step, shape)
            key = (frozenset((a, b)), purpose, mask, i, j, step.epoch, step.position)
            size = shape[0] * shape[1]
            if key not in self.places:
                self.places[key] = slice(self.size, self.size + size)
                self.size += size
            if self.mu is None:
                return np.zeros(shape, np.uint64)
            return self.mu[self.places[key]].reshape(shape)

        return masks


SPARE = 16  # random directions beside as many as there are words: they miss a part of the rank once in 2^SPARE


def deficiency(masks: Vector, view) -> int:
    """Words of the view minus its rank in mu: in the directions of all its words, or in enough random ones."""
    base = view(masks)
    rows, enough = [], len(base) + SPARE
    directions = np.eye(masks.size, dtype=np.uint64)
    if masks.size > enough:
        directions = np.random.default_rng(2).integers(0, 2, (enough, masks.size), dtype=np.uint64)
    for direction in directions:
        masks.mu = direction
        rows.append(((view(masks) - base) & np.uint64(1)).astype(np.uint8))
    return len(base) - rank_gf2(rows)  # row and column rank are the same


class Differences(NamedTuple):
    """How the lowest bits of a view's words change with each word of mu: the name of its mask, and those bits."""

    words: int
    rows: list[tuple[str, NDArray[np.uint8]]]

    def deficiency(self, known: Container[str] = ()) -> int:
        """Words of the view minus its rank in the masks, but for those that the viewer knows."""
        return self.words - rank_gf2([row for mask, row in self.rows if mask not in known])


def differences_of(known, view) -> Differences:
    """Differences of a view by the masks of it that are not `known`, at a random point."""
    masks = Vector(known)
    view(masks)
    point = np.random.default_rng(1).integers(0, 2**64, masks.size, dtype=np.uint64)
    masks.mu = point
    base, rows = view(masks), []
    for unit in np.eye(masks.size, dtype=np.uint64):
        masks.mu = point + unit
        rows.append(((view(masks) - base) & np.uint64(1)).astype(np.uint8))
    names = [mask for (_, _, mask, *_), at in masks.places.items() for _ in range(at.start, at.stop)]
    return Differences(len(base), list(zip(names, rows, strict=True)))


def knows(coalition):
    """Whether two roles have masks that a coalition knows."""
    return lambda a, b: a in coalition or b in coalition


def missing(view, job: Job, coalition) -> int:
    """Words of a coalition's view of a job that others of it tell."""
    return deficiency(Vector(knows(coalition)), view(job, coalition))


def coalition_view(job: Job, coalition):
    """All that data parties receive together in the whole job, by its masks, the helper's answers being constant."""
    shape = (99, job.plan.request.rows, job.plan.outputs)
    answers = np.random.default_rng(0).integers(0, 2**64, shape, dtype=np.uint64)

    def view(masks):
        world = World(job, masks, answer=lambda plan, step, z: answers[step.index]).run(1)
        received = [s for s in world.sent if s.receiver in coalition and s.sender not in coalition]
        once = {(s.what, s.step, s.sender, s.receiver if s.what in "fgp" else None): s.words for s in received}
        return np.concatenate([words.ravel() for words in once.values()])

    return view


@cache
def differences(model, outputs, columns, label, coalition) -> Differences:
    """Of that view, in a tiny job."""
    job = make_job(Request(model, columns=columns, epochs=2, outputs=outputs, **TINY), label)
    return differences_of(knows(coalition), coalition_view(job, coalition))


COALITIONS = [
    (columns, label, coalition)
    for columns, label in [
        ((2, 1), 1),
        ((2, 1), 0),
        ((2, 1, 2), 2),
        ((1, 2, 1, 1), 0),
        ((0, 2), 0),
        ((2, 0, 1), 1),
    ]
    for coalition in itertools.combinations(range(len(columns)), len(columns) - 1)  # fewer parties know less
]


@pytest.mark.parametrize(("columns", "label", "coalition"), COALITIONS)
def test_what_a_coalition_of_data_parties_receives_is_uniform(columns, label, coalition):
    """All of it together, over several steps, for every coalition of all but one."""
    job = make_job(Request("linear", columns=columns, epochs=2, **TINY), label)
    assert missing(coalition_view, job, coalition) == 0


@pytest.mark.parametrize("coalition", [(0, 1), (0, 2)])  # with the label party and without it
@pytest.mark.parametrize(("model", "outputs"), [("softmax", 3), ("poisson", 1), ("gamma", 1)])
def test_what_a_coalition_receives_is_uniform_with_every_link(model, outputs, coalition):
    """With a column for each class, in a secret order; the label's offset is in what the helper alone receives."""
    job = make_job(Request(model, columns=(2, 1, 2), epochs=2, outputs=outputs, **TINY), 1)
    assert missing(coalition_view, job, coalition) == 0


@pytest.mark.parametrize("omitted", ["R", "M", "U", "V", "m_y"])
@pytest.mark.parametrize(("model", "outputs"), [("linear", 1), ("softmax", 3)])
def test_no_mask_can_be_left_out(omitted, model, outputs):
    """Without any one kind of mask the coalition's view is no longer uniform; r_ij is the one that looks spare."""
    found = differences(model, outputs, (2, 1, 2), 2, (0, 1))
    assert found.deficiency() == 0
    assert found.deficiency({omitted}) > 0


@pytest.mark.parametrize("omitted", ["R", "M", "U", "V", "m_y"])
def test_nor_where_the_label_party_has_no_columns(omitted):
    """What it lacks is a mask of nothing; every other one is needed as ever."""
    found = differences("linear", 1, (2, 0, 1), 1, (0,))
    assert found.deficiency() == 0
    assert found.deficiency({omitted}) > 0


@pytest.mark.parametrize(("model", "outputs"), [("linear", 1), ("softmax", 3), ("gamma", 1)])
def test_the_helper_sees_only_the_sum_of_the_preactivation_shares(model, outputs):
    """Given the sum, all shares but one are uniform: the rank in the zero shares' masks is that of all but one."""
    job = make_job(Request(model, columns=(3, 4, 2), epochs=2, outputs=outputs, **TINY), 1)

    def view(masks):
        world = World(job, masks).run(1)
        return np.concatenate([words.ravel() for words in world.received("z", HELPER).values()])

    check_sums(view, 2 * 2 * outputs)


def check_sums(view, sums: int) -> None:
    """Of three parties' shares nothing shows but so many sums; without zero shares all of them show."""
    found = differences_of(lambda a, b: HELPER in (a, b), view)
    without_zeros = {mask for mask, _ in found.rows if mask.partition("@")[0] == "zero"}
    assert (found.deficiency(), found.deficiency(without_zeros)) == (sums, 3 * sums)


# The helper


def stolen_rows(world: World, job: Job) -> int:
    """A helper's attack on party 1's share of the first step, when w = 0: it tries all rows of yes/no columns.

    It knows every mask between itself and the data parties, and would recognise the right row by all 64 bits.
    """
    step = next(job.plan.steps())
    masks = {i: world.masks(i, HELPER) for i in (0, 1)}
    v01, v10 = masks[1]("V", 0, 1, step, (5, 1)), masks[0]("V", 1, 0, step, (5, 1))
    u0 = masks[0]("U", 0, 0, step, (step.rows, 5))
    rows = np.array(list(itertools.product([0, 1], repeat=10)), np.uint64) << np.uint64(job.plan.fx)
    ours, theirs = rows[:, :5], rows[:, 5:]
    # z_1 = s X_1 (0 - v_10) + (s X_0 - U_0) v_01 + the zero share
    guess: dict[int, bytes] = {}
    for sign in (1, -1):
        s = np.array(sign).astype(np.uint64)
        words = s * (ours @ v01 - theirs @ v10)
        guess |= {int(word): row.tobytes() for word, row in zip(words.ravel(), rows, strict=True)}
    seen = world.received("z", HELPER)[0, 1, HELPER] + u0 @ v01
    truth = np.hstack([x[job.order.rows(step)] for x in job.xs])
    return sum(guess.get(int(word)) == row.tobytes() for word, row in zip(seen.ravel(), truth, strict=True))


def test_without_the_zero_share_the_helper_reads_the_features():
    """The planted omission gives away every row; with the zero share none."""
    job = make_job(Request("logistic", 64, (5, 5), 32, 1, 0.1, accept_narrow=True))
    bits = np.random.default_rng(3).integers(0, 2, (2, 64, 5), dtype=np.uint64) << np.uint64(job.plan.fx)
    bits[:, :, 0] = np.uint64(1 << job.plan.fx)  # no row of zeros, whose sign would be anybody's
    job = job._replace(xs=list(bits))
    assert stolen_rows(World(job, without({"zero"})).run(), job) == 32
    assert stolen_rows(World(job).run(), job) == 0


def helper_z(world: World, step: Step) -> Words:
    """What the helper puts together."""
    masks, columns, outputs = world.helper._masks, world.job.plan.columns, world.job.plan.outputs
    z = total(words for key, words in world.received("z", HELPER).items() if key[0] == step.index)
    for i in world.ids:
        u = masks[i]("U", i, i, step, (step.rows, columns[i]))
        z = z + u @ total(masks[j]("V", i, j, step, (columns[i], outputs)) for j in world.others(i))
    return z


def check_helper_view(job: Job, world: World) -> None:
    """The helper's reconstruction is exactly the signed, noised z of the batch in secret order, and nothing shows."""
    order, link, outputs = job.order, job.plan.link, job.plan.outputs
    signs, places = [], []
    for step in job.plan.steps():
        before = train(job.xs, job.y, job.plan, order, stop=step.index)
        plain = total(x[order.rows(step)] @ block for x, block in zip(job.xs, before.blocks, strict=True))
        plain = plain + np.uint64(1 << job.plan.fx) * before.intercept
        if link.offset is not None:
            plain = plain + encode(link.offset(job.y[order.rows(step)]), job.plan.fz)
        z, classes = helper_z(world, step), order.classes(step, outputs)
        noise = order.noise(step, noise_width(job.plan, step.alpha), outputs)
        assert np.array_equal(z, order.signs(step, odd=link.odd) * plain[:, classes] + noise)
        signs.append(np.sign(decode(z, job.plan.fz)) * np.sign(decode(plain, job.plan.fz)))
        places.append(classes)
        # Neither a word nor a difference of two within a row may repeat: noise must not cancel.
        for words in (noise, *np.diff(noise, axis=1).T):
            assert np.unique(words).size > 0.9 * words.size
    check_signs(signs, odd=link.odd)
    check_places(np.array(places), outputs)


def check_signs(signs, *, odd: bool) -> None:
    """Fair where they should be; at the first step z is nothing but noise, or the label's."""
    agreement = float(np.concatenate(signs[1:]).mean())
    assert not odd or abs(agreement) < 6 / sum(map(len, signs[1:])) ** 0.5


def check_places(places: NDArray[np.int64], outputs: int) -> None:
    """Each class stands in each place about as often as in any other."""
    if outputs > 1:
        share = np.array([(places == k).mean(axis=0) for k in range(outputs)])
        assert np.abs(share - 1 / outputs).max() < 4 * (outputs * len(places)) ** -0.5


@by_link
def test_the_helper_sees_the_signed_and_noised_scores_and_no_more(request_):
    """Bit for bit, at every step, with every link: of a gamma regression less the label's logarithm."""
    job = make_job(request_, label=1)
    check_helper_view(job, World(job).run(2))


class Unsigned(Order):
    """A planted mistake: no secret signs."""

    def signs(self, step, *, odd):
        return np.ones((step.rows, 1), np.uint64)


class Noiseless(Order):
    """A planted mistake: the same noise for all."""

    def noise(self, step, width, outputs=1):
        return np.zeros((step.rows, outputs), np.uint64)


class RowNoise(Order):
    """A planted mistake: one noise word for all logits of a row, which cancels in their differences."""

    def noise(self, step, width, outputs=1):
        return np.repeat(super().noise(step, width), outputs, axis=1)


class OpenClasses(Order):
    """A planted mistake: the classes in their own order."""

    def classes(self, step, outputs):
        return np.arange(outputs)


class OneOrder(Order):
    """A planted mistake: the classes in one order throughout."""

    def classes(self, step, outputs):
        return np.roll(np.arange(outputs), 1)


@pytest.mark.parametrize(
    ("request_", "order"),
    [(MEDIUM, Unsigned), (MEDIUM, Noiseless), (SOFTMAX, Noiseless), (SOFTMAX, RowNoise), (SOFTMAX, OpenClasses),
     (SOFTMAX, OneOrder)],
)  # fmt: skip
def test_missing_signs_noise_or_orders_of_classes_are_noticed(request_, order):
    """The check of the helper's view fails for each."""
    job = make_job(request_, label=1)
    job = job._replace(order=order(b"k" * 32, job.plan.request.rows))
    world = World(job).run(2)
    with pytest.raises(AssertionError):
        check_helper_view(job, world)


def test_the_helper_cannot_tell_classes_apart_by_their_place():
    """Without the order it could name every row's predicted class; with it its guess is as good as any."""

    def reported(order) -> float:
        """How often the place of the largest logit is the row's class, in the last epoch."""
        job = make_job(replace(SOFTMAX, rows=600, epochs=12), label=1)
        job = job._replace(order=order(b"k" * 32, 600))
        world, hits = World(job).run(2), []
        for step in list(job.plan.steps())[-4 * job.plan.steps_per_epoch :]:
            guess = decode(helper_z(world, step), job.plan.fz).argmax(axis=1)
            hits.append(guess == job.y[job.order.rows(step)].argmax(axis=1))
        return float(np.concatenate(hits).mean())

    assert reported(OpenClasses) > 0.7
    assert reported(Order) < 0.4


# The ledger


class Ledger:
    """Remembers which words every address gave, and who asked; `words` are shared by ledgers of other purposes."""

    def __init__(self, source, purpose=("training",), words=None):
        self.source, self.purpose = source, purpose
        self.words: dict[tuple[Any, ...], Words] = {} if words is None else words

    def __call__(self, a, b):
        masks = self.source(a, b)

        def spy(mask, i, j, step, shape):
            words = masks(mask, i, j, step, shape)
            address = (self.purpose, frozenset((a, b)), mask, i, j, step.index)
            assert np.array_equal(self.words.setdefault(address, words), words), "one address of two shapes"
            return words

        return spy

    def mask(self, holder, mask, i, j, step):
        return self.words[self.purpose, frozenset((holder, HELPER)), mask, i, j, step.index]

    def check_words(self):
        """No word is at two addresses; the first eight of each are enough."""
        seen: dict[bytes, set[Any]] = defaultdict(set)
        for address, words in self.words.items():
            for word in words.ravel()[:8]:
                seen[word.tobytes()].add(address)
        assert {len(addresses) for addresses in seen.values()} == {1}, "two addresses gave the same word"


class SpiedWorld(World):
    """Remembers the shares that masked weights are made of, which only their holder knows."""

    def post(self, kind, turn, index, way, words):
        if kind == "masked weights":
            sender, receiver = way
            self.box["w", 0, index, sender, receiver] = self.parties[sender]._partners[index][receiver]
        super().post(kind, turn, index, way, words)


def check_ledger(job: Job, source) -> None:
    """Every tensor that arrived is its value minus the mask of its address, and no two addresses share a word."""
    ledger = Ledger(source)
    world = SpiedWorld(job, ledger).run(2)
    for step in job.plan.steps():
        check_ahead(job, world, ledger, step)
        check_answers(job, world, ledger, step)
    ledger.check_words()


def check_ahead(job: Job, world: World, ledger: Ledger, step: Step) -> None:
    link, rows, label = job.plan.link, job.order.rows(step), job.label
    signs, classes = job.order.signs(step, odd=link.odd), job.order.classes(step, job.plan.outputs)
    m_y = ledger.mask(label, "m_y", label, label, step)
    for i, j in itertools.permutations(world.ids, 2):
        value = signs * job.xs[i][rows]
        assert np.array_equal(world.received("E")[step.index, i, j], value - ledger.mask(i, "U", i, i, step))
        share = world.box["w", 0, step.index, j, i][:, classes]
        assert np.array_equal(world.received("f")[step.index, j, i], share - ledger.mask(j, "V", i, j, step))
        if i == label:
            value = signs * encode(step.scale * link.target(job.y[rows]), job.plan.f)[:, classes]
            assert np.array_equal(world.received("y~")[step.index, label, j], value - m_y)


def check_answers(job: Job, world: World, ledger: Ledger, step: Step) -> None:
    m_y = ledger.mask(job.label, "m_y", job.label, job.label, step)
    activations = []
    for i in world.ids:
        dealt = total(ledger.mask(j, "M", i, j, step) for j in world.others(i))
        r = total(ledger.mask(j, "R", i, j, step) for j in world.others(i))
        known = dealt if i == job.label else dealt - m_y
        g = ledger.mask(i, "U", i, i, step).T @ known - r
        assert np.array_equal(world.received("g")[step.index, HELPER, i], g)
        activations.append(world.received("p")[step.index, HELPER, i] + dealt)
    assert all(np.array_equal(a, activations[0]) for a in activations)
    assert np.abs(decode(activations[0], job.plan.f)).max() <= step.scale * job.plan.link.least_error


@by_link
def test_every_tensor_is_its_value_minus_masks_used_once(request_):
    """Three parties, every step, every link."""
    check_ledger(make_job(request_, label=2), keyed())


@pytest.mark.parametrize("reused", ["U", "V", "M", "R", "m_y", "zero"])
@pytest.mark.parametrize("request_", [MEDIUM, SOFTMAX], ids=lambda one: one.model)
def test_a_reused_mask_is_noticed(reused, request_):
    """A mask that forgets the step fails the ledger, although the model comes out right."""
    with pytest.raises(AssertionError, match="the same word"):
        check_ledger(make_job(replace(request_, rows=150, epochs=1), label=2), reusing([reused]))


def test_zero_shares_cancel_for_any_number_of_parties():
    """And no two of them are alike."""
    masks, step = keyed(), next(make_job(MEDIUM).plan.steps())
    for n in (2, 3, 5):
        shares = [zero_share(i, {j: masks(i, j) for j in range(n) if j != i}, step, (20, 1)) for i in range(n)]
        assert not total(shares).any()
        assert all(share.all() for share in shares)
