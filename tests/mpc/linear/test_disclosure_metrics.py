"""Scoring and loss give nothing away but what is promised; ranks, views and masks as in test_disclosure."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import Words, product, total
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.plan import Request
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference.linear import train
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.openings import PassMasks, WeightMasks
from tests.mpc.held_out_world import HeldOutPass
from tests.mpc.linear.test_disclosure import (
    COALITIONS,
    MEDIUM,
    SOFTMAX,
    TINY,
    Ledger,
    Noiseless,
    OneOrder,
    OpenClasses,
    RowNoise,
    Unsigned,
    Vector,
    by_link,
    check_places,
    check_sums,
    deficiency,
    differences_of,
    knows,
    missing,
    without,
)
from tests.mpc.passes import Pass
from tests.mpc.world import Job, World, keyed, make_job

FEW = [case for case in COALITIONS if len(case[0]) < 4]  # a fourth party does as the third

# What data parties receive


def received(sent, coalition) -> list[Words]:
    """All that the coalition receives from others, what several of them receive alike once."""
    mine = [s for s in sent if s.receiver in coalition and s.sender not in coalition]
    return list({(s.what, s.step, s.sender, s.receiver if s.what in "fgp" else None): s.words for s in mine}.values())


def flat(parts) -> Words:
    return np.concatenate([words.ravel() for words in parts])


def scoring_view(job: Job, coalition):
    """All E_i and f_ij in a pass of two batches, by masks; the scores themselves are the label party's to know."""
    shares = [party.shares() for party in World(job).run().parties]

    def view(masks):
        scored = Pass(job, shares, job.xs, 1, batch=1, masks=masks)
        scored.run()
        return flat(received_alike([s for s in scored.sent if s.what != "scores"], coalition))

    return view


@pytest.mark.parametrize(("columns", "label", "coalition"), FEW)
def test_what_a_coalition_receives_in_scoring_is_uniform(columns, label, coalition):
    """But for the scores, for every coalition of all but one."""
    job = make_job(Request("linear", columns=columns, epochs=1, **TINY), label)
    assert missing(scoring_view, job, coalition) == 0


@pytest.mark.parametrize("coalition", [(0, 1), (1, 2)])
@pytest.mark.parametrize(("model", "outputs"), [("softmax", 3), ("gamma", 1)])
def test_what_a_coalition_receives_of_other_links_is_uniform(model, outputs, coalition):
    """In scoring, and in training with a loss, of which one number an epoch is told for all classes together."""
    job = make_job(Request(model, columns=(2, 1, 2), epochs=1, outputs=outputs, **TINY), 2)
    assert missing(scoring_view, job, coalition) == 0
    assert missing(loss_view, job, coalition) == 1


def predictions_deficiency(job: Job, coalition, epochs=(1, 2)) -> int:
    """The same of two predictions by one model, for which weights are opened once."""
    shares, first = [party.shares() for party in World(job).run().parties], next(scoring_steps(1, 1, 9, 1.0))

    def view(masks):
        weights: dict[int, WeightMasks] = {i: PassMasks(masks(i, HELPER), first) for i in range(len(job.xs))}
        one, two = (Pass(job, shares, job.xs, e, batch=1, masks=masks, weights=weights) for e in epochs)
        one.run()
        two.opened = one.opened
        two.run()
        sent = [[s for s in scored.sent if s.what != "scores"] for scored in (one, two)]
        return flat([*received_alike(sent[0], coalition), *received_alike(sent[1], coalition)])

    return deficiency(Vector(knows(coalition)), view)


@pytest.mark.parametrize("coalition", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize(("model", "outputs"), [("linear", 1), ("softmax", 3)])
def test_what_a_coalition_receives_in_two_predictions_by_one_model_is_uniform(model, outputs, coalition):
    """Masks of weights are used again, and hide one value; masks of rows must be others each time."""
    job = make_job(Request(model, columns=(2, 1, 2), epochs=1, outputs=outputs, **TINY), 2)
    assert predictions_deficiency(job, coalition) == 0
    assert predictions_deficiency(job, coalition, (1, 1)) > 0


def test_no_mask_of_scoring_can_be_left_out():
    """The coalition's view is no longer uniform."""
    job = make_job(Request("linear", columns=(2, 1, 2), epochs=1, **TINY), 2)
    found = differences_of(knows((0, 1)), scoring_view(job, (0, 1)))
    assert found.deficiency() == 0
    assert all(found.deficiency({omitted}) > 0 for omitted in ("U", "V"))


def loss_view(job: Job, coalition):
    """All that is received in a whole job with a loss, the others' shares of every epoch's loss included, by masks."""

    def view(masks):
        world = World(job, masks, loss_masks=masks.purpose("loss")).run(1)
        shares = [
            party.share(epoch)
            for i, party in enumerate(world.losses)
            for epoch in range(job.plan.request.epochs)
            if i not in coalition
        ]
        return flat([*received(world.sent, coalition), *shares])

    return view


@pytest.mark.parametrize(("columns", "label", "coalition"), FEW)
def test_what_a_coalition_receives_with_a_loss_is_uniform_but_for_one_number_an_epoch(columns, label, coalition):
    """Training, E_y, p, g and the opened shares together: what they lack in rank are the sums, one for each epoch."""
    epochs = 4 - len(columns)  # three parties need one
    job = make_job(Request("logistic", columns=columns, epochs=epochs, **TINY), label)
    assert missing(loss_view, job, coalition) == epochs


def check_needed(view_of, masks: set[str], sums: int) -> None:
    """Without any one of these masks one coalition or another has more than the sums that all learn."""
    for coalition in ((0,), (1,), (0, 2), (0, 1)):
        found = differences_of(knows(coalition), view_of(coalition))
        assert found.deficiency() == sums
        masks = {mask for mask in masks if found.deficiency({mask}) == sums}
        if not masks:
            return
    raise AssertionError(f"these are not needed: {masks}")


@pytest.mark.parametrize(("model", "outputs"), [("logistic", 1), ("softmax", 3)])
def test_no_mask_of_the_loss_can_be_left_out(model, outputs):
    """Without Q it is the label party that has more."""
    job = make_job(Request(model, columns=(2, 1, 2), epochs=1, outputs=outputs, **TINY), 1)
    check_needed(partial(loss_view, job), {"U_y", "N", "Q"}, 1)


def held_out_view(job: Job, coalition):
    """All that is received in a pass for the held-out loss, the others' shares of it included, by masks."""
    shares = [party.shares() for party in World(job).run().parties]

    def view(masks):
        passed = HeldOutPass(job, shares, job.xs, job.y, epoch=1, batch=1, masks=masks.purpose("held-out loss")).run()
        reported = [share for i, share in enumerate(passed.shares) if i not in coalition]
        return flat([*received_alike(passed.sent, coalition), *reported])

    return view


def received_alike(sent, coalition) -> list[Words]:
    """All that the coalition receives from others; what is masked for each receiver by itself is masked weights."""
    mine = [s for s in sent if s.receiver in coalition and s.sender not in coalition]
    alone = {"masked weights", "loss terms"}
    keyed_by = {(s.what, s.step, s.sender, s.receiver if s.what in alone else None): s.words for s in mine}
    return list(keyed_by.values())


@pytest.mark.parametrize(("columns", "label", "coalition"), FEW)
def test_what_a_coalition_receives_for_a_held_out_loss_is_uniform_but_for_one_number(columns, label, coalition):
    """E_i, f_ij, E_y, p, g and the opened shares together: what they lack in rank is the sum, and no score of a row."""
    job = make_job(Request("logistic", columns=columns, epochs=1, **TINY), label)
    assert missing(held_out_view, job, coalition) == 1


@pytest.mark.parametrize("coalition", [(0, 1), (1, 2)])
@pytest.mark.parametrize(("model", "outputs"), [("softmax", 3), ("gamma", 1), ("linear", 1)])
def test_so_it_is_under_other_links(model, outputs, coalition):
    """One number for all classes together, and with an offset."""
    job = make_job(Request(model, columns=(2, 1, 2), epochs=1, outputs=outputs, **TINY), 2)
    assert missing(held_out_view, job, coalition) == 1


def test_no_mask_of_the_held_out_loss_can_be_left_out():
    """One coalition or another then has more than the sum."""
    job = make_job(Request("logistic", columns=(2, 1, 2), epochs=1, **TINY), 1)
    check_needed(partial(held_out_view, job), {"U", "V", "U_y", "N", "Q"}, 1)


def test_the_helper_receives_nothing_for_a_loss_and_the_others_nothing_of_a_rows():
    """Masked labels go to data parties, terms to the label party, and that is all."""
    job = make_job(MEDIUM, label=1)
    world = World(job, loss_masks=keyed(purpose="loss")).run(1)
    more = {(s.what, s.sender, s.receiver) for s in world.sent if s.what not in {"E", "y~", "f", "g", "z", "p"}}
    assert more == {("E_y", 1, 0), ("E_y", 1, 2), ("terms", HELPER, 1)}


# The helper


@pytest.mark.parametrize(("model", "outputs"), [("linear", 1), ("softmax", 3)])
def test_the_helper_sees_only_the_sum_of_the_scoring_shares(model, outputs):
    """Given the sum, all shares but one are uniform."""
    job = make_job(Request(model, columns=(3, 4, 2), epochs=1, outputs=outputs, **TINY), 1)
    shares = [party.shares() for party in World(job).run().parties]

    def view(masks):
        scored = Pass(job, shares, job.xs, batch=1, masks=masks)
        scored.run()
        return flat(s.words for s in scored.sent if s.receiver == HELPER)

    check_sums(view, 2 * outputs)


@pytest.mark.parametrize(("model", "outputs"), [("linear", 1), ("softmax", 3), ("gamma", 1)])
def test_the_helper_sees_only_the_sum_of_the_held_out_shares(model, outputs):
    """Given the sum, all shares but one are uniform; nothing else of the pass goes to it."""
    job = make_job(Request(model, columns=(3, 4, 2), epochs=1, outputs=outputs, **TINY), 1)
    shares = [party.shares() for party in World(job).run().parties]

    def view(masks):
        passed = HeldOutPass(job, shares, job.xs, job.y, batch=1, masks=masks).run()
        assert {s.what for s in passed.sent if s.receiver == HELPER} == {"output share"}
        return flat(s.words for s in passed.sent if s.receiver == HELPER)

    check_sums(view, 2 * outputs)


def check_helper_view(job: Job, order: Order) -> None:
    """The helper's z is exactly the signed, noised z of the batch in secret order; signs are fair, noise is there."""
    world, rows = World(job).run(), len(job.xs[0])
    masks = keyed(purpose="validation")
    scored = Pass(job, [party.shares() for party in world.parties], job.xs, 3, order=order, masks=masks)
    scored.run()
    weights, agreement, places = train(job.xs, job.y, job.plan, job.order), [], []
    link, outputs = job.plan.link, job.plan.outputs
    for step in scored.steps:
        z = total(s.words for s in scored.sent if (s.receiver, s.step) == (HELPER, step.index))
        for i in scored.ids if outputs == 1 else ():  # of several outputs the data parties add that, in their order
            u, first = masks(i, HELPER)("U", i, i, step, (step.rows, job.plan.columns[i])), scored.steps[0]
            block = (job.plan.columns[i], outputs)
            z = z + product(u, total(masks(j, HELPER)("V", i, j, first, block) for j in scored.ids if j != i))
        in_order = order.rows(step)
        plain = total(x[in_order] @ block for x, block in zip(job.xs, weights.blocks, strict=True))
        plain = plain + np.uint64(1 << job.plan.fx) * weights.intercept
        noise = order.noise(step, noise_width(job.plan, step.alpha), outputs)
        classes = order.classes(step, outputs)
        assert np.array_equal(z, order.signs(step, odd=link.odd) * plain[:, classes] + noise)
        for words in (noise, *np.diff(noise, axis=1).T):
            assert np.unique(words).size > 0.9 * words.size
        places.append(classes)
        assert (in_order == np.arange(step.start, step.stop)).mean() < 0.2
        agreement.append(np.sign(decode(z, job.plan.fz)) * np.sign(decode(plain, job.plan.fz)))
    assert not link.odd or abs(float(np.concatenate(agreement).mean())) < 6 / rows**0.5
    check_places(np.array(places), outputs)


class Unordered(Order):
    """A planted mistake: rows as they stand."""

    def permutation(self, epoch):
        return np.arange(self._rows)


@by_link
def test_the_helper_sees_the_signed_and_noised_scores_in_secret_order(request_):
    """Bit for bit, in every batch; never with a label in it."""
    many = replace(request_, rows=1500, epochs=1) if request_ is SOFTMAX else request_
    check_helper_view(make_job(many, label=1), Order(b"s" * 32, many.rows, "scoring"))


@pytest.mark.parametrize(
    ("request_", "order"),
    [(MEDIUM, Unsigned), (MEDIUM, Noiseless), (MEDIUM, Unordered), (SOFTMAX, RowNoise), (SOFTMAX, OpenClasses),
     (SOFTMAX, OneOrder)],
)  # fmt: skip
def test_missing_signs_noise_or_order_are_noticed(request_, order):
    """The check of the helper's view fails for each."""
    many = replace(request_, rows=1500, epochs=1) if request_ is SOFTMAX else request_
    with pytest.raises(AssertionError):
        check_helper_view(make_job(many, label=1), order(b"s" * 32, many.rows, "scoring"))


# The ledger


def ledgers(*, same_purpose: bool = False) -> Callable[..., Ledger]:
    """Whoever asks for a mask, for one job and all purposes: no two addresses may share a word."""
    words: dict[tuple[Any, ...], Words] = {}
    return lambda purpose, *epoch: Ledger(
        keyed(purpose="training" if same_purpose else purpose), (purpose, *epoch), words
    )


def run_everything(ledger: Callable[..., Ledger], epochs=lambda epoch: epoch, request: Request = MEDIUM) -> None:
    """Training with a loss, and a validation after each epoch; every masked tensor must have a mask to itself."""
    job = make_job(request, label=2)
    world = World(job, ledger("training"), loss_masks=ledger("loss"))
    masked: dict[Any, bytes] = {}
    rows = [x[:100] for x in job.xs]
    for epoch in range(request.epochs):
        size = job.plan.steps_per_epoch
        world.run(2, first=epoch * size, stop=(epoch + 1) * size)
        shares = [party.shares() for party in world.parties]
        scored = Pass(job, shares, rows, epochs(epoch), batch=50, masks=ledger("validation", epochs(epoch)))
        scored.run()
        passed = HeldOutPass(job, shares, rows, job.y[:100], epoch=epochs(epoch), batch=50,
                             masks=ledger("held-out loss", epochs(epoch))).run()  # fmt: skip
        for purpose, sent in [(type(one), sent) for one in (scored, passed) for sent in one.sent]:
            # The mask is fixed by its address, so that two words mean two values.
            if sent.what in {"masked inputs", "masked weights", "loss labels"}:
                address = (purpose, sent.what, sent.sender, sent.receiver, epochs(epoch), sent.step)
                assert masked.setdefault(address, sent.words.tobytes()) == sent.words.tobytes(), "a mask met two values"
    assert {epochs(epoch) for epoch in range(request.epochs)} == {address[4] for address in masked}


@pytest.mark.parametrize("request_", [MEDIUM, replace(SOFTMAX, epochs=2)], ids=lambda one: one.model)
def test_training_loss_and_every_validation_have_masks_of_their_own(request_):
    """In one job of several epochs: no two addresses share a word, no mask meets two values."""
    ledger = ledgers()
    run_everything(ledger, request=request_)
    ledger("any").check_words()
    purposes = {address[0] for address in ledger("any").words}
    assert purposes == {("training",), ("loss",), *itertools.product(["validation", "held-out loss"], [0, 1])}


def test_a_validation_with_the_masks_of_training_is_noticed():
    """Both rows and weights would be given away by differences."""
    ledger = ledgers(same_purpose=True)
    run_everything(ledger)
    with pytest.raises(AssertionError, match="the same word"):
        ledger("any").check_words()


def test_two_validations_under_one_address_are_noticed():
    """The weights of two epochs under one mask."""
    with pytest.raises(AssertionError, match="a mask met two values"):
        run_everything(ledgers(), epochs=lambda epoch: 0)


def test_what_is_left_out_is_left_out():
    """The planted omissions above do reach the roles: an unmasked input is the signed input itself."""
    job = make_job(MEDIUM)
    shares = [party.shares() for party in World(job).parties]
    scored = Pass(job, shares, job.xs, masks=without({"U"}, keyed(purpose="validation")))
    step = scored.steps[0]
    bare = scored.scorers[1].masked_inputs(step)
    assert np.array_equal(bare, scored.order.signs(step, odd=True) * job.xs[1][scored.order.rows(step)])
