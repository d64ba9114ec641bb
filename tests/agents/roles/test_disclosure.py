"""What a whole run of agents shows to each role, and to the broker: what is promised, and nothing else.

Every check is a function over a recorded run, and each is shown a run with a planted mistake, which it must notice.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import tercet.broker.sealing.seal
import tercet.mpc.linear.ahead
import tercet.mpc.linear.algebra
import tercet.mpc.linear.checks
import tercet.mpc.linear.data_party
import tercet.mpc.linear.helper
import tercet.mpc.linear.loss
import tercet.mpc.network.forward
import tercet.mpc.randomness.secret_order
import tercet.mpc.scoring.scores
from tercet.agents.alignment import matching
from tercet.agents.messaging.mailbox import Mailbox
from tercet.agents.session.context import JobContext
from tercet.agents.simulation.simulate import bit_exact
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import SessionSeal
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear.checks import Checks
from tercet.mpc.plan.check_sizes import Sizes
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import ONCE, Keystream, PairMasks, derive_key
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.held_out_loss import HeldOutNumbers
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.messages.kinds import HeldOutTerms, MaskedInputs, Message, PreactivationShare, Scores
from tests.agents.disclosure import (
    check_amounts,
    check_helpers_view,
    check_keys,
    check_kinds,
    check_ledger,
    check_masks_apart,
    check_masks_once,
    check_roles,
    check_said,
    check_sealed,
    check_split,
    check_uniform,
)
from tests.agents.recording import Heard, Mask, Tables, hear
from tests.agents.world import HELPER, Sample

Plant = Callable[[pytest.MonkeyPatch], None]
Masks = Mapping[Mask, Words]

CHECKS = [
    check_kinds,
    check_roles,
    check_amounts,
    check_helpers_view,
    check_ledger,
    check_said,
    check_split,
    check_masks_once,
    check_uniform,
    check_sealed,
    check_keys,
]
EACH_EPOCH = Evaluation(holdout=0.4, metrics="epoch", loss=True, held_out_loss=True, loss_to="all")
NoisySample = partial(Sample, score_noise=2.0**-5)  # as it is unless somebody changes it
AT_THE_END = Evaluation(holdout=0.3, metrics="end", loss=True, held_out_loss=True)
LONG = NoisySample((8, 7, 6), rows=470, batch=48, label=1, epochs=6, rate=0.3, evaluation=EACH_EPOCH)
SHORT = NoisySample((8, 7, 6), rows=170, batch=64, label=2, epochs=2, rate=0.3, l2=0.02, evaluation=EACH_EPOCH)
TWO = NoisySample((9, 8), rows=150, batch=40, label=1, model="linear", epochs=8, schedule="inverse-time", decay=0.02,
             release="shared")  # fmt: skip
STOPPED = NoisySample((8, 7), rows=200, batch=64, epochs=8, rate=0.3, evaluation=AT_THE_END, alignment="ecdh",
                 early_stopping=EarlyStopping(on="held_out_loss", patience=1, least_gain=0.03))  # fmt: skip
FINAL = NoisySample((7, 6, 6), rows=200, batch=64, label=2, epochs=3, model="linear", evaluation=AT_THE_END,
               release="shared", alignment="aligned")  # fmt: skip
CHOICE = NoisySample((8, 7, 6), rows=170, batch=48, label=1, epochs=3, rate=0.3, l2=0.02, model="softmax",
                evaluation=EACH_EPOCH)  # fmt: skip
COUNTS = NoisySample((8, 7), rows=170, batch=48, label=1, rate=0.02, model="poisson", evaluation=EACH_EPOCH)
ALONE = NoisySample((0, 8), rows=170, batch=48, rate=0.3, l2=0.02, evaluation=EACH_EPOCH)  # a label, and no column
CLAIMS = NoisySample((8, 7, 6), rows=170, batch=48, label=2, rate=0.02, l2=0.02, model="gamma", evaluation=AT_THE_END)


@pytest.fixture(scope="module", params=[LONG, TWO], ids=["three parties", "two parties"])
def heard(request, tmp_path_factory) -> Heard:
    """An honest run."""
    return recorded(request.param, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Heard:
    """An honest run of few steps, to be read and copied."""
    run = recorded(SHORT, tmp_path_factory.mktemp("short"))
    check_masks_apart(run)
    return run


def recorded(sample: Sample, folder: Path, tables: Tables | None = None) -> Heard:
    """A run that ends with the right model."""
    run = hear(sample, folder, tables=tables)
    assert bit_exact(run.simulation)
    return run


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_an_honest_run_shows_to_everybody_what_is_promised_and_no_more(check, heard):
    """Roles, amounts, the helper's view, the ledger, masks used once, uniform words, sealed bodies, lonely keys."""
    check(heard)


@pytest.mark.parametrize("sample", [STOPPED, FINAL], ids=["stopped early, by ECDH", "metrics at the end, aligned"])
def test_so_does_a_run_that_stops_early_or_scores_at_the_end(sample, tmp_path):
    """With another alignment; all checks but those that count words, of which there are few."""
    run = recorded(sample, tmp_path)
    stopped = run.label.context.statistics.step < run.plan.steps_total
    assert stopped == (sample.early_stopping is not None)
    for check in CHECKS:
        if check not in {check_uniform, check_kinds}:  # few words; and what kinds there are no run changes
            check(run)


@pytest.mark.parametrize("sample", [CHOICE, COUNTS, CLAIMS, ALONE], ids=lambda one: f"{one.model} {one.columns}")
def test_so_does_a_run_of_any_other_link(sample, tmp_path):
    """Classes in an order of their own and noise for each output; labels within the helper's view, where they must."""
    run = recorded(sample, tmp_path)
    for check in CHECKS:
        if check not in {check_uniform, check_kinds}:  # few words; and what kinds there are no run changes
            check(run)


def test_ids_that_two_of_three_share_stay_unknown(tmp_path):
    """The third never hears of them, nor do the two of each other: only what all have is told, one bit of each own."""
    sample, people = SHORT, [f"person-{number:06d}" for number in range(250)]
    whose = {"bank": people[:200], "card": people[40:220], "telco": [*people[20:130], *people[180:250]]}
    common = set(people[40:130]) | set(people[180:200])
    rng, tables = np.random.default_rng(4), {}
    for party, table in sample.tables().items():
        rows = rng.permutation(len(whose[party]))
        tables[party] = {name: (values * 2)[: len(rows)] for name, values in table.items()}
        tables[party]["person_number"] = [whose[party][row] for row in rows]
    run = recorded(sample, tmp_path, tables)
    for role, party in zip(run.roles, run.names, strict=True):
        assert {tables[party]["person_number"][row] for row in role.own.rows} == common
    for check in (check_roles, check_amounts, check_ledger, check_said, check_split, check_sealed, check_keys):
        check(run)
    reported = [repr(message.model_dump()) for _, message in run.ear.said]
    everything = b"".join(envelope.body + envelope.address.encode() for envelope in run.ear.envelopes)
    assert not any(one in text for text in reported for one in people)
    assert not any(one.encode() in everything for one in people)


# --- planted mistakes


def omitted(*names: str) -> Plant:
    """Masks that are zero wherever they are computed."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        call = PairMasks.__call__

        def masks(pair: PairMasks, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
            return (
                np.zeros(shape, np.uint64) if mask.partition(ONCE)[0] in names else call(pair, mask, i, j, step, shape)
            )

        patch.setattr(PairMasks, "__call__", masks)

    return plant


# The same mistakes in the record of a run, where a check looks at nothing but the words of masks.


def zeros(masks: Masks, name: str, purpose: str = "") -> Masks:
    """All masks of a name zero, or those that are for this purpose."""
    return {mask: 0 * words for mask, words in masks.items() if is_named(mask, name) and purpose in ("", mask.purpose)}


def repeated(masks: Masks, name: str) -> Masks:
    """Each mask of a name has the words of the first step of its epoch, as far as they go."""
    first: dict[Mask, Words] = {}
    changed = {}
    for mask in sorted(filter(lambda one: is_named(one, name), masks), key=lambda one: one.step):
        words = first.setdefault(replace(mask, mask=name, step=0), masks[mask])
        if words is not masks[mask]:
            changed[mask] = np.resize(words, masks[mask].shape)
    return changed


def is_named(mask: Mask, name: str) -> bool:
    """Whatever digest keys it."""
    return mask.mask.partition(ONCE)[0] == name


def with_masks(run: Heard, changed: Masks) -> Heard:
    """The record of a run with other masks; there must be such."""
    assert changed
    return replace(run, ear=replace(run.ear, masks={**run.ear.masks, **changed}))


def borrowed(patch: pytest.MonkeyPatch) -> None:
    """Labels under the mask of an activation: the difference of the two messages is the plain error."""
    call = PairMasks.__call__

    def masks(pair: PairMasks, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
        return call(pair, "M", 0, j, step, shape) if mask == "m_y" else call(pair, mask, i, j, step, shape)

    patch.setattr(PairMasks, "__call__", masks)


def no_zero_share(patch: pytest.MonkeyPatch) -> None:
    """Shares of z as they are."""
    patch.setattr(
        tercet.mpc.linear.data_party, "zero_share", lambda me, masks, step, shape, **_: np.zeros(shape, np.uint64)
    )


def no_zero_share_of_scores(patch: pytest.MonkeyPatch) -> None:
    """The same, of held-out rows."""
    patch.setattr(
        tercet.mpc.scoring.scores, "zero_share", lambda me, masks, step, shape, **_: np.zeros(shape, np.uint64)
    )


def no_q(patch: pytest.MonkeyPatch) -> None:
    """Shares of the loss without the words that keep them apart; the loss still comes out right."""
    terms, add = tercet.mpc.linear.loss.LossHelper.terms, tercet.mpc.linear.loss.LossParty._add

    def reported(self, step, scores):
        words = terms(self, step, scores).copy()
        outputs = self._plan.outputs
        words[-1:] -= sum(self._masks[j]("Q", self._label, j, step, (1, outputs)) for j in self._others)
        return words

    def added(self, step, words):
        of_all = (1, self._plan.outputs)
        q = 0 if self._me == self._label else self._masks("Q", self._label, self._me, step, of_all).sum()
        add(self, step, words + q)

    patch.setattr(tercet.mpc.linear.loss.LossHelper, "terms", reported)
    patch.setattr(tercet.mpc.linear.loss.LossParty, "_add", added)


def one_purpose(purpose: str, instead: str = "training") -> Plant:
    """Masks of another purpose are the training's: the difference of two messages is that of two values."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        masks = JobContext.masks

        def shared(context: JobContext, partner: str, of: str = "training") -> PairMasks:
            return masks(context, partner, instead if of == purpose else of)

        patch.setattr(JobContext, "masks", shared)

    return plant


def forgetful(purpose: str) -> Plant:
    """Each epoch's scores under the masks of the first: the same rows, so the difference is that of the weights."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        stream = PairMasks._stream

        def masks(pair: PairMasks, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
            epoch = 0 if pair._info[-1] == purpose else step.epoch
            return stream(pair, mask, i, j).words(1, epoch, step.position, shape)

        patch.setattr(PairMasks, "__call__", masks)

    return plant


def u_y_of_the_loss(patch: pytest.MonkeyPatch) -> None:
    """Labels of held-out rows and of those trained on under one mask: the difference is that of the labels."""
    begin = PairMasks._stream

    def stream(pair: PairMasks, mask: str, i: int, j: int) -> Keystream:
        if (mask, pair._info[-1]) != ("U_y", "held-out loss"):
            return begin(pair, mask, i, j)
        return Keystream(derive_key(pair._secret, pair._transcript, (*pair._info[:-1], "loss", mask, i, j)))

    patch.setattr(PairMasks, "_stream", stream)


def no_zero_share_of_held_out(patch: pytest.MonkeyPatch) -> None:
    """Shares of z as they are, of held-out rows for their loss alone."""
    share = tercet.mpc.linear.algebra.zero_share

    def shared(me, masks, step, shape, *name, **digests):
        if all(pair._info[-1] == "held-out loss" for pair in masks.values()):
            return np.zeros(shape, np.uint64)
        return share(me, masks, step, shape, *name, **digests)

    patch.setattr(tercet.mpc.scoring.scores, "zero_share", shared)
    patch.setattr(tercet.mpc.network.forward, "zero_share", shared)


def scores_in_the_terms(patch: pytest.MonkeyPatch) -> None:
    """The label party gets the scores of held-out rows beside their loss; its own share still comes out right."""
    absorb, terms = tercet.mpc.linear.loss.LossParty.absorb_terms, tercet.mpc.linear.loss.LossHelper.terms

    def masks_of(role, step, others):
        return sum(others[j]("N", role._label, j, step, (step.rows, role._plan.outputs)) for j in others)

    stored = {}

    def reported(self, step, scores):
        words = terms(self, step, scores).copy()
        if isinstance(self._plan, HeldOutNumbers):
            stored[step.epoch, step.index] = masks_of(self, step, {j: self._masks[j] for j in self._others})
            words[:-1] += stored[step.epoch, step.index]
        return words

    def absorbed(self, step, p, g):
        more = stored.get((step.epoch, step.index), 0) if isinstance(self._plan, HeldOutNumbers) else np.uint64(0)
        absorb(self, step, p - more, g)

    patch.setattr(tercet.mpc.linear.loss.LossHelper, "terms", reported)
    patch.setattr(tercet.mpc.linear.loss.LossParty, "absorb_terms", absorbed)


def public_key(label: str) -> Plant:
    """What is said or chosen by a key that anybody can work out."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        derive = tercet.mpc.randomness.secret_order.derive_subkey

        def known(key: bytes, name: str) -> bytes:
            return derive(b"known to everybody, the helper too", name) if name == label else derive(key, name)

        for module in (matching, tercet.mpc.randomness.secret_order):
            patch.setattr(module, "derive_subkey", known)

    return plant


def sent_to_all(kind: type[Message]) -> Plant:
    """Something that is for one data party goes to all of them."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        send = Mailbox.send

        async def spread(self, message, receivers, *rest, **more):
            known = [party for party in self.partners if party != HELPER]
            await send(self, message, known if isinstance(message, kind) else receivers, *rest, **more)

        patch.setattr(Mailbox, "send", spread)

    return plant


def whole_scores(patch: pytest.MonkeyPatch) -> None:
    """Scores with more bits than the label party may know."""
    patch.setattr(tercet.mpc.scoring.scores, "SCORE_BITS", 30)


def no_r(patch: pytest.MonkeyPatch) -> None:
    """Gradient shares without the words that keep them apart; the model still comes out right."""
    deal, absorb, update = (
        tercet.mpc.linear.checks.deal_checked,
        Checks.absorb,
        tercet.mpc.linear.algebra.partner_update,
    )

    def bare(
        i: int, sizes: Sizes, masks: dict[int, PairMasks], step: Step, *, u: Words, known: dict[int, Words]
    ) -> Words:
        dealt, block = deal(i, sizes, masks, step, u=u, known=known), (sizes.columns[i], sizes.width)
        for part, j in zip(dealt.reshape(len(known), -1), known, strict=True):
            part[: block[0] * block[1]] += masks[j]("R", i, j, step, block).reshape(-1)
        return dealt

    patch.setattr(tercet.mpc.linear.checks, "deal_checked", bare)
    patch.setattr(Checks, "absorb", lambda self, step, opened, known, rs: absorb(
        self, step, opened, known, {i: 0 * r for i, r in rs.items()}))  # fmt: skip
    patch.setattr(
        tercet.mpc.linear.ahead, "partner_update", lambda w, e, known, r, order: update(w, e, known, 0 * r, order)
    )


def no_signs(patch: pytest.MonkeyPatch) -> None:
    """Every row as it is."""
    patch.setattr(Order, "signs", lambda order, step, odd: np.ones((step.rows, 1), np.uint64))


def no_order(patch: pytest.MonkeyPatch) -> None:
    """Rows as in the table."""
    patch.setattr(Order, "permutation", lambda order, epoch: np.arange(order._rows))


def no_noise(patch: pytest.MonkeyPatch) -> None:
    """Pre-activations to their last bit."""
    patch.setattr(Order, "noise", lambda order, step, fz, outputs=1: np.zeros((step.rows, outputs), np.uint64))


def noise_by_row(patch: pytest.MonkeyPatch) -> None:
    """One word for all outputs of a row, which is gone in their differences."""
    noise = Order.noise
    patch.setattr(Order, "noise", lambda order, step, fz, outputs=1: noise(order, step, fz).repeat(outputs, axis=1))


def no_class_order(patch: pytest.MonkeyPatch) -> None:
    """Outputs as the label party numbers its classes."""
    patch.setattr(Order, "classes", lambda order, step, outputs: np.arange(outputs))


def no_seal(patch: pytest.MonkeyPatch) -> None:
    """Bodies in clear between agents that have keys."""
    patch.setattr(SessionSeal, "seal", lambda seal, receiver, plaintext, associated: bytes(12) + bytes(plaintext))
    patch.setattr(SessionSeal, "open", lambda seal, sender, sealed, associated: sealed[12:])


def no_identity_seal(patch: pytest.MonkeyPatch) -> None:
    """Control and handshake in clear."""
    patch.setattr(Identity, "seal", lambda identity, plaintext, receiver, associated: plaintext)
    patch.setattr(Identity, "open", lambda identity, sealed, sender, associated: sealed)


def unbound_address(patch: pytest.MonkeyPatch) -> None:
    """A seal that does not cover the address: the broker could swap two steps."""
    seal, unseal = SessionSeal.seal, SessionSeal.open
    patch.setattr(SessionSeal, "seal", lambda self, receiver, plaintext, _: seal(self, receiver, plaintext, b""))
    patch.setattr(SessionSeal, "open", lambda self, sender, sealed, _: unseal(self, sender, sealed, b""))


def one_nonce(patch: pytest.MonkeyPatch) -> None:
    """A counter that does not count."""

    def sealer(key: bytes) -> Callable[..., bytes]:
        cipher = AESGCM(key)
        return lambda plaintext, associated: bytes(12) + cipher.encrypt(bytes(12), plaintext, associated)

    patch.setattr(tercet.broker.sealing.seal, "_sealer", sealer)


MASKS = ("U", "V", "M", "R", "m_y", "zero", "U_y", "N", "Q", "U*", "M*", "R*")
HELD_OUT_MASKS = ("U", "V", "zero", "U_y", "N", "Q")
# V, R, Q and masks of checks hide what looks uniform by itself; the zero share what only the helper could tell from it.
SEEN = {"U": "MaskedInputs", "M": "MaskedActivation", "m_y": "MaskedLabels", "U_y": "MaskedLossLabels",
        "N": "LossTerms"}  # fmt: skip
SPOILT = [
    *((f"{name} omitted", partial(zeros, name=name)) for name in MASKS),
    *((f"{name} reused", partial(repeated, name=name)) for name in MASKS),
    *(
        (f"{name} of the held-out loss omitted", partial(zeros, name=name, purpose="held-out loss"))
        for name in HELD_OUT_MASKS
    ),
]
PLANTS = [
    ("m_y borrowed from M", borrowed, (check_masks_once,)),
    ("zero share omitted", no_zero_share, (check_ledger,)),
    ("zero share of scores omitted", no_zero_share_of_scores, (check_ledger,)),
    ("r omitted", no_r, (check_ledger,)),
    ("q omitted", no_q, (check_ledger,)),
    ("validation under training's masks", one_purpose("validation"), (check_ledger, check_masks_once)),
    ("loss under training's masks", one_purpose("loss"), (check_ledger, check_masks_once)),
    ("validation's masks repeated", forgetful("validation"), (check_masks_once,)),
    ("held-out loss under training's masks", one_purpose("held-out loss"), (check_ledger, check_masks_once)),
    ("held-out loss under the loss's masks", one_purpose("held-out loss", "loss"), (check_ledger, check_masks_once)),
    ("U_y of the loss for the held-out loss", u_y_of_the_loss, (check_masks_once,)),
    ("held-out loss's masks repeated", forgetful("held-out loss"), (check_masks_once,)),
    ("zero share of the held-out loss omitted", no_zero_share_of_held_out, (check_ledger,)),
    ("scores beside the held-out loss", scores_in_the_terms, (check_ledger, check_uniform)),
    ("terms of the held-out loss to all data parties", sent_to_all(HeldOutTerms), (check_roles,)),
    ("scores to all data parties", sent_to_all(Scores), (check_roles,)),
    ("scores to the last bit", whole_scores, (check_ledger,)),
    ("pseudonyms by a public key", public_key("pseudonyms"), (check_said,)),
    ("split by a public key", public_key("split"), (check_split,)),
    ("signs omitted", no_signs, (check_helpers_view,)),
    ("order omitted", no_order, (check_helpers_view,)),
    ("noise omitted", no_noise, (check_helpers_view,)),
    ("noise by row", noise_by_row, (check_helpers_view,)),
    ("order of classes omitted", no_class_order, (check_helpers_view,)),
    ("seal omitted", no_seal, (check_sealed, check_keys)),
    ("identities' seal omitted", no_identity_seal, (check_keys,)),
    ("address not sealed", unbound_address, (check_keys,)),
    ("nonce repeated", one_nonce, (check_keys,)),
]
OF_CLASSES = {noise_by_row, no_class_order}


@pytest.mark.parametrize(("plant", "checks"), [pytest.param(*rest, id=name) for name, *rest in PLANTS])
def test_a_planted_mistake_is_noticed(plant, checks, tmp_path):
    """Although the run ends with the right model; also where the check itself is under the mistake."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        sample = CHOICE if plant in OF_CLASSES else LONG if check_uniform in checks else SHORT
        mistaken = recorded(sample, tmp_path)
        for check in checks:
            with pytest.raises(AssertionError):
                check(mistaken)
    for check in checks:
        with pytest.raises(AssertionError):
            check(mistaken)


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in SPOILT])
def test_a_mistake_in_masks_is_noticed(spoil, short):
    """In the record of an honest run; that mistakes of the code get into it, `test_masks_left_out_show_in_what_is_said`
    sees."""
    with pytest.raises(AssertionError, match="two addresses of masks gave the same word"):
        check_masks_apart(with_masks(short, spoil(short.ear.masks)))


def test_masks_left_out_show_in_what_is_said(tmp_path):
    """Each kind whose mask is omitted is named, although the run ends with the right model."""
    with pytest.MonkeyPatch.context() as patch:
        omitted(*SEEN)(patch)
        mistaken = recorded(LONG, tmp_path)
    with pytest.raises(AssertionError, match="gave the same word"):
        check_masks_once(mistaken)
    with pytest.raises(AssertionError, match="not uniform") as reported:
        check_uniform(mistaken)
    assert all(f"'{kind}'" in str(reported.value) for kind in SEEN.values()), reported.value


def test_a_second_value_under_one_mask_is_noticed(short):
    """Masked inputs that differ between two receivers would show the difference of their values."""
    run = replace(short, ear=replace(short.ear, said=list(short.ear.said)))
    check_masks_once(run)
    place = [type(message) for _, message in run.ear.said].index(MaskedInputs)
    address, message = run.ear.said[place]
    assert isinstance(message, MaskedInputs)
    run.ear.said[place] = address, message.model_copy(update={"words": message.words + np.uint64(1)})
    with pytest.raises(AssertionError, match="hides two values"):
        check_masks_once(run)


def test_a_message_to_a_role_that_may_not_have_it_is_noticed(short):
    """The helper knows every U_i: masked inputs would show it the features."""
    run = replace(short, ear=replace(short.ear, said=list(short.ear.said)))
    check_roles(run)
    address, message = next((a, m) for a, m in run.ear.said if isinstance(m, MaskedInputs))
    run.ear.said.append((address._replace(receiver=HELPER), message))
    with pytest.raises(AssertionError):
        check_roles(run)


def test_a_message_beyond_the_protocols_number_is_noticed(short):
    """A second share of z at one step would be a second equation for the helper."""
    run = replace(short, ear=replace(short.ear, said=list(short.ear.said)))
    check_amounts(run)
    run.ear.said.append(next((a, m) for a, m in run.ear.said if isinstance(m, PreactivationShare)))
    with pytest.raises(AssertionError):
        check_amounts(run)


def test_masks_of_two_runs_have_nothing_in_common(short, tmp_path):
    """The same job with the same order again: keys are new, so no word of a mask and none on the wire is repeated."""
    seen: list[set[int]] = []
    for run in (short, hear(SHORT, tmp_path, seed=1)):
        words = [*run.ear.masks.values(), *run.received(MaskedInputs).values()]
        seen.append({int(word) for block in words for word in block.ravel()})
    assert seen[0].isdisjoint(seen[1])
