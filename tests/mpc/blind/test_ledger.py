"""Every tensor of a blind training is its plain value and the mask of its address; no mask meets two values.

What the masks are is read from a ledger of all that were asked for. Plain values are the oracle's, and the shares that
follow from them and from the masks.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.dealing.activation import dealt_words
from tercet.mpc.dealing.row_checks import RowChecks, check_columns
from tercet.mpc.dealing.sizes import series_of
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.functions.series import Series
from tercet.mpc.functions.trigonometry import rotations
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.blind import StepBits, angle_unit, choose_series, relative_norm, step_bits
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.reference.blind import train
from tercet.mpc.reference.linear import Weights
from tests.mpc.blind.test_disclosure import (
    MASKS,
    OF_WEIGHTS,
    Watched,
    forgetful,
    is_bundled,
    split_bundles,
    split_dealt,
    with_weights,
)
from tests.mpc.blind_world import CosSin, evaluate, factors
from tests.mpc.driver import Sent
from tests.mpc.linear.test_disclosure import Ledger
from tests.mpc.world import Job, MaskSource, keyed, make_job, same

TRAINING = {"masked inputs", "check rows", "masked weights", "dealt", "score opening", "error opening"}
LOSS = {"loss labels", "masked scores"}
WEIGHTS = {"row weights", "unweighted errors"}
KEYS = {"bundle key"}


def job_of(model: str, *, weighted: bool = False) -> Job:
    """Three batches, twice."""
    blind = choose_series(model, None, None, power=1.5 if model == "tweedie" else 0.0)
    outputs = 3 if model == "one-vs-rest" else 1
    request = Request(model, 96, (3, 2, 3), 32, 2, 0.1, l2=0.01, outputs=outputs, blind=blind, checked=0.4, checks=2)
    job = make_job(replace(request, weighted=weighted), label=2)
    return with_weights(job) if weighted else job


@dataclass
class Book:
    """A job step by step: what was sent, the masks, the model, and the shares that follow from these."""

    world: Watched
    ledger: Ledger
    model: Weights
    step: Step
    u: list[Words]  # masks of all rows
    checks: list[Words]  # and of their check columns
    u_y: Words  # and of all labels for the loss
    shares: dict[tuple[int, int], Words]  # party j's of block i, by (i, j)
    intercepts: dict[int, Words]  # of all but the label party
    explicit: dict[int | None, dict[str, Words]] = field(default_factory=dict)  # by bundle
    products: dict[int, Words] = field(default_factory=dict)  # shares of those that weigh the step's errors

    @property
    def plan(self) -> Plan:
        """The job's numbers."""
        return self.world.job.plan

    @property
    def series(self) -> Series:
        """By which the activation is evaluated."""
        return series_of(self.plan)

    @property
    def unit(self) -> np.uint64:
        """Of an angle."""
        return angle_unit(self.step.alpha, self.plan.fz, self.series.period)

    @property
    def bits(self) -> StepBits:
        """Of the step's factors."""
        return step_bits(self.step.least, self.plan.f - self.plan.factor_bits, relative_norm(self.series))

    @property
    def labels(self) -> RowLabels:
        """Of the batch."""
        return self.world.oracle().labels[self.world.order.rows(self.step)]

    def sent(self, kind: str) -> list[Sent]:
        """The step's messages of a kind."""
        return [sent for sent in self.world.sent if (sent.what, sent.step) == (kind, self.step.index)]

    def broadcast(self, kind: str) -> dict[int, Words]:
        """By sender; each other data party is sent it once, and all of them the same."""
        found: dict[int, Words] = {}
        sent = self.sent(kind)
        assert Counter((s.sender, s.receiver) for s in sent) == Counter(permutations(self.world.ids, 2))
        assert all(np.array_equal(found.setdefault(s.sender, s.words), s.words) for s in sent)
        return found

    def opened(self, z: Words) -> CosSin:
        """Cosines and sines of the multiples of the masked angles."""
        return rotations(z * self.unit + self.angle_mask(), self.series.multiples)

    def mask(self, j: int, name: str, i: int | None = None) -> Words:
        """Party j's, for block i; of the bundle that the step uses, if it is of one."""
        step = self.step
        if is_bundled(name):
            number = self.world.bundles.used(step).number
            assert number is not None
            name, step = f"{name}#", replace(step, index=number)
        words: Words = self.ledger.mask(j, name, j if i is None else i, j, step)
        return words

    def others(self, i: int) -> list[int]:
        """All data parties but this one."""
        return [j for j in self.world.ids if j != i]

    def inputs(self) -> tuple[list[Words], list[Words]]:
        """Features of the batch, and their masks."""
        rows = self.world.order.rows(self.step)
        return [x[rows] for x in self.world.job.xs], [u[rows] for u in self.u]

    def angle_mask(self, *_: Any) -> Words:
        """t: all words of it."""
        return total(self.mask(j, "t") for j in self.world.ids)


def check_ledger(job: Job, source: MaskSource) -> None:
    """Every tensor is its value and the masks of its address, and no two addresses share a word."""
    ledger = Ledger(source)
    world = Watched(job, ledger).run(2)
    zeros = [np.zeros((x.shape[1], job.plan.outputs), np.uint64) for x in job.xs]
    intercept = np.zeros((1, job.plan.outputs), np.uint64)
    steps = list(job.plan.steps())
    book = Book(
        world, ledger, Weights(tuple(zeros), intercept), steps[0], [np.zeros_like(x) for x in job.xs],
        [np.zeros((len(x), job.plan.request.checks), np.uint64) for x in job.xs],
        np.zeros((len(job.y), job.plan.loss_columns), np.uint64),
        {(i, j): zeros[i] for i, j in permutations(world.ids, 2)},
        {j: intercept for j in world.ids if j != job.label},
    )  # fmt: skip
    for book.step in steps:
        check_ahead(book)
        dealt = check_dealt(book)
        check_check_rows(book)
        z = check_score(book)
        check_error(book, dealt, z)
        check_loss(book, dealt, z)
        take_step(book)
    assert {sent.what for sent in world.sent} == TRAINING | LOSS | KEYS | (WEIGHTS if job.plan.factor_bits else set())
    assert same(world.weights(), book.model)
    ledger.check_words()


def check_ahead(book: Book) -> None:
    """Masked inputs once for each row, masked weights at every step."""
    plan = book.plan
    s = check_columns(plan.columns, plan.request.checks, book.world.choice)
    if book.step.epoch == 0:
        rows = book.world.order.rows(book.step)
        for i, words in book.broadcast("masked inputs").items():
            book.u[i][rows], book.checks[i][rows] = book.mask(i, "U"), book.mask(i, "U'")
            x = book.world.job.xs[i][rows]
            assert np.array_equal(words + np.hstack([book.mask(i, "U"), book.mask(i, "U'")]), np.hstack([x, x @ s[i]]))
    else:
        assert not book.sent("masked inputs")
    sent = {(s.receiver, s.sender): s.words for s in book.sent("masked weights")}
    assert sent.keys() == book.shares.keys()
    for (i, j), words in sent.items():
        assert np.array_equal(words + book.mask(j, "V", i), book.shares[i, j])


def check_dealt(book: Book) -> dict[int, Words]:
    """c, g and explicit words; returns each party's share of cos and sin of t."""
    _, u = book.inputs()
    used = book.world.bundles.used(book.step)
    shares = {j: book.mask(j, "angles") for j in book.others(used.turn)}
    assert Counter(sent.receiver for sent in book.sent("dealt")) == Counter(book.world.ids)
    for sent in book.sent("dealt"):
        i, parts = sent.receiver, split_dealt(book.world, sent)
        for j in book.others(i):
            check_row_words(book, i, j, u[i], parts)
        assert (parts["loss g", i].size > 0) == (i == book.world.job.label)
        for bundle, tensors in split_bundles(book.world, sent):
            assert (i, {*tensors}) == (bundle.turn, {"angles", *(["weighted"] if book.plan.factor_bits else [])})
            book.explicit[bundle.number] = tensors
    explicit = book.explicit.pop(used.number)
    shares[used.turn] = explicit["angles"]
    if book.plan.factor_bits:
        check_products(book, used.turn, explicit["weighted"])
    due = dealt_words(book.angle_mask(), book.series, book.bits.dealt)
    assert np.array_equal(total(shares.values()), due.reshape(shares[used.turn].shape))
    return {j: words.reshape(due.shape) for j, words in shares.items()}


def check_products(book: Book, turn: int, explicit: Words) -> None:
    """The mask of weights, or of labels, times those of what they multiply at all other parties, in shares."""
    label = book.world.job.label
    book.products = {j: book.mask(j, "weighted") for j in book.others(turn)} | {turn: explicit}
    errors = total(book.mask(j, "unweighted") for j in book.others(label))
    assert np.array_equal(total(book.products.values()), weighed(book.mask(label, "row weight"), errors))


def weighed(factors_: Words, functions: Words) -> Words:
    """Each factor of a row times its function, of all outputs, added up."""
    width = functions.shape[1] // factors_.shape[1]
    return total(factors_[:, k : k + 1] * functions[:, k * width : (k + 1) * width] for k in range(factors_.shape[1]))


def weigh(book: Book, shares: dict[int, Words]) -> dict[int, Words]:
    """Weights under a mask, shares of errors under others, and shares of weighed errors that follow from both."""
    label, multiplied = book.world.job.label, book.labels.factors
    assert multiplied is not None
    known = encode(multiplied, book.plan.factor_bits)
    masked, sent = book.sent("row weights"), book.sent("unweighted errors")
    assert [(s.sender, s.receiver) for s in masked] == [(label, j) for j in book.others(label)]
    assert {(s.sender, s.receiver) for s in sent} == {(j, label) for j in book.others(label)}
    assert all(np.array_equal(s.words + book.mask(label, "row weight"), known) for s in masked)
    assert all(np.array_equal(s.words + book.mask(s.sender, "unweighted"), shares[s.sender]) for s in sent)
    found = {s.receiver: weighed(s.words, book.mask(s.receiver, "unweighted")) for s in masked}
    found[label] = weighed(known, total([shares[label], *(s.words for s in sent)]))
    return {j: words + book.products[j] for j, words in found.items()}


def check_row_words(book: Book, i: int, j: int, u: Words, dealt: Mapping[tuple[str, int], Words]) -> None:
    """c_ij and g_ij, and those of check rows and check columns."""
    checks, v, r = book.checks[i], book.mask(j, "V", i), book.mask(j, "r")
    assert np.array_equal(dealt["c", j] + book.mask(j, "P", i), u @ v)
    assert np.array_equal(dealt["check c", j] + book.mask(j, "P*", i), book.mask(i, "U*") @ v)
    assert np.array_equal(dealt["g", j] + book.mask(j, "R", i), -(u.T @ r))
    assert np.array_equal(
        dealt["check g", j] + book.mask(j, "R'", i), -(checks[book.world.order.rows(book.step)].T @ r)
    )


def check_check_rows(book: Book) -> None:
    """One random combination of the batch's rows, the same of all parties, under masks of its own."""
    (x, _), world, step, count = book.inputs(), book.world, book.step, book.plan.request.checks
    last = step.index - step.position + book.plan.steps_per_epoch - 1  # with which those of an epoch are sent
    a = RowChecks(0, book.plan, world.masks(0, HELPER), count=book.plan.request.checks, key=world.choice)._a(book.step)
    found = [sent for sent in world.sent if (sent.what, sent.step) == ("check rows", last)]
    assert Counter((s.sender, s.receiver) for s in found) == Counter(permutations(world.ids, 2))
    for sent in found:
        i, words = sent.sender, sent.words[step.position * count : (step.position + 1) * count]
        assert np.array_equal(words + book.mask(i, "U*"), a @ x[i])


def check_score(book: Book) -> Words:
    """Shares of unit z + t, and their sum, which is opened; returns z."""
    (x, u), ids, label = book.inputs(), book.world.ids, book.world.job.label
    column = encode_number(1.0 / book.step.alpha, book.plan.fx)
    intercepts = book.intercepts | {label: book.model.intercept - total(book.intercepts.values())}
    z, opened = book.model.intercept * column, book.broadcast("score opening")
    for i in ids:
        weights = book.model.blocks[i]
        known = weights - total(book.mask(j, "V", i) for j in book.others(i))
        share = x[i] @ known + total((x[j] - u[j]) @ book.mask(i, "V", j) for j in book.others(i))
        share = share + total(u[i] @ book.mask(j, "V", i) - book.mask(j, "P", i) for j in book.others(i))
        share = share + total(book.mask(i, "P", j) for j in book.others(i)) + intercepts[i] * column
        z = z + x[i] @ weights
        if i == label:
            share, z = share + offset(book), z + offset(book)
        assert np.array_equal(opened[i], share * book.unit + book.mask(i, "t"))
    assert np.array_equal(total(opened.values()), z * book.unit + book.angle_mask())
    return z


def offset(book: Book) -> Words:
    """The label party's term of a score, where the link has one."""
    link, y = book.plan.link, book.labels.y
    words: Words = np.zeros_like(y, np.uint64)
    return words if link.offset is None else encode(link.offset(y) / book.step.alpha, book.plan.fz)


def check_error(book: Book, dealt: dict[int, Words], z: Words) -> None:
    """Shares of e + r, and their sum, which is opened; e is the error that the link has for z."""
    step, plan, functions = book.step, book.plan, book.series.functions
    labels, bare = book.labels, len(functions) - plan.factors  # the first ones, which nothing multiplies
    opened = book.broadcast("error opening")
    whole = 2.0**plan.factor_bits
    public = [
        factors(book.opened(z), terms, book.bits.public, step.scale * (whole if n < bare else 1.0))
        for n, terms in enumerate(functions)
    ]
    found = {j: [evaluate(one, dealt[j]) for one in public] for j in opened}
    if plan.factors:
        multiplied = weigh(book, {j: np.hstack(words[bare:]) for j, words in found.items()})
        found = {j: [*words[:bare], multiplied[j]] for j, words in found.items()}
    for j, words in opened.items():
        share = total(found[j]) + book.mask(j, "r")
        if j == book.world.job.label:
            share = share + encode(step.scale * labels.known_error(*book.series.constants), plan.f)
        assert np.array_equal(words, share)
    error = decode(total(opened.values()) - total(book.mask(j, "r") for j in book.world.ids), plan.f)
    assert (np.abs(error - due_error(book, z)) < step.scale * most_error(book)).all()


def due_error(book: Book, z: Words) -> Floats:
    """What the link has for scores, of rounded amounts."""
    link, labels, scores = book.plan.link, book.labels, book.step.alpha * decode(z, book.plan.fz)
    counts = 1.0 if labels.weights is None else labels.weights
    if link.slope is None or labels.amounts is None:
        return np.asarray(book.step.scale * counts * link.error(scores, labels.target))
    return np.asarray(book.step.scale * (counts * link.phi(scores) - labels.amounts * link.slope(scores)))


def most_error(book: Book) -> Floats:
    """How far series and roundings may be off for each row, where c is 1."""
    most: Floats = np.full((book.step.rows, 1), 1e-9 / book.step.scale)
    labels = book.labels
    counts = np.ones_like(most) if labels.weights is None else labels.weights
    multiplied = (counts,) if labels.amounts is None else (counts, labels.amounts)
    for numbers, terms in zip(multiplied, book.series.functions, strict=True):
        units = sum(map(abs, (*terms.sines, *terms.cosines)), len(terms.sines))  # of what is dealt
        most = most + np.abs(numbers) * (terms.error + np.ldexp(units, -book.bits.dealt))
    return most


def check_loss(book: Book, dealt: dict[int, Words], z: Words) -> None:
    """Masked labels once for each row; masked shares of scores, and g, by which the label party multiplies them."""
    step, label, bits = book.step, book.world.job.label, book.plan.loss_bits
    rows, series = book.world.order.rows(step), book.series
    sent = book.sent("loss labels")
    assert [(s.sender, s.receiver) for s in sent] == [(label, j) for j in book.others(label) if step.epoch == 0]
    if step.epoch == 0:
        labels = encode(book.labels.loss_factors(), bits.label)
        book.u_y[rows] = book.mask(label, "U_y")
        assert all(np.array_equal(s.words + book.mask(label, "U_y"), labels) for s in sent)
    terms = (series.score_terms, series.second) if book.plan.request.weighted else (series.score_terms,)
    public = [factors(book.opened(z), one, bits.score - book.bits.dealt) for one in terms]
    sent = book.sent("masked scores")
    assert {(s.sender, s.receiver) for s in sent} == {(j, label) for j in book.others(label)}
    for s in sent:
        shares = np.hstack([evaluate(one, dealt[s.sender]) for one in public])
        assert np.array_equal(s.words + book.mask(s.sender, "N", label), shares)
    (to_label,) = (s for s in book.sent("dealt") if s.receiver == label)
    n, q = (total(book.mask(j, name, label) for j in book.others(label)) for name in ("N", "Q"))
    assert np.array_equal(split_dealt(book.world, to_label)["loss g", label], q - (book.u_y[rows] * n).sum())


def take_step(book: Book) -> None:
    """The model after the step, and the shares that nothing but masks and masked inputs go into."""
    (x, u), step = book.inputs(), book.step
    for i, j in book.shares:
        book.shares[i, j] = book.shares[i, j] + (x[i] - u[i]).T @ book.mask(j, "r") - book.mask(j, "R", i)
    back = encode_number(step.after, book.plan.fx)
    for j in book.intercepts:
        book.intercepts[j] = book.intercepts[j] + back * book.mask(j, "r").sum(axis=0, keepdims=True)
    run = book.world.oracle()._replace(dealt=book.angle_mask, first=step.index, begin=book.model)
    book.model = train(run, step.index + 1)


@pytest.mark.parametrize("model", ["logistic", "linear", "poisson", "gamma", "one-vs-rest", "tweedie"])
def test_every_tensor_is_its_value_and_masks_used_once(model):
    """Three parties, every step, every link."""
    check_ledger(job_of(model), keyed())


@pytest.mark.parametrize("model", ["logistic", "one-vs-rest", "tweedie"])
def test_so_it_is_where_rows_have_weights(model):
    """Weights and errors that are weighed too."""
    check_ledger(job_of(model, weighted=True), keyed())


@pytest.mark.parametrize("model", ["logistic", "tweedie"])
@pytest.mark.parametrize("reused", OF_WEIGHTS)
def test_a_reused_mask_of_weights_or_labels_is_noticed(reused, model):
    """Though the model comes out right."""
    check_noticed(job_of(model, weighted=model == "logistic"), reused)


@pytest.mark.parametrize("reused", MASKS)
def test_a_reused_mask_is_noticed(reused):
    """A mask that forgets the step fails the ledger, although the model comes out right."""
    check_noticed(job_of("logistic"), reused)


def check_noticed(job: Job, reused: str) -> None:
    """A ledger of the first three steps, of which this mask forgets the step, fails."""
    ledger = Ledger(forgetful({reused}))
    Watched(job, ledger).run(2, stop=3)
    with pytest.raises(AssertionError, match="the same word"):
        ledger.check_words()
