"""Plants mistakes, in the code or in the record of a run, by which a role would see more than is promised.

`roles/test_disclosure.py` shows that the checks of `disclosure` and `networks_disclosure` notice them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType

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
from tercet.agents.alignment import matching, named_split
from tercet.agents.messaging.mailbox import Mailbox
from tercet.agents.session.agreed import AgreedContext
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import SessionSeal
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear.checks import Checks
from tercet.mpc.plan.check_sizes import Sizes
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.masks import ONCE, Keystream, PairMasks, derive_key
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.held_out_loss import HeldOutNumbers
from tercet.schemas.messages.kinds import Message
from tests.agents.recording import Heard, Mask
from tests.agents.world import HELPER

Plant = Callable[[pytest.MonkeyPatch], None]
Masks = Mapping[Mask, Words]


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
    return {mask: 0 * words for mask, words in masks.items() if mask.name == name and purpose in ("", mask.purpose)}


def repeated(masks: Masks, name: str) -> Masks:
    """Each mask of a name has the words of the first step of its epoch, as far as they go."""
    first: dict[Mask, Words] = {}
    changed = {}
    for mask in sorted(filter(lambda one: one.name == name, masks), key=lambda one: one.step):
        words = first.setdefault(replace(mask, mask=name, step=0), masks[mask])
        if words is not masks[mask]:
            changed[mask] = np.resize(words, masks[mask].shape)
    return changed


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


def without_zero_shares(module: ModuleType) -> Plant:
    """Shares of z as they are."""

    def nothing(me: int, masks: object, step: Step, shape: tuple[int, int], *_: object, **__: object) -> Words:
        return np.zeros(shape, np.uint64)

    return lambda patch: patch.setattr(module, "zero_share", nothing)


no_zero_share = without_zero_shares(tercet.mpc.linear.data_party)
no_zero_share_of_scores = without_zero_shares(tercet.mpc.scoring.scores)  # of held-out rows


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
        masks = AgreedContext.masks

        def shared(context: AgreedContext, partner: str, of: str = "training") -> PairMasks:
            return masks(context, partner, instead if of == purpose else of)

        patch.setattr(AgreedContext, "masks", shared)

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

        for module in (matching, named_split, tercet.mpc.randomness.secret_order):
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


# --- of networks alone


no_zero_share_of_networks = without_zero_shares(tercet.mpc.network.forward)  # of hidden layers and scores


def places_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """Elements row by row."""
    patch.setattr(Elements, "permutation", lambda elements, step, layer, count: np.arange(count))


def unit_by_unit(units: int) -> Plant:
    """Elements of the first unit of every row, then of the second, and so on."""

    def permutation(_: Elements, step: object, layer: int, count: int) -> object:
        return np.arange(count).reshape(-1, units).T.reshape(-1)

    return lambda patch: patch.setattr(Elements, "permutation", permutation)


def signs_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """Every element with its own."""
    patch.setattr(Elements, "signs", lambda elements, step, layer, count: np.ones(count, np.uint64))


def elements_to_the_last_bit(patch: pytest.MonkeyPatch) -> None:
    """No noise."""
    patch.setattr(Elements, "noise", lambda elements, step, layer, count, fz: np.zeros(count, np.uint64))


def logits_at_their_level(patch: pytest.MonkeyPatch) -> None:
    """No word that is added to all logits of a row."""
    patch.setattr(Elements, "level", lambda elements, step, rows: np.zeros((rows, 1), np.uint64))
