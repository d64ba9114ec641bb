"""Scores by a network that was trained blind: exact, near float64, uniform to data parties, nothing to the helper."""

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import Floats, decode, encode_features
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.dealing.sizes import BlindLayout, explicit_party, layer_name
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.architecture import Layout, Network, unpack
from tercet.mpc.plan.blind import DEFAULT_HIDDEN, choose_series
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.reference.blind import BlindRun, narrow, scores
from tercet.mpc.scoring.linear import Numbers
from tests.mpc.blind_scoring_world import NARROWING, BlindNetworkPass, Narrowing
from tests.mpc.driver import Sent
from tests.mpc.linear.test_disclosure import Ledger, reusing
from tests.mpc.network.test_disclosure import Cover, Piece, check_covers, shifted
from tests.mpc.network_world import NetworkJob, make_network_job, opened, same
from tests.mpc.world import MaskSource, keyed


def job_of(hidden: tuple[int, ...], columns: tuple[int, ...], label: int, **others: Any) -> NetworkJob:
    """First weights stand for trained ones."""
    activation, model = others.pop("activation", "silu"), others.pop("model", "logistic")
    request = Request(
        model, rows=40, columns=columns, batch=20, epochs=2, rate=0.05, network=Network(hidden, activation),
        blind=choose_series(model, None, None, activation), **others,
    )  # fmt: skip
    return make_network_job(request, label)


def rows_for(plan: Plan, count: int) -> list[Words]:
    """Rows that nobody has trained on."""
    rng = np.random.default_rng(7)
    parts = zip(plan.columns, plan.norms, strict=True)
    return [encode_features(rng.normal(size=(count, columns)), norm, plan.fx) for columns, norm in parts]


def pass_of(job: NetworkJob, rows: int, **others: Any) -> BlindNetworkPass:
    """By the job's first weights, narrowed, as after all its steps."""
    shares = Narrowing(job.plan, job.first).shares
    return BlindNetworkPass(job, shares, rows_for(job.plan, rows), alpha=job.plan.last_alpha, **others)


def oracle(job: NetworkJob, one: BlindNetworkPass, added: Any = None) -> Floats:
    """The scores of the same pass in plaintext."""
    narrowing = Narrowing(job.plan, job.first)
    run = BlindRun(job.xs, job.y, job.plan, job.order.permutation, narrowing.dealt)
    return scores(one.oracle(job.plan), narrow(run, opened(job.first), NARROWING), one.steps, added)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_scores_equal_the_oracles_bit_for_bit(data):
    """2 or 3 parties, up to three hidden layers of any activation, with or without noise and a penalty."""
    parties = data.draw(st.sampled_from([2, 3]))
    label = data.draw(st.integers(0, parties - 1))
    columns = tuple(data.draw(st.integers(int(i != label), 4)) for i in range(parties))
    hidden = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    job = job_of(
        hidden, columns, label, activation=data.draw(st.sampled_from(sorted(DEFAULT_HIDDEN))),
        model=data.draw(st.sampled_from(["logistic", "linear", "poisson"])), l2=data.draw(st.sampled_from([0.0, 0.1])),
    )  # fmt: skip
    half = data.draw(st.sampled_from([0.0, 0.25]))
    noises = {i: ScoreNoise(bytes([i + 1]) * 32, half, "validation") for i in range(parties) if i != label and half}
    one = pass_of(job, data.draw(st.integers(1, 90)), batch=40, noises=noises)
    words = [
        total(noise.words(step, 1, step.alpha, job.plan.fz) for noise in noises.values()) if noises else np.uint64(0)
        for step in one.steps
    ]
    assert np.array_equal(one.run(), oracle(job, one, lambda step: words[step.index]))


def test_narrow_weights_equal_the_oracles_bit_for_bit():
    """And are the wide ones to one unit of the last bit; nothing else changes."""
    job = job_of((3, 2), (2, 1, 2), 1)
    for turn in range(3):  # each party is dealt words once
        step = replace(NARROWING, index=turn)
        narrowing = Narrowing(job.plan, job.first, step=step)
        found, wide = opened(narrowing.shares), opened(job.first)
        run = BlindRun(job.xs, job.y, job.plan, job.order.permutation, narrowing.dealt)
        assert same(found, narrow(run, wide, step))
        for a, b in zip(found.upper, wide.upper, strict=True):
            assert (
                np.abs(decode(a, job.plan.finished_bits) - job.plan.upper_weights(b, 0)).max()
                < 2.0**-job.plan.finished_bits
            )


@pytest.mark.parametrize("activation", sorted(DEFAULT_HIDDEN))
@pytest.mark.parametrize(("l2", "most"), [(0.0, 3e-3), (0.1, 3e-3)])
def test_scores_are_near_those_of_float64(activation, l2, most):
    """By a plain forward pass: rounded factors of the series decide, which have fewer bits where there is a penalty."""
    job = job_of((16, 8), (6, 5, 4), 2, activation=activation, l2=l2)
    one, weights, plan, link = pass_of(job, 200), opened(job.first), job.plan, HIDDEN[activation]
    z = np.zeros((200, 1))
    for x, block in zip(one.xs, weights.blocks, strict=True):
        z = z + decode(x, plan.fx) @ plan.weights(block)
    for above, bias in zip(weights.upper, weights.biases[1:], strict=True):
        z = (link.phi(z) + link.centre) @ plan.upper_weights(above) + plan.intercept(bias)
    assert np.abs(one.run() - z).max() < most < z.std() / 4


def test_a_kept_plan_gives_the_same_scores():
    """What is kept of the plan with a model, as JSON, is enough for the parties and the helper."""
    job = job_of((3, 2), (2, 3), 0, l2=0.1)
    stored = Numbers.from_canonical(json.loads(json.dumps(job.plan.canonical())))
    assert np.array_equal(pass_of(job, 50).run(), pass_of(job, 50, numbers=stored).run())


def test_a_score_beyond_the_limit_is_told_to_nobody():
    with pytest.raises(Diverged, match="exceeded"):
        pass_of(job_of((3,), (2, 3), 0), 50, limit=1e-6).run()


# What is received

JOB = ((2, 1, 2), (2, 1, 2), 1)


def places(layout: BlindLayout) -> dict[str, tuple[int, str, int]]:
    """Of a tensor of a pass: its place in the order, its mask, and the sign of that."""
    found = [[("masked inputs", "U", -1), ("masked weights", "V", -1)]]
    found[0] += [(f"G/{k}", f"g/{k}", -1) for k in layout.hidden]
    for k in layout.hidden:
        layered = [("score opening", "t", 1), ("angles", "angles", -1), ("hidden opening", "q", -1)]
        found += [[(layer_name(kind, k), layer_name(mask, k), sign)] for kind, mask, sign in layered]
    found += [[(layer_name("scores", layout.output),) * 2 + (-1,)]]
    return {kind: (place, mask, sign) for place, kinds in enumerate(found) for kind, mask, sign in kinds}


def pieces(one: BlindNetworkPass, coalition: tuple[int, ...]) -> list[Piece]:
    """All that a coalition of all data parties but one receives of a pass, but for the scores."""
    (honest,), layout, found = set(one.ids) - {*coalition}, BlindLayout(one.numbers), dict[Any, Piece]()
    order = places(layout)
    for sent in one.sent:
        if sent.receiver not in coalition or sent.sender in coalition or sent.what == "masked scores":
            continue
        for kind, words in split(one, layout, sent).items():
            place, mask, sign = order[kind]
            i = sent.receiver if mask == "V" else honest
            piece = Piece((sent.step, place), (sent.step, kind), words, Cover(honest, mask, i, honest, sign))
            assert np.array_equal(found.setdefault((sent.step, kind, i), piece).words, words)
    return sorted(found.values(), key=lambda piece: (piece.place, str(piece.cover)))


def split(one: BlindNetworkPass, layout: BlindLayout, sent: Sent) -> dict[str, Words]:
    """The tensors of a message."""
    if sent.what == "dealt":
        tensors = unpack(layout.scoring(one.steps[sent.step].rows), sent.words, "explicit words")
    elif sent.what == "weight opening":
        tensors = unpack(Layout(one.numbers).weights("G"), sent.words, "opened weights")
        return {f"{name}/{k}": words for (name, k), words in tensors.items()}
    else:
        return {sent.what: sent.words}
    return {layer_name(name, k): words for (name, k), words in tensors.items()}


@pytest.mark.parametrize("coalition", list(itertools.combinations(range(3), 2)))
def test_every_tensor_of_a_pass_has_a_mask_of_its_own(coalition):
    """Which shifts it, and shifts nothing before it: the view of all but one is uniform, but for the scores."""
    job = job_of(*JOB)

    def view(deltas: dict[tuple[Any, ...], Words], _stop: int = 0) -> list[Piece]:
        one = pass_of(job, 66, batch=33, masks=shifted(deltas, keyed(purpose="validation")))
        one.run()
        return pieces(one, coalition)

    check_covers(view({}), view, coalition)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("honest", [0, 1])
def test_every_tensor_of_a_narrowing_has_a_mask_of_its_own(honest, turn):
    """The share of weights under the mask of the truncation, and the dealt words under the honest party's streams."""
    job = job_of((2, 1), (2, 1), 1)
    step = replace(NARROWING, index=turn)

    def view(deltas: dict[tuple[Any, ...], Words], _stop: int = 0) -> list[Piece]:
        one, layout = Narrowing(job.plan, job.first, masks=shifted(deltas, keyed()), step=step), BlindLayout(job.plan)
        found = []
        for sent in (sent for sent in one.sent if sent.receiver == 1 - honest):
            place = sent.what == "dealt"
            entries = layout.narrowing() if place else layout.upper_weights("c")
            for (name, k), words in unpack(entries, sent.words, sent.what).items():
                mask, sign = (name, -1) if place else ("weights", 1)
                cover = Cover(honest, layer_name(mask, k), honest, honest, sign)
                found.append(Piece((step.index, int(place)), (step.index, name, k), words, cover))
        return sorted(found, key=lambda piece: piece.place)

    base = view({})
    assert len(base) == (2 if explicit_party(step, 2) == honest else 6)
    check_covers(base, view, (1 - honest,))


def test_the_helper_receives_nothing():
    job = job_of(*JOB)
    one = pass_of(job, 66, batch=33)
    one.run()
    sent = [*one.sent, *Narrowing(job.plan, job.first).sent]
    assert len(sent) > 60
    assert HELPER not in {message.receiver for message in sent}


def test_only_the_label_party_receives_shares_of_scores():
    """Under zero shares: of two partners each is uniform to it, and both together are the scores."""
    one = pass_of(job_of(*JOB), 66, batch=33)
    one.run()
    found = [sent for sent in one.sent if sent.what == "masked scores"]
    assert {(sent.sender, sent.receiver) for sent in found} == {(0, 1), (2, 1)}
    again = pass_of(job_of(*JOB), 66, batch=33, masks=other_zero(keyed(purpose="validation")))
    again.run()
    moved = [sent for sent in again.sent if sent.what == "masked scores"]
    for a, b in zip(found, moved, strict=True):
        assert (a.words != b.words).all()


def other_zero(source: MaskSource) -> MaskSource:
    """Masks of which those between data parties are others."""
    other = keyed(2, "validation")
    return lambda a, b: source(a, b) if HELPER in {a, b} else other(a, b)


def of_pass(masks: MaskSource) -> Ledger:
    """A ledger of the masks of a pass of two batches."""
    ledger = Ledger(masks)
    pass_of(job_of(*JOB), 66, batch=33, masks=ledger).run()
    return ledger


def test_no_word_of_a_mask_serves_two_batches_but_of_weights():
    """Those of weights are asked for at the first batch's address alone."""
    ledger = of_pass(keyed(purpose="validation"))
    ledger.check_words()
    static = {(mask, step) for _, _, mask, _, _, step in ledger.words if mask == "V" or mask.startswith("g/")}
    assert static == {(mask, 0) for mask in ("V", "g/0", "g/1", "g/2")}


@pytest.mark.parametrize("mask", ["U", "t", "t/1", "q", "q/2", "angles", "angles/2", "scores/3", "zero"])
def test_a_mask_that_serves_two_batches_is_noticed(mask):
    with pytest.raises(AssertionError, match="the same word"):
        of_pass(reusing({mask}, keyed(purpose="validation"))).check_words()
