"""The ledger of a recorded run: for every tensor that any role received, the value it stands for and the masks on it.

Values come from the plaintext oracle and the secret order, masks from the addresses at which the run drew them; of what
the parties sent, nothing is used here but to compare.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mpc import reference
from mpc.fixed import decode, encode, encode_number
from mpc.reference import Weights
from mpc.ring import Words, total
from mpc.schedule import Step
from schemas.address import Address
from schemas.messages import (
    GradientShare,
    InterceptShare,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    Message,
    PreactivationShare,
    WeightShare,
)
from tests.agents.recording import Heard, Mask
from tests.agents.world import HELPER


class Row(NamedTuple):
    """What a received tensor is made of: value + plus - minus."""

    value: Words
    plus: Sequence[Mask] = ()
    minus: Sequence[Mask] = ()


@dataclass
class Book:
    """The values of a run by the protocol's symbols; parties are numbers, L is the label party."""

    heard: Heard

    def __post_init__(self) -> None:
        self.names, self.plan, self.order = self.heard.names, self.heard.plan, self.heard.order
        self.ids, self.L = range(len(self.names)), self.heard.sample.label
        self.steps = list(self.plan.steps())
        self._partner: dict[tuple[int, int], list[Words]] = {}
        self._intercept: dict[int, list[Words]] = {}

    def others(self, i: int) -> list[int]:
        """All data parties but one."""
        return [j for j in self.ids if j != i]

    # masks

    def mask(self, name: str, i: int, j: int, step: Step) -> Mask:
        """The address of U_i, m_y, v_ij, m_ij, r_ij (of their holder and the helper), or of a zero share's stream."""
        holder = {"U": i, "m_y": i, "zero": i}.get(name, j)
        receiver = self.names[j] if name == "zero" else HELPER
        return Mask(self.names[holder], receiver, "training", name, i, j, step.epoch, step.position)

    def words(self, mask: Mask) -> Words:
        """What was drawn there."""
        assert mask in self.heard.ear.masks, f"{mask} was never drawn"
        return self.heard.ear.masks[mask]

    def drawn(self, name: str, i: int, j: int, step: Step) -> Words:
        """Both in one."""
        return self.words(self.mask(name, i, j, step))

    # values that no party's message tells

    @cached_property
    def history(self) -> list[Weights]:
        """The oracle's weights before each step, and at the end."""
        xs, y = self.heard.xs, self.heard.y
        return [reference.train(xs, y, self.plan, self.order, stop=t) for t in range(len(self.steps) + 1)]

    def signs(self, step: Step) -> Words:
        """Of the batch, (rows, 1)."""
        return self.order.signs(step, odd=self.plan.activation.odd)

    def x(self, i: int, step: Step) -> Words:
        """s X_i of the batch, in secret order."""
        return self.signs(step) * self.heard.xs[i][self.order.rows(step)]

    def y(self, step: Step) -> Words:
        """s times the scaled labels."""
        return self.signs(step) * encode(step.scale * self.heard.y[self.order.rows(step)], self.plan.f)

    def scores(self, step: Step) -> Words:
        """The true pre-activations of the batch, neither signed nor noised."""
        before, rows = self.history[step.index], self.order.rows(step)
        intercept = encode_number(1.0 / step.alpha, self.plan.fx) * before.intercept
        return total(x[rows] @ block for x, block in zip(self.heard.xs, before.blocks, strict=True)) + intercept

    def z(self, step: Step) -> Words:
        """What the helper may see."""
        return self.signs(step) * self.scores(step) + self.order.noise(step, self.plan.fz)

    def a(self, step: Step) -> Words:
        """The activation, scaled."""
        scores = step.alpha * decode(self.z(step), self.plan.fz)
        return encode(step.scale * self.plan.activation.phi(scores), self.plan.f)

    def masked_x(self, i: int, step: Step) -> Words:
        """E_i."""
        return self.x(i, step) - self.drawn("U", i, i, step)

    def share(self, i: int, j: int, t: int) -> Words:
        """w_ij before step t, j's share of i's block; i's own is what the others leave of the oracle's weights."""
        if i == j:
            return self.history[t].blocks[i] - total(self.share(i, other, t) for other in self.others(i))
        shares = self._partner.setdefault((i, j), [np.zeros_like(self.history[0].blocks[i])])
        for step in self.steps[len(shares) - 1 : t]:
            known = self.drawn("M", i, j, step)
            if j == self.L:
                known = known - self.drawn("m_y", j, j, step)
            shares.append(shares[-1] - (self.masked_x(i, step).T @ known + self.drawn("R", i, j, step)))
        return shares[t]

    def intercept_share(self, j: int, t: int) -> Words:
        """w0_j before step t."""
        if j == self.L:
            return self.history[t].intercept - total(self.intercept_share(other, t) for other in self.others(j))
        shares = self._intercept.setdefault(j, [np.zeros((1, 1), np.uint64)])
        for step in self.steps[len(shares) - 1 : t]:
            back = encode_number(step.after, self.plan.fx)
            shares.append(shares[-1] - back * (self.signs(step).T @ self.drawn("M", self.L, j, step)))
        return shares[t]

    # the rows

    def inputs(self, step: Step, i: int, _: int) -> Row:
        """E_i = s X_i - U_i."""
        return Row(self.x(i, step), minus=[self.mask("U", i, i, step)])

    def labels(self, step: Step, i: int, _: int) -> Row:
        """y~ = s y - m_y."""
        return Row(self.y(step), minus=[self.mask("m_y", i, i, step)])

    def weights(self, step: Step, j: int, i: int) -> Row:
        """f_ij = w_ij - v_ij."""
        return Row(self.share(i, j, step.index), minus=[self.mask("V", i, j, step)])

    def gradient(self, step: Step, _: int, i: int) -> Row:
        """g_i = U_i^T (M_i - [i != L] m_y) - sum_j r_ij."""
        known = total(self.drawn("M", i, j, step) for j in self.others(i))
        if i != self.L:
            known = known - self.drawn("m_y", self.L, self.L, step)
        masks = [self.mask("R", i, j, step) for j in self.others(i)]
        return Row(self.drawn("U", i, i, step).T @ known, minus=masks)

    def preactivation(self, step: Step, i: int, _: int) -> Row:
        """z_i = X_i (w_ii + sum_j f_ij) + sum_j E_j v_ji + the intercept's part + [i first] noise + 0_i."""
        t, others = step.index, self.others(i)
        opened = [self.share(i, j, t) - self.drawn("V", i, j, step) for j in others]
        value = self.x(i, step) @ total([self.share(i, i, t), *opened])
        value = value + total(self.masked_x(j, step) @ self.drawn("V", j, i, step) for j in others)
        value = value + self.signs(step) * encode_number(1.0 / step.alpha, self.plan.fx) * self.intercept_share(i, t)
        if i == 0:
            value = value + self.order.noise(step, self.plan.fz)
        plus = [self.mask("zero", i, j, step) for j in others if j > i]
        return Row(value, plus, [self.mask("zero", j, i, step) for j in others if j < i])

    def activation(self, step: Step, _: int, i: int) -> Row:
        """p_i = a - M_i."""
        return Row(self.a(step), minus=[self.mask("M", i, j, step) for j in self.others(i)])

    def released(self, _: Step, j: int, i: int) -> Row:
        """w_ij at the end, to the block's owner: with its own share it opens the block, as the job says it should."""
        return Row(self.share(i, j, len(self.steps)))

    def released_intercept(self, _: Step, j: int, __: int) -> Row:
        """w0_j at the end, to the label party."""
        return Row(self.intercept_share(j, len(self.steps)))

    def row(self, address: Address, message: Message) -> Row:
        """The row of one received tensor."""
        numbers = {name: number for number, name in enumerate(self.names)} | {HELPER: -1}
        step = next(s for s in self.steps if (s.epoch, s.position) == (address.epoch, address.step))
        return LEDGER[type(message)](self, step, numbers[address.sender], numbers[address.receiver])


LEDGER: Mapping[type[Message], Callable[[Book, Step, int, int], Row]] = {
    MaskedInputs: Book.inputs,  # X_i      minus U_i
    MaskedLabels: Book.labels,  # y        minus m_y
    MaskedWeights: Book.weights,  # w_ij     minus v_ij
    GradientShare: Book.gradient,  # masks    minus every r_ij
    PreactivationShare: Book.preactivation,  # share of z, plus and minus the streams of the zero share
    MaskedActivation: Book.activation,  # a        minus every m_ij
    WeightShare: Book.released,  # w_ij, to i alone and under release = owners alone
    InterceptShare: Book.released_intercept,  # w0_j, to the label party alone
}
