"""Every tensor of a network's training is its value and the mask of its address, and no mask meets two values.

The plain values are the oracle's; what the masks are is read from a ledger of all that were asked for.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.arithmetic.ring import Words, product, total
from tercet.mpc.interface.script import HELPER, Send
from tercet.mpc.linear.helper import activation
from tercet.mpc.plan.architecture import CARRIER, NARROW_BITS, Network, unpack
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import restore_elements
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.network import round_by
from tests.mpc.linear.test_disclosure import Ledger, reusing
from tests.mpc.network.test_disclosure import LAYERED
from tests.mpc.network_world import NetworkJob, NetworkWorld, make_network_job
from tests.mpc.world import keyed


class SpiedWorld(NetworkWorld):
    """Remembers the shares that masked weights are made of, which only their holder knows."""

    partners: dict[tuple[int, int], Any]

    def _note(self, task):
        if isinstance(task.event, Send) and task.event.kind == "masked inputs":
            self.partners = getattr(self, "partners", {})
            self.partners[task.step.index, task.party] = self.parties[task.party]._partners[task.step.index]
        super()._note(task)


@dataclass
class Book:
    """The words of one step: what was sent, the masks, and the plain values that they belong to."""

    world: NetworkWorld  # a Noted, to whose notes only `check_inputs` turns
    ledger: Ledger
    step: Step

    def sent(self, kind: str, turn: int = 0) -> dict[tuple[int, int], Words]:
        """By sender and receiver."""
        what = f"{kind} {turn}"
        return {(s.sender, s.receiver): s.words for s in self.world.sent if (s.what, s.step) == (what, self.step.index)}

    def mask(self, name: str, k: int) -> Words:
        """The sum of all parties' shares of it."""
        return total(self.share(j, name, k) for j in self.world.ids)

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """For the oracle: the same of any step."""
        return replace(self, step=step).mask(name, k)

    def share(self, j: int, name: str, k: int) -> Words:
        """One party's share of it."""
        return self.block(f"{name}/{k}", j, j)

    def block(self, name: str, i: int, j: int) -> Words:
        """U_i, V, R or S of j for i."""
        words: Words = self.ledger.mask(j, name, i, j, self.step)
        return words

    def opened(self, kind: str, entries: Any = None, turn: int = 0) -> Any:
        """The sum of what all data parties sent, in parts if there are any."""
        words = total({sender: words for (sender, _), words in self.sent(kind, turn).items()}.values())
        return words if entries is None else unpack(entries, words, kind)


def check_ledger(job: NetworkJob, source) -> None:
    """Every tensor is its value and the mask of its address, and no two addresses share a word."""
    ledger = Ledger(source)
    world = SpiedWorld(job, ledger).run(2)
    for step in job.plan.steps():
        book = Book(world, ledger, step)
        check_inputs(book)
        check_dealt(book)
        check_way_back(book, *check_forward(book))
    ledger.check_words()


def check_inputs(book: Book) -> None:
    """What the data parties tell each other ahead of time, and what goes to layer 0 at the end."""
    world, job, step = book.world, book.world.job, book.step
    assert isinstance(world, SpiedWorld)
    layout, signs, rows = (
        world.parties[0].layout,
        job.order.signs(step, odd=job.plan.link.odd),
        job.order.rows(step),
    )
    for (i, j), words in book.sent("masked inputs").items():
        assert np.array_equal(words + book.block("U", i, i), job.xs[i][rows])
        share = world.partners[step.index, i][j]
        assert np.array_equal(book.sent("masked weights")[i, j] + book.block("V", j, i), share)
        for k, (_, count) in ((k, layout.elements(k, step.rows)) for k in layout.hidden):
            d = unpack(layout.openings(step.rows), book.sent("mask openings")[i, j], "openings")["D", k]
            order, elements = job.elements.permutation(step, k, count), job.elements.signs(step, k, count)
            u = np.where(elements == 1, book.share(i, "u+", k), book.share(i, "u-", k))
            placed = restore_elements(u, order, d.shape) * (signs if k == layout.last else np.uint64(1))
            assert np.array_equal(d + book.share(i, "q", k), placed)
    y = signs * encode(step.scale * job.y[rows], job.plan.f)[:, job.order.classes(step, job.plan.outputs)]
    m_y = book.block("m_y", job.label, job.label)
    assert all(np.array_equal(words + m_y, y) for words in book.sent("masked labels").values())


def check_forward(book: Book) -> tuple[Words, Any]:
    """The helper's answers and the openings of weights; returns the error of the scores and the forward pass."""
    job, step, plan = book.world.job, book.step, book.world.job.plan
    layout, classes = book.world.parties[0].layout, job.order.classes(step, plan.outputs)
    weights = network_reference.train(book.world.oracle()._replace(dealt=book.dealt), stop=step.index)
    setting = network_reference.PassSetting(plan, job.order, job.elements, plan.fx)
    seen = network_reference._forward([x[job.order.rows(step)] for x in job.xs], weights, step, setting)
    for k in layout.hidden:
        z = step.alpha * decode(book.opened("hidden share", turn=k), plan.fz)
        masks = np.concatenate([book.mask(name, k) for name in ("u+", "u-", "tau")])
        link = layout.activation
        reported = encode(np.concatenate([link.phi(z), link.phi(-z), step.alpha * link.slope(z)]), plan.fx)
        assert all(np.array_equal(words + masks, reported) for words in book.sent("hidden answer", k).values())
        above = weights.upper[k][:, classes] if k == layout.last else weights.upper[k]
        both = book.opened("weight opening", layout.weights("G", "c"))
        assert np.array_equal(both["G", k] + book.mask("g", k), above)
        assert np.array_equal(both["c", k], above + truncation.SHIFT + book.mask("rw", k))
        narrow = round_by(above, book.mask("rw", k), plan.fw - NARROW_BITS)
        assert np.array_equal(book.opened("narrow opening", layout.weights("T"))["T", k] + book.mask("v", k), narrow)
    a = activation(plan, step, seen.z)
    answers = book.sent("output answer").values()
    assert all(np.array_equal(words + book.mask("m", layout.last), a) for words in answers)
    labels = next(iter(book.sent("masked labels").values())) + book.block("m_y", job.label, job.label)
    return a - labels, (weights, seen)


def check_way_back(book: Book, error: Words, forward: Any) -> None:
    """The openings of errors and of their truncations, layer by layer."""
    plan, (weights, seen) = book.world.job.plan, forward
    layout = book.world.parties[0].layout
    for turn, k in enumerate(reversed(layout.hidden)):
        above, layer = weights.upper[k], seen.hidden[k]
        if k == layout.last:
            above = above[:, seen.classes]
        else:
            assert np.array_equal(book.opened("error opening", turn=turn) + book.mask("o", k), error)
        flat = (error @ round_by(above, book.mask("rw", k), plan.fw - NARROW_BITS).T).reshape(1, -1)[:, layer.order]
        c = book.opened("truncation opening", turn=turn)
        assert np.array_equal(c, flat + truncation.SHIFT + book.mask("rd", k))
        flat = round_by(flat, book.mask("rd", k), NARROW_BITS) * layer.slope
        c = book.opened("slope opening", turn=turn)
        assert np.array_equal(c, flat + truncation.SHIFT + book.mask("rs", k))
        error = restore_elements(round_by(flat, book.mask("rs", k), plan.fx), layer.order, layer.activation.shape)
        error = seen.signs * error if k == layout.last else error
    deltas = {(j, i): words + book.block("S", i, j) for (j, i), words in book.sent("masked error").items()}
    assert np.array_equal(total({j: words for (j, _), words in deltas.items()}.values()), error)
    for j in book.world.ids:
        assert len({words.tobytes() for (sender, _), words in deltas.items() if sender == j}) == 1


def check_dealt(book: Book) -> None:
    """The shares of every product of masks add up to it."""
    world, step, plan = book.world, book.step, book.world.job.plan
    layout, label = world.parties[0].layout, world.job.label
    u = {i: book.block("U", i, i) for i in world.ids}
    others = {i: [j for j in world.ids if j != i] for i in world.ids}
    for i in world.ids:
        words = book.sent("dealt")[HELPER, i]
        dealt = unpack(layout.dealt_to(i, step.rows, smooth=plan.smooth, checks=plan.checks), words, "dealt")
        masked = product(u[i].T, total(book.block("S", i, j) for j in others[i]))
        assert np.array_equal(dealt["g", 0] + total(book.block("R", i, j) for j in others[i]), masked)
        if i == CARRIER:
            whole = {key: words for key, words in dealt.items() if key[0] != "g"}
    whole = {
        (name, k): w + total(book.share(j, f"dealt {name}", k) for j in others[CARRIER])
        for (name, k), w in whole.items()
    }
    c = total(product(u[i], total(book.block("V", i, j) for j in others[i])) for i in world.ids)
    assert np.array_equal(whole.pop(("C", 0)), c)
    for k in layout.hidden:
        q, g, v, tau, rd, rs, rw = (book.mask(name, k) for name in ("q", "g", "v", "tau", "rd", "rs", "rw"))
        m = book.mask("m", k) - book.block("m_y", label, label) if k == layout.last else book.mask("o", k)
        high, top = truncation.high_part(rd, NARROW_BITS), truncation.top_bit(rd)
        due = {
            "qg": q @ g, "qo": q.T @ m, "ov": m @ v.T, "h": high, "t": top, "ht": high * tau, "tt": top * tau,
            "h2": truncation.high_part(rs, plan.fx), "t2": truncation.top_bit(rs),
            "hw": truncation.high_part(rw, plan.fw - NARROW_BITS), "tw": truncation.top_bit(rw),
        }  # fmt: skip
        assert all(np.array_equal(whole.pop((name, k)), words) for name, words in due.items())
    assert not whole


LEDGER = Request("softmax", 96, (5, 4, 4), 48, 2, 0.1, l2=0.01, outputs=3, network=Network((5, 4), "gelu"))


def test_every_tensor_is_its_value_and_masks_used_once():
    """Three parties, every step, every tensor that is sent but the shares for the helper."""
    check_ledger(make_network_job(LEDGER, label=2), keyed())


@pytest.mark.parametrize(
    "reused",
    ["U", "V", "S", "R", "m_y", "zero", "zero/1"] + [f"{name}/{n % 2}" for n, name in enumerate(LAYERED)],
)
def test_a_reused_mask_is_noticed(reused):
    """A mask that forgets the step fails the ledger, although the model comes out right."""
    reused = {"o/1": "o/0", "m/0": "m/1", "dealt C/1": "dealt C/0"}.get(reused, reused)
    ledger = Ledger(reusing([reused]))
    NetworkWorld(make_network_job(LEDGER, label=2), ledger).run(2, stop=2)
    with pytest.raises(AssertionError, match="the same word"):
        ledger.check_words()
