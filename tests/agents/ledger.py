"""The ledger of a recorded run: for all that any role received, the value it stands for and the masks on it.

Values come from the plaintext oracle and the secret order, masks from the addresses at which the run drew them; of what
the parties sent, nothing is used here but to compare.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np

from tercet.agents.models import model_part
from tercet.agents.simulation.exactness import first_weights
from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, sum_along, total
from tercet.mpc.blind.start import to_layers
from tercet.mpc.linear.checks import Projections
from tercet.mpc.plan.forward import SCORE_BITS, Forward, noise_half_width, noise_width
from tercet.mpc.plan.plan import LossBits, Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness import secret_order
from tercet.mpc.randomness.masks import ONCE, name_once
from tercet.mpc.randomness.secret_order import Order, derive_subkey
from tercet.mpc.reference import linear as reference
from tercet.mpc.reference.linear import Weights
from tercet.mpc.scoring.linear import Numbers, scoring_steps
from tercet.schemas.files.job import METRICS, TrainingJob
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    AlignedRows,
    CheckedMasks,
    ColumnEncoding,
    EpochDecision,
    GradientShare,
    HeldOutDealtShares,
    HeldOutInputs,
    HeldOutLabels,
    HeldOutLossShare,
    HeldOutRows,
    HeldOutShare,
    HeldOutTerms,
    HeldOutWeights,
    InterceptShare,
    LossShare,
    LossTerms,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskedLossLabels,
    MaskedWeights,
    Message,
    ModelOpening,
    ModelShare,
    OrderCommitment,
    OrderContribution,
    PartialScores,
    PreactivationShare,
    Presence,
    Pseudonyms,
    Scores,
    ScoringDealtShares,
    ScoringInputs,
    ScoringShare,
    ScoringWeights,
    SplitKey,
    WeightShare,
)
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tests.agents.recording import SCORING_BATCH, Heard, Mask, all_words
from tests.agents.world import HELPER, PERSON

PART = 65_536  # rows in a message of partial scores


class Row(NamedTuple):
    """What a received tensor is made of: value + plus - minus."""

    value: Words
    plus: Sequence[Mask] = ()
    minus: Sequence[Mask] = ()


def by_output(a: Words, b: Words) -> Words:
    """a^T b of each output by itself, (1, outputs)."""
    return sum_along(a * b, axis=0)


class Piece(NamedTuple):
    """Some rows of a received tensor, and what they are made of."""

    words: Words
    row: Row


class AbsentMaskError(AssertionError):
    """A mask that should hide something was not drawn."""


class Common:
    """What every book has: parties by number, and their masks. L is the label party."""

    def __init__(self, heard: Heard) -> None:
        self.heard, self.names = heard, heard.names
        self.ids, self.L = range(len(self.names)), heard.sample.label
        self.places = {name: number for number, name in enumerate(self.names)} | {HELPER: -1}
        self.rows: dict[tuple[type[Message], Address], Row | tuple[Row, ...]] = {}  # those asked for so far

    def others(self, i: int) -> list[int]:
        """All data parties but one."""
        return [j for j in self.ids if j != i]

    def address(self, purpose: str, name: str, i: int, j: int, step: Step) -> Mask:
        """Of U_i, m_y, v_ij, m_ij, r_ij, n_j or q_j (of their holder and the helper), or of a zero share's stream."""
        kind = name.partition(ONCE)[0]
        holder = {"U": i, "U*": i, "m_y": i, "U_y": i, "zero": i}.get(kind, j)
        receiver = self.names[j] if kind == "zero" else HELPER
        return Mask(self.names[holder], receiver, purpose, name, i, j, step.epoch, step.position)

    def words(self, mask: Mask) -> Words:
        """What was drawn there."""
        if mask not in self.heard.ear.masks:
            raise AbsentMaskError(f"{mask} was never drawn")
        return self.heard.ear.masks[mask]

    def fitted(self, mask: Mask, value: Words) -> Words:
        """What was drawn there, of a value that is summed over outputs likewise."""
        words = self.words(mask)
        return words if words.shape == value.shape else np.asarray(words.sum(axis=1, keepdims=True))

    def of_model(self, name: str, i: int, j: int) -> Mask:
        """Of v_ij, opened once for all predictions by a model."""
        return Mask(self.names[j], HELPER, "model", name, i, j, 0, 0)

    def zero(self, purpose: str, i: int, step: Step) -> tuple[list[Mask], list[Mask]]:
        """The streams that i's zero share adds, and those that it takes off."""
        others = self.others(i)
        plus = [self.address(purpose, self.stream(i, j, step), i, j, step) for j in others if j > i]
        return plus, [self.address(purpose, self.stream(i, j, step), j, i, step) for j in others if j < i]

    def stream(self, _i: int, _j: int, _step: Step) -> str:
        """What the stream of a zero share is called among i and j at a step."""
        return "zero"


class Batches(Common):
    """Rows in secret order, batch by batch, at a fixed point; `xs` are everybody's words of them."""

    order: Order
    numbers: Forward
    xs: Sequence[Words]
    mask: Callable[[str, int, int, Step], Mask]

    def draws(self, name: str, i: int, j: int, step: Step) -> Words:
        """The words of a mask."""
        return self.words(self.mask(name, i, j, step))

    def signs(self, step: Step) -> Words:
        """Of the batch, (rows, 1)."""
        return self.order.signs(step, odd=self.numbers.link.odd)

    def classes(self, step: Step) -> Signed:
        """P, the secret order of the outputs, of the batch."""
        return self.order.classes(step, self.numbers.outputs)

    def noise(self, step: Step) -> Words:
        """Under which the helper sees the batch."""
        return self.order.noise(step, noise_width(self.numbers, step.alpha), self.numbers.outputs)

    def x(self, i: int, step: Step) -> Words:
        """s X_i of the batch, in secret order."""
        return self.signs(step) * self.xs[i][self.order.rows(step)]

    def masked_x(self, i: int, step: Step) -> Words:
        """E_i."""
        return self.x(i, step) - self.draws("U", i, i, step)

    def inputs(self, step: Step, i: int, _: int) -> Row:
        """E_i = s X_i - U_i."""
        return Row(self.x(i, step), minus=[self.mask("U", i, i, step)])


@dataclass(frozen=True)
class Model:
    """A shared model that is applied to rows: its fixed point, alpha, and the shares that its holders have."""

    numbers: Forward
    alpha: float
    share: Callable[[int, int], Words]  # of i's block, held by j
    intercept: Callable[[int], Words]  # held by j


class Pass(Batches):
    """One pass over rows that are not trained on; purpose and epoch tell its masks from all others.

    Those of weights are the model's, if `once`, or of the pass.
    """

    def __init__(
        self, heard: Heard, model: Model, xs: Sequence[Words], epoch: int, purpose: str, *, once: bool
    ) -> None:
        super().__init__(heard)
        self.model, self.numbers, self.xs, self.purpose, self.once = model, model.numbers, xs, purpose, once
        self.order = heard.scoring_order
        self.steps = list(scoring_steps(len(xs[0]), SCORING_BATCH, epoch, model.alpha))

    def mask(self, name: str, i: int, j: int, step: Step) -> Mask:
        """Of this purpose; of weights one mask for all steps."""
        if name == "V":
            return self.of_model("V", i, j) if self.once else self.address(self.purpose, "V", i, j, self.steps[0])
        return self.address(self.purpose, name, i, j, step)

    def intercept_column(self) -> np.uint64:
        """1 / alpha."""
        return encode_number(1.0 / self.model.alpha, self.numbers.fx)

    def scores(self, step: Step) -> Words:
        """The true scores of the batch in secret order, neither signed nor noised."""
        blocks = [total(self.model.share(i, j) for j in self.ids) for i in self.ids]
        products = [x[self.order.rows(step)] @ block for x, block in zip(self.xs, blocks, strict=True)]
        scores = total([*products, self.intercept_column() * total(map(self.model.intercept, self.ids))])
        return scores[:, self.classes(step)]

    def own_noise(self, i: int, step: Step) -> Words:
        """What party i adds."""
        return self.heard.own_noise(i, step, self.purpose, self.numbers, self.model.alpha, self.numbers.fz)

    def z(self, step: Step) -> Words:
        """What the helper may see."""
        added = total(self.own_noise(i, step) for i in self.ids)
        return self.signs(step) * self.scores(step) + self.noise(step) + added

    def weights(self, step: Step, j: int, i: int) -> Row:
        """f_ij = w_ij - v_ij."""
        return Row(self.model.share(i, j), minus=[self.mask("V", i, j, step)])

    def correction(self, step: Step) -> Words:
        """C = sum_i U_i sum_j v_ij."""
        u = [self.draws("U", i, i, step) for i in self.ids]
        v = [total(self.draws("V", i, j, step) for j in self.others(i)) for i in self.ids]
        return total(a @ b for a, b in zip(u, v, strict=True))

    def streams(self, step: Step) -> list[Mask]:
        """Of C, at all data parties but the first."""
        return [self.mask("dealt C", j, j, step) for j in self.others(0)]

    def dealt(self, step: Step, _: int, __: int) -> Row:
        """What the others' streams leave of C, where there are several outputs."""
        return Row(self.correction(step), minus=self.streams(step))

    def preactivation(self, step: Step, i: int, _: int) -> Row:
        """z_i = X_i (w_ii + sum_j f_ij) P + sum_j E_j v_ji P + C_i P + the intercept's part + [i first] noise + 0_i.

        C_i where there are several outputs.
        """
        others, order = self.others(i), self.classes(step)
        opened = [self.model.share(i, j) - self.draws("V", i, j, step) for j in others]
        value = self.x(i, step) @ total([self.model.share(i, i), *opened])[:, order]
        value = value + total(self.masked_x(j, step) @ self.draws("V", j, i, step)[:, order] for j in others)
        if self.numbers.outputs > 1:
            streams = [self.words(mask) for mask in self.streams(step)]
            share = self.correction(step) - total(streams) if i == 0 else streams[i - 1]
            value = value + share[:, order]
        value = value + self.signs(step) * self.intercept_column() * self.model.intercept(i)[:, order]
        if i == 0:
            value = value + self.noise(step)
        return Row(value + self.own_noise(i, step), *self.zero(self.purpose, i, step))

    def reported(self, step: Step, _: int, __: int) -> Row:
        """z rounded, to the label party, which the job lets know it."""
        return Row(encode(decode(self.z(step), self.numbers.fz), SCORE_BITS))

    def row(self, model: type[Message], address: Address) -> Row | tuple[Row, ...]:
        """The row of one received tensor."""
        step = next(s for s in self.steps if (s.epoch, s.position) == (address.epoch, address.step))
        return SCORING[model](self, step, self.places[address.sender], self.places[address.receiver])


class LossBook(Batches):
    """What a loss is made of, in training as in a pass over held-out rows.

    Whoever has it says: `plan` and `labels_held` of the rows, `bits`, `z`, and of an epoch its steps (`loss_steps`) and
    the oracle's sum (`total_loss`).
    """

    plan: Plan
    labels_held: Floats
    bits: LossBits
    z: Callable[[Step], Words]
    loss_steps: Callable[[int], Sequence[Step]]
    total_loss: Callable[[int], Words]

    def loss_labels(self, step: Step) -> Words:
        """s y P of the batch, with the bits that the loss has for a label."""
        labels = self.plan.link.target(self.labels_held[self.order.rows(step)])
        return (self.signs(step) * encode(labels, self.bits.label))[:, self.classes(step)]

    def offset(self, step: Step) -> Words:
        """What the label party adds to its share of z of its labels alone; nothing for most links."""
        labels, offset = self.labels_held[self.order.rows(step)], self.plan.link.offset
        return encode(np.zeros_like(labels) if offset is None else offset(labels) / step.alpha, self.plan.fz)

    def masked_loss_labels(self, step: Step) -> Words:
        """E_y."""
        return self.loss_labels(step) - self.draws("U_y", self.L, self.L, step)

    def seen(self, step: Step) -> Floats:
        """What the helper decodes; no score counts as more than the limit."""
        return np.clip(step.alpha * decode(self.z(step), self.plan.fz), *self.plan.score_bounds())

    def cumulant(self, step: Step) -> Words:
        """The sum of what the loss has of the scores alone, for the first output; (1, outputs)."""
        half = noise_half_width(self.plan, step.alpha)
        cumulant: Words = encode(self.plan.link.cumulant_of_noisy(self.seen(step), half), self.bits.total)
        return np.pad(cumulant.sum(axis=0, keepdims=True), [(0, 0), (0, self.plan.outputs - 1)])

    def loss_labels_row(self, step: Step, i: int, _: int) -> Row:
        """E_y = s y P - U_y."""
        return Row(self.loss_labels(step), minus=[self.mask("U_y", i, i, step)])

    def loss_terms(self, step: Step, _: int, i: int) -> tuple[Row, Row]:
        """p = zeta - sum n_j, and g = sum cumulant - U_y^T sum n_j + sum q_j, output by output."""
        others = self.others(i)
        zeta = Row(encode(self.seen(step), self.bits.score), minus=[self.mask("N", i, j, step) for j in others])
        dealt = by_output(self.draws("U_y", i, i, step), total(self.draws("N", i, j, step) for j in others))
        return zeta, Row(self.cumulant(step) - dealt, plus=[self.mask("Q", i, j, step) for j in others])

    def loss_share(self, step: Step, j: int, _: int) -> Row:
        """j's share of an epoch's loss, - sum (E_y^T n_j + q_j), over outputs too; L's follows from its terms."""
        steps = self.loss_steps(step.epoch)
        if j == self.L:
            rest = total(
                self._loss_share(k, s) - sum_along(self.draws("Q", j, k, s)) for k in self.others(j) for s in steps
            )
            return Row(self.total_loss(step.epoch) - rest)
        value = total(self._loss_share(j, one) for one in steps)
        return Row(value, minus=[self.mask("Q", self.L, j, one) for one in steps])

    def _loss_share(self, j: int, step: Step) -> Words:
        """What j's share is in one step, but for q_j."""
        products = by_output(self.masked_loss_labels(step), self.draws("N", self.L, j, step))
        return np.uint64(0) - sum_along(products)


class HeldOutPass(Pass, LossBook):
    """One pass over held-out rows for their loss."""

    def __init__(self, heard: Heard, model: Model, epoch: int, weights: Weights) -> None:
        super().__init__(heard, model, heard.held_out_xs, epoch, "held-out loss", once=False)
        self.plan, self.order, self.labels_held = heard.plan, heard.held_out_order, heard.held_out_y
        self.bits, self._weights = heard.plan.loss_bits_of(len(self.labels_held)), weights

    def scores(self, step: Step) -> Words:
        """The true scores of the batch in secret order, with their offsets, neither signed nor noised."""
        return super().scores(step) + self.offset(step)[:, self.classes(step)]

    def preactivation(self, step: Step, i: int, j: int) -> Row:
        """As in any pass, + [i = L] offset."""
        row = super().preactivation(step, i, j)
        offset = (self.signs(step) * self.offset(step))[:, self.classes(step)]
        return row._replace(value=row.value + offset) if i == self.L else row

    def own_noise(self, _: int, step: Step) -> Words:
        """None: no score leaves."""
        return np.zeros((step.rows, self.plan.outputs), np.uint64)

    def loss_steps(self, _: int) -> Sequence[Step]:
        """All of this pass."""
        return self.steps

    def total_loss(self, _: int) -> Words:
        """The oracle's."""
        return reference.held_out_loss(
            self.xs, self.labels_held, self._weights, plan=self.plan, order=self.order, steps=self.steps
        )

    def row(self, model: type[Message], address: Address) -> Row | tuple[Row, ...]:
        """The row of one received tensor."""
        step = next(s for s in self.steps if (s.epoch, s.position) == (address.epoch, address.step))
        return HELD_OUT[model](self, step, self.places[address.sender], self.places[address.receiver])


class Book(LossBook):
    """The values of a training by the protocol's symbols."""

    def __init__(self, heard: Heard) -> None:
        super().__init__(heard)
        self.plan = self.numbers = heard.plan
        self.order = heard.order
        self.xs, self.labels_held, self.bits = heard.xs, heard.y, heard.plan.loss_bits
        self.steps = list(self.plan.steps())
        self.obtained = self.steps[: heard.label.party.shares().step]  # fewer where the job stopped early
        self.last_step = heard.label.shares.step
        self._partner: dict[tuple[int, int], list[Words]] = {}
        self._intercept: dict[int, list[Words]] = {}
        self.sizes = self.plan.checks
        self.projections = Projections(heard.label.key, self.sizes)
        self._digests: dict[tuple[int, int], list[bytes]] = {}

    # masks

    def mask(self, name: str, i: int, j: int, step: Step) -> Mask:
        """Of the training; those of the loss have names and a purpose of their own."""
        return self.address("loss" if name in {"U_y", "N", "Q"} else "training", name, i, j, step)

    def is_spare(self, mask: Mask) -> bool:
        """Whether the helper may have drawn it ahead for a step that an early stop did away with."""
        dropped = {(step.epoch, step.position) for step in self.steps[len(self.obtained) :]}
        return (
            mask.purpose == "training"
            and mask.mask in {"U", "V", "M", "R", "m_y", "U*", "M*", "R*"}
            and (mask.epoch, mask.step) in dropped
        )

    # values that no party's message tells

    @cached_property
    def history(self) -> list[Weights]:
        """The oracle's weights before each step, and at the end."""
        first = first_weights(self.heard.simulation)  # zeros, or those of the model to start at
        found = [Weights(first.blocks, first.biases[0])]
        for t in range(len(self.obtained)):
            found.append(reference.train(self.xs, self.labels_held, self.plan, self.order, t + 1, found[t], t))
        return found

    def back(self, words: Words, step: Step) -> Words:
        """Words times P^-1."""
        return words[:, np.argsort(self.classes(step))]

    def y(self, step: Step) -> Words:
        """s times the scaled labels, times P; zeros where the label is in the score's offset."""
        labels = self.plan.link.target(self.labels_held[self.order.rows(step)])
        return (self.signs(step) * encode(step.scale * labels, self.plan.f))[:, self.classes(step)]

    def scores(self, step: Step) -> Words:
        """The true pre-activations of the batch in secret order, with their offsets, neither signed nor noised."""
        before, rows = self.history[step.index], self.order.rows(step)
        intercept = encode_number(1.0 / step.alpha, self.plan.fx) * before.intercept
        products = total(x[rows] @ block for x, block in zip(self.xs, before.blocks, strict=True))
        return (products + intercept + self.offset(step))[:, self.classes(step)]

    def z(self, step: Step) -> Words:
        """What the helper may see."""
        return self.signs(step) * self.scores(step) + self.noise(step)

    def a(self, step: Step) -> Words:
        """The activation, scaled."""
        scores = step.alpha * decode(self.z(step), self.plan.fz)
        half = noise_half_width(self.plan, step.alpha)
        return encode(step.scale * self.plan.link.phi_of_noisy(scores, half), self.plan.f)

    def share(self, i: int, j: int, t: int) -> Words:
        """w_ij before step t, j's share of i's block; i's own is what the others leave of the oracle's weights."""
        if i == j:
            return self.history[t].blocks[i] - total(self.share(i, other, t) for other in self.others(i))
        shares = self._partner.setdefault((i, j), [self.heard.roles[j].start.partners[i]])
        for step in self.steps[len(shares) - 1 : t]:
            known = self.draws("M", i, j, step)
            if j == self.L:
                known = known - self.draws("m_y", j, j, step)
            change = self.masked_x(i, step).T @ known + self.draws("R", i, j, step)
            shares.append(shares[-1] - self.back(change, step))
        return shares[t]

    def intercept_share(self, j: int, t: int) -> Words:
        """w0_j before step t."""
        if j == self.L:
            return self.history[t].intercept - total(self.intercept_share(other, t) for other in self.others(j))
        shares = self._intercept.setdefault(j, [to_layers(self.heard.roles[j].start).biases[0]])
        for step in self.steps[len(shares) - 1 : t]:
            change = self.signs(step).T @ self.draws("M", self.L, j, step)
            shares.append(shares[-1] - encode_number(step.after, self.plan.fx) * self.back(change, step))
        return shares[t]

    # the rows

    def labels(self, step: Step, i: int, _: int) -> Row:
        """y~ = s y P - m_y."""
        return Row(self.y(step), minus=[self.mask("m_y", i, i, step)])

    def weights(self, step: Step, j: int, i: int) -> Row:
        """f_ij = w_ij P - v_ij."""
        return Row(self.share(i, j, step.index)[:, self.classes(step)], minus=[self.mask("V", i, j, step)])

    def known(self, step: Step, i: int, j: int) -> Words:
        """k_ij = m_ij - [j = L] m_y."""
        known = self.draws("M", i, j, step)
        return known - self.draws("m_y", j, j, step) if j == self.L else known

    def gradient(self, step: Step, _: int, i: int) -> tuple[Row, ...]:
        """g_ij = U_i^T k_ij - r_ij and gamma_ij = U*_i^T M*_ij - R*_ij of every other j."""
        rows = []
        for j in self.others(i):
            rows.append(Row(self.draws("U", i, i, step).T @ self.known(step, i, j), minus=[self.mask("R", i, j, step)]))
            gamma = self.draws("U*", i, i, step).T @ self.draws("M*", i, j, step)
            rows.append(Row(gamma, minus=[self.mask("R*", i, j, step)]))
        return tuple(rows)

    def checked(self, step: Step, j: int, i: int) -> tuple[Row, ...]:
        """eps_j = U_j s_j - U*_j, and delta_ij = k_ij t_i - M*_ij."""
        eps = Row(self.draws("U", j, j, step) @ self.projections.of(step)[j][0], minus=[self.mask("U*", j, j, step)])
        delta = self.narrowed(self.known(step, i, j), i, step)
        return eps, Row(delta, minus=[self.mask("M*", i, j, step)])

    def narrowed(self, words: Words, i: int, step: Step) -> Words:
        """Words times t_i."""
        t = self.projections.of(step)[i][1]
        return words if t is None else words @ t

    def found(self, step: Step, i: int, j: int) -> Words:
        """What i and j both find of g_ij: s_i^T U_i^T k_ij t_i - s_i^T r_ij t_i - U*_i^T k_ij t_i + R*_ij."""
        s, _ = self.projections.of(step)[i]
        eps = self.draws("U", i, i, step) @ s - self.draws("U*", i, i, step)
        masked = self.narrowed(eps.T @ self.known(step, i, j) - s.T @ self.draws("R", i, j, step), i, step)
        return masked + self.draws("R*", i, j, step)

    def digest(self, i: int, j: int, t: int) -> bytes:
        """What i and j, of which i is lower, have found before step t."""
        digests = self._digests.setdefault((i, j), [bytes(32)])
        for step in self.steps[len(digests) - 1 : t]:
            both = (self.found(step, *pair).astype("<u8").tobytes() for pair in ((i, j), (j, i)))
            digests.append(hashlib.sha256(b"".join((digests[-1], *both))).digest())
        return digests[t]

    def stream(self, i: int, j: int, step: Step) -> str:
        """Of a name of its own at each step, by what both have found."""
        return name_once("zero", self.digest(min(i, j), max(i, j), step.index))

    def preactivation(self, step: Step, i: int, _: int) -> Row:
        """z_i = X_i (w_ii P + sum_j f_ij) + sum_j E_j v_ji + intercept + [i = L] offset + [i first] noise + 0_i."""
        t, others, order = step.index, self.others(i), self.classes(step)
        opened = [self.share(i, j, t)[:, order] - self.draws("V", i, j, step) for j in others]
        value = self.x(i, step) @ total([self.share(i, i, t)[:, order], *opened])
        value = value + total(self.masked_x(j, step) @ self.draws("V", j, i, step) for j in others)
        alone = encode_number(1.0 / step.alpha, self.plan.fx) * self.intercept_share(i, t)
        alone = alone + self.offset(step) if i == self.L else alone
        value = value + self.signs(step) * alone[:, order]
        if i == 0:
            value = value + self.noise(step)
        return Row(value, *self.zero("training", i, step))

    def activation(self, step: Step, _: int, i: int) -> Row:
        """p_i = a - M_i."""
        return Row(self.a(step), minus=[self.mask("M", i, j, step) for j in self.others(i)])

    def released(self, _: Step, j: int, i: int) -> Row:
        """w_ij at the end, to the block's owner: with its own share it opens the block, as the job says it should."""
        return Row(self.share(i, j, self.last_step))

    def opened_model(self, _: Step, j: int, i: int) -> Row:
        """f_ij = w_ij - v_ij at the end, once for all predictions."""
        return Row(self.share(i, j, self.last_step), minus=[self.of_model("V", i, j)])

    def released_intercept(self, _: Step, j: int, __: int) -> Row:
        """w0_j at the end, to the label party."""
        return Row(self.intercept_share(j, self.last_step))

    def released_model(self, _: Step, j: int, __: int) -> Row:
        """Every w_ij and w0_j at the end, in one row."""
        blocks = [self.share(i, j, self.last_step) for i in range(len(self.names))]
        return Row(
            np.concatenate([w.reshape(1, -1) for w in (*blocks, self.intercept_share(j, self.last_step))], axis=1)
        )

    # the loss

    def loss_steps(self, epoch: int) -> Sequence[Step]:
        """Those that were taken of it."""
        return [one for one in self.obtained if one.epoch == epoch]

    @cached_property
    def losses(self) -> list[Words]:
        """The oracle's, of each epoch."""
        return reference.losses(self.xs, self.labels_held, self.plan, self.order, len(self.obtained))

    def total_loss(self, epoch: int) -> Words:
        """The oracle's."""
        return self.losses[epoch]

    # held-out rows

    @cached_property
    def held_out_passes(self) -> dict[int, HeldOutPass]:
        """The passes for the held-out loss, by the epoch after which they come."""
        job, per_epoch, found = self.heard.job, self.plan.steps_per_epoch, dict[int, HeldOutPass]()
        assert isinstance(job, TrainingJob)
        for epoch in range(len(self.obtained) // per_epoch if job.evaluation.held_out_loss else 0):
            t = (epoch + 1) * per_epoch
            found[epoch] = HeldOutPass(self.heard, self._model(t), epoch, self.history[t])
        return found

    @cached_property
    def passes(self) -> dict[int, Pass]:
        """The passes over held-out rows, by the epoch after which they come."""
        job, per_epoch = self.heard.job, self.plan.steps_per_epoch
        assert isinstance(job, TrainingJob)
        if not job.scorings:
            return {}
        if job.evaluation.metrics == "end":
            return {job.training.epochs - 1: self._pass(self.last_step, job.training.epochs - 1)}
        return {e: self._pass((e + 1) * per_epoch, e) for e in range(len(self.obtained) // per_epoch)}

    def _model(self, t: int) -> Model:
        return Model(
            self.plan,
            self.plan.alpha_after(t),
            lambda i, j: self.share(i, j, t),
            lambda j: self.intercept_share(j, t),
        )

    def _pass(self, t: int, epoch: int) -> Pass:
        job = self.heard.job
        assert isinstance(job, TrainingJob)
        once = job.evaluation.metrics == "end" and job.release != "owners"
        return Pass(self.heard, self._model(t), self.heard.held_out_xs, epoch, "validation", once=once)

    def row(self, model: type[Message], address: Address) -> Row | tuple[Row, ...]:
        """The row of one received tensor."""
        if model in SCORING:
            return self.passes[address.epoch].row(model, address)
        if model in HELD_OUT:
            return self.held_out_passes[address.epoch].row(model, address)
        step = next(s for s in self.steps if (s.epoch, s.position) == (address.epoch, address.step))
        return TRAINING[model](self, step, self.places[address.sender], self.places[address.receiver])

    def values(self) -> Iterator[Words]:
        """Everything that is a word in this run and belongs to one party, or to none."""
        yield from self.xs
        for step in self.obtained:
            yield from (*(self.x(i, step) for i in self.ids), self.y(step), self.z(step), self.a(step))
        for weights in self.history:
            yield from (*weights.blocks, weights.intercept)
        for one in (*self.passes.values(), *self.held_out_passes.values()):
            yield from (*one.xs, *map(one.z, one.steps))


class Prediction(Common):
    """The values of a prediction: one pass over shares, or what each party's own columns say."""

    def __init__(self, heard: Heard) -> None:
        super().__init__(heard)
        self.parts, self.shared = heard.parts, heard.sample.release != "owners"
        self.passes, self.held_out_passes = ({0: self._pass()} if self.shared else {}), dict[int, HeldOutPass]()
        rows = len(self.parts[0].own.rows)
        self.steps = self.passes[0].steps if self.shared else list(scoring_steps(rows, PART, 0, 1.0))

    def _pass(self) -> Pass:
        part, arrays = self.parts[0].part, [role.arrays for role in self.parts]
        model = Model(
            Numbers.from_canonical(part.plan),
            part.alpha,
            lambda i, j: arrays[j][f"shares/{self.names[i]}"],
            lambda j: arrays[j]["shares/intercept"],
        )
        xs = [all_words(role) for role in self.parts]
        return Pass(self.heard, model, xs, 0, "prediction", once=True)

    def is_spare(self, mask: Mask) -> bool:
        """Nothing is drawn for nothing; masks of weights hide what was opened in the training."""
        return mask.purpose == "model"

    def partial(self, i: int, step: Step) -> Words:
        """What i's columns say of some of the common rows, rounded."""
        role = self.parts[i]
        scores = plain_scores(self.heard, i)
        words = encode(scores[role.own.rows[step.start : step.stop]], SCORE_BITS)
        numbers = Numbers.from_canonical(role.part.plan)
        return words + self.heard.own_noise(i, step, "prediction", numbers, 1.0, SCORE_BITS)

    def row(self, model: type[Message], address: Address) -> Row | tuple[Row, ...]:
        """The row of one received tensor."""
        if model in SCORING:
            return self.passes[address.epoch].row(model, address)
        assert model is PartialScores
        step, i = self.steps[address.step], self.places[address.sender]
        return Row(self.partial(i, step), *self.zero("prediction", i, step))

    def values(self) -> Iterator[Words]:
        """Everything that is a word in this run and belongs to one party, or to none."""
        for one in self.passes.values():
            yield from (*one.xs, *map(one.z, one.steps))
        if not self.shared:
            yield from (self.partial(i, step) for i in self.ids for step in self.steps)


def book_of(heard: Heard) -> Book | Prediction:
    """The book of a run."""
    return heard.book(Book) if isinstance(heard.job, TrainingJob) else heard.book(Prediction)


def plain_scores(heard: Heard, i: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What party i's part, under release = owners, says of each row of its table, (rows, outputs), in plaintext."""
    role = heard.parts[i]
    table = plain_table(role.part.encoding, heard.tables[heard.names[i]])
    return model_part.partial_scores(role.part, role.arrays, table)


def plain_table(encoding: Encoding, texts: Mapping[str, list[str]]) -> Table:
    """The columns of a model as they stand in a file; a blank is a missing value."""
    kinds = encoding.kinds
    numbers = {name: np.array([float(t or "nan") for t in texts[name]]) for name in kinds if kinds[name] == "numeric"}
    others = {name: np.array([t or None for t in texts[name]], object) for name in kinds if name not in numbers}
    return Table("people", len(texts[PERSON]), tuple(kinds), numbers, others)


def pieces(book: Book | Prediction, address: Address, message: Message) -> list[Piece]:
    """A received tensor and its row; of one that is several tensors below or beside one another, each."""
    assert type(message) in LEDGER, f"{type(message).__name__} has no row in the ledger"
    words: Words = message.words  # type: ignore[attr-defined]
    place = type(message), address
    if place not in book.rows:
        book.rows[place] = book.row(*place)
    found = book.rows[place]
    rows = (found,) if isinstance(found, Row) else found
    if isinstance(message, GradientShare | CheckedMasks):
        return _beside(words, rows)
    bounds = np.cumsum([0, *(len(row.value) for row in rows)])
    assert bounds[-1] == len(words), f"{address}: another shape"
    return [Piece(words[a:b], row) for a, b, row in zip(bounds, bounds[1:], rows, strict=False)]


def _beside(words: Words, rows: Sequence[Row]) -> list[Piece]:
    """Tensors beside one another, or one after another in one row."""
    one = len(words) == 1 and {len(row.value) for row in rows} != {1}
    bounds = np.cumsum([0, *(row.value.size if one else row.value.shape[1] for row in rows)])
    assert bounds[-1] == words.shape[1], "another shape"
    parts = [words[:, a:b] for a, b in pairwise(bounds)]
    return [Piece(part.reshape(row.value.shape), row) for part, row in zip(parts, rows, strict=True)]


# --- what is said beside tensors, and can be worked out


def key_of(heard: Heard, label: str) -> bytes:
    """A key that follows from the contributions, in which the helper has no part."""
    return derive_subkey(heard.alignment_key, label)


def pseudonyms(heard: Heard, party: str) -> dict[bytes, str]:
    """Of a party's ids: keyed hashes of 128 bits, ascending."""
    key, ids = key_of(heard, "pseudonyms"), heard.tables[party][PERSON]
    hashes = {hashlib.blake2b(one.encode(), digest_size=16, key=key).digest(): one for one in ids}
    return dict(sorted(hashes.items()))


def common_ids(heard: Heard) -> list[str]:
    """Those that all data parties have, in the order that alignment through the helper gives them."""
    everywhere = reduce(lambda a, b: a & b, [set(heard.tables[party][PERSON]) for party in heard.names])
    return [one for one in pseudonyms(heard, heard.names[0]).values() if one in everywhere]


def said_commitment(heard: Heard, address: Address) -> Message:
    """The hash of what its sender contributes afterwards, to this receiver as to all."""
    job, to = heard.simulation.runs[address.receiver].job, address.receiver
    (secret,) = {
        one.secret for at, one in heard.ear.said
        if isinstance(one, OrderContribution) and (at.sender, at.receiver) == (address.sender, to)
    }  # fmt: skip
    return OrderCommitment(commitment=secret_order.commitment(job.run, address.sender, secret))


def split_key(heard: Heard) -> bytes:
    """The key by which rows are held out, of a run that has found no earlier one."""
    split = heard.job.evaluation.split if isinstance(heard.job, TrainingJob) else None
    return heard.alignment_key if split is None else key_of(heard, "named split")


def said_split(heard: Heard, address: Address) -> Message:
    """That there was no key before, and a proof of the new one that is the sender's and this run's."""
    key, nonce = derive_subkey(split_key(heard), "proof"), key_of(heard, "proof of a split")
    return SplitKey(agreed=False, proof=hmac.digest(key, nonce + address.sender.encode(), "sha256"))


def said_pseudonyms(heard: Heard, address: Address) -> Message:
    """One chunk, as tables of tests are small."""
    return Pseudonyms(pseudonyms=b"".join(pseudonyms(heard, address.sender)), last=True)


def said_presence(heard: Heard, address: Address) -> Message:
    """Of each of the receiver's pseudonyms, whether every party has it, and nothing of who lacks it."""
    everywhere = set(common_ids(heard))
    flags = [one in everywhere for one in pseudonyms(heard, address.receiver).values()]
    return Presence(bits=np.packbits(np.array(flags, np.bool_)).tobytes())


def said_rows(heard: Heard, address: Address) -> Message:
    """The count, and a keyed digest of the ids in order and of the split's key."""
    code, common = hmac.new(key_of(heard, "rows"), digestmod="sha256"), common_ids(heard)
    for one in common:
        code.update(struct.pack("<I", len(one.encode())) + one.encode())
    compared = hmac.digest(derive_subkey(split_key(heard), "compared rows"), code.digest(), "sha256")
    return AlignedRows(rows=len(common), ids=hmac.digest(compared, address.sender.encode(), "sha256"))


def said_held_out(heard: Heard, _: Address) -> Message:
    """A bit for each common row, in one chunk, as tables of tests are small."""
    return HeldOutRows(bits=np.packbits(heard.label.held_out).tobytes())


def said_decision(heard: Heard, address: Address) -> Message:
    """Two bits of each epoch, which follow from what the label party knows."""
    best = best_epochs(heard)
    job = heard.job
    assert isinstance(job, TrainingJob)
    assert job.early_stopping is not None
    epoch = address.epoch
    latest = max(one for one in best if one <= epoch)
    return EpochDecision(best=epoch in best, go_on=epoch - latest < job.early_stopping.patience)


def best_epochs(heard: Heard) -> set[int]:
    """The epochs that were better than all before them."""
    job, history = heard.job, heard.label.context.history
    assert isinstance(job, TrainingJob)
    rule = job.early_stopping
    assert rule is not None
    more = METRICS[job.link].get(rule.on, False)
    opened = {"loss": history.losses, "held_out_loss": history.held_out_losses}
    values = opened[rule.on] if rule.on in opened else [history.metrics[e][rule.on] for e in sorted(history.metrics)]
    found: set[int] = set()
    best = 0.0
    for epoch, value in zip(count(), values, strict=False):
        gain = value - best if more else best - value
        if not found or gain > rule.least_gain:
            best = value
            found.add(epoch)
    return found


def said_encoding(heard: Heard, address: Address) -> Message:
    """How the sender's columns are encoded; of missing and rare values whether there were any, of constants no mean."""
    encoding = heard.roles[heard.names.index(address.sender)].encoding
    plain = encoding.model_dump()
    for column in plain["columns"]:
        if column["kind"] == "numeric":
            column["mean"] *= column["scale"] > 0
            column["missing"] = 0.5 if 0 < column["missing"] < 1 else 0.0
        else:
            column["missing"] = 0.5 if column["missing"] else 0.0
        if column["kind"] == "categorical":
            column["rare"] = int(column["rare"] > 0)
    return ColumnEncoding(encoding=Encoding.model_validate(plain).model_dump_json().encode())


SAID: Mapping[type[Message], Callable[[Heard, Address], Message]] = {
    OrderCommitment: said_commitment,  # a hash of a uniform contribution, among data parties
    SplitKey: said_split,  # a keyed digest, among data parties
    Pseudonyms: said_pseudonyms,  # keyed hashes of ids, to the helper alone
    Presence: said_presence,  # one bit for each of one's own
    AlignedRows: said_rows,  # a count and a keyed digest, among data parties
    HeldOutRows: said_held_out,  # a bit for each common row, among data parties
    EpochDecision: said_decision,  # two bits that every party may know
    ColumnEncoding: said_encoding,  # how columns become numbers, to the label party alone and where all agreed to it
}
SCORING: Mapping[type[Message], Callable[[Pass, Step, int, int], Row]] = {
    ScoringInputs: Pass.inputs,  # X_i      minus U_i
    ScoringWeights: Pass.weights,  # w_ij     minus v_ij
    ScoringDealtShares: Pass.dealt,  # masks    minus streams of C
    ScoringShare: Pass.preactivation,  # share of z, plus and minus the streams of the zero share
    Scores: Pass.reported,  # z rounded, to the label party alone and only where the job lets it know
}
HELD_OUT: Mapping[type[Message], Callable[[HeldOutPass, Step, int, int], Row | tuple[Row, ...]]] = {
    HeldOutInputs: HeldOutPass.inputs,  # as in any pass
    HeldOutWeights: HeldOutPass.weights,
    HeldOutDealtShares: HeldOutPass.dealt,
    HeldOutShare: HeldOutPass.preactivation,
    HeldOutLabels: HeldOutPass.loss_labels_row,  # as in training
    HeldOutTerms: HeldOutPass.loss_terms,
    HeldOutLossShare: HeldOutPass.loss_share,
}
TRAINING: Mapping[type[Message], Callable[[Book, Step, int, int], Row | tuple[Row, ...]]] = {
    MaskedInputs: Book.inputs,  # X_i      minus U_i
    CheckedMasks: Book.checked,  # U_i s_i  minus U*_i, and k_ij t_i minus M*_ij
    MaskedLabels: Book.labels,  # y        minus m_y
    MaskedWeights: Book.weights,  # w_ij     minus v_ij
    GradientShare: Book.gradient,  # masks    minus r_ij, and masks of the check minus R*_ij
    PreactivationShare: Book.preactivation,  # share of z, plus and minus the streams of the zero share
    MaskedActivation: Book.activation,  # a        minus every m_ij
    MaskedLossLabels: Book.loss_labels_row,  # y'       minus U_y
    LossTerms: Book.loss_terms,  # zeta     minus every n_j, and masks plus every q_j
    LossShare: Book.loss_share,  # masks    minus q_j of the epoch; all of them open one number
    WeightShare: Book.released,  # w_ij, to i alone and under release = owners alone
    InterceptShare: Book.released_intercept,  # w0_j, to the label party alone
    ModelOpening: Book.opened_model,  # w_ij     minus the model's v_ij, once for all predictions
    ModelShare: Book.released_model,  # w_ij of every i, and w0_j, to the label party alone and where all agreed to it
}
# The last: own columns' scores, under a zero share.
LEDGER: set[type[Message]] = {*TRAINING, *SCORING, *HELD_OUT, PartialScores}
