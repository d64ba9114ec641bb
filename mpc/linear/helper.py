"""Deals gradient shares ahead of time, and computes the activation, as the helper.

It never sees features, labels, weights or the order of samples and classes. It sees each batch's z in secret order,
under noise and, where the activation is odd, under secret signs. It forgets a step when it answers the next.

The classes of a batch stand in a secret order too, the same for all its rows, in everything that has a column for each.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, RangeProblem, decode, encode
from tercet.mpc.arithmetic.ring import Words, expect, total
from tercet.mpc.interface.script import Await, Receive, Script, Send, Signal, received_words
from tercet.mpc.linear import checks
from tercet.mpc.linear.algebra import correction, gradient_share
from tercet.mpc.linear.loss import LossHelper
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.forward import noise_half_width
from tercet.mpc.plan.plan import GUARD_BIT, Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks


class Diverged(ArithmeticError):
    """The scores left the range that the plan allows: the job's rate or schedule is at fault.

    Nothing has wrapped.
    """

    def __init__(self, step: Step, reason: str) -> None:
        super().__init__(f"step {step.index}: {reason}; use a smaller learning rate")
        self.step, self.reason = step, reason


ActivationFunction = Callable[[Plan, Step, Words], Words]
"""From z, (rows, outputs) at f_z fractional bits, to the activation times the step's scale at F bits.

This is the one place where an activation comes about; raises Diverged.
"""


def largest_score(step: Step, z: Words, fz: int) -> float:
    """Return the largest |alpha z| of a batch, from raw z that `check_range` has passed."""
    return float(step.alpha * np.ldexp(np.abs(z.view(np.int64)).max(initial=0), -fz))


def check_range(step: Step, z: Words, fz: int) -> None:
    """Check that raw z, of f_z fractional bits, is in the safe half of the words.

    Raises:
        Diverged: if it is not.
    """
    if ((z + np.uint64(1 << GUARD_BIT)) >> np.uint64(63)).any():
        raise Diverged(step, f"a pre-activation reached 2^{GUARD_BIT - fz}")


def activation(plan: Plan, step: Step, z: Words) -> Words:
    """Compute encode(scale phi(alpha decode(z))), after the guards.

    No exp is taken of anything beyond the limit.

    Raises:
        Diverged: if z or the activation leaves the plan's range.
    """
    check_range(step, z, plan.fz)
    scores = step.alpha * decode(z, plan.fz)
    if not (plan.link.exposed(scores) <= plan.score_limit).all():
        raise Diverged(step, f"a score exceeded {plan.score_limit:g}")
    try:
        phi = plan.link.phi_of_noisy(scores, noise_half_width(plan, step.alpha))
        return encode(step.scale * phi, plan.f)
    except RangeProblem as problem:
        raise Diverged(step, f"the activation cannot be encoded: {problem}") from problem


class _PendingStep(NamedTuple):
    """Holds a step's data between its gradient shares and its answer."""

    correction: Words  # sum_i U_i sum_j v_ij
    answers: list[Words]  # M_i


class LinearHelper:
    """The helper in one attempt. Not to be shared by threads.

    For each step the scripts `deal_step`, any number of steps ahead, and `run_online`. Within them `gradient_shares`
    and `masked_activations` are asked for once, in the order of the steps; anything else raises OutOfTurn.

    Args:
        plan: The job's agreed numbers.
        label: The label party's index.
        masks: Shared with each data party, by its index.
        answer: How the activation is computed.
        first: The first step of this attempt.
        loss: Where the job wants that.
    """

    def __init__(
        self,
        plan: Plan,
        label: int,
        masks: Mapping[int, Masks],
        answer: ActivationFunction = activation,
        *,
        first: int = 0,
        loss: LossHelper | None = None,
    ) -> None:
        self._plan, self._label, self._masks, self._answer, self._loss = plan, label, masks, answer, loss
        self.layout, self._parties = Layout(plan), range(len(plan.request.columns))
        self._unsent: dict[int, dict[int, Words]] = {}  # gradient shares by step and receiver
        self._deals: dict[int, _PendingStep] = {}
        self._answered: tuple[Step, Words] | None = None
        self.largest = 0.0  # score of the steps answered so far, of whichever sign
        self._turns = Turns(first)

    def deal_step(self, step: Step) -> Script[None]:
        """Deal a step's gradient shares, which leave with the next answer."""
        self._unsent[step.index] = self.gradient_shares(step)
        yield Signal("dealt")

    def run_online(self, step: Step) -> Script[None]:
        """Answer a step."""
        due = dict.fromkeys(self._parties, (step.rows, self._plan.outputs))
        shares = received_words((yield Receive("output share", 0, due)))
        yield Await("dealt")
        answers = self.masked_activations(step, shares)
        terms = () if self._loss is None else (("loss terms", self._loss.terms(step, self.scores)),)
        unsent, self._unsent = self._unsent, {}
        for i, words in answers.items():
            later = tuple((index - step.index, "gradient share", dealt[i]) for index, dealt in unsent.items())
            yield Send("output answer", 0, (i,), words, terms if i == self._label else (), later)

    def gradient_shares(self, step: Step) -> dict[int, Words]:
        """Compute g_i = U_i^T (M_i - [i != L] m_y) - sum_j r_ij for each data party i.

        (its columns, outputs), f_w bits.

        Where data parties check that: its parts g_ij, and what they check them by, in one row (`deal_checked`).
        """
        self._turns.begin_step("gradient shares", step)
        masks, shape = self._masks, (step.rows, self._plan.outputs)
        label_mask = masks[self._label]("m_y", self._label, self._label, step, shape)
        shares, answers, corrections = {}, [], []
        for i in self._parties:
            others, block = [j for j in self._parties if j != i], (self._plan.request.columns[i], self._plan.outputs)
            u = masks[i]("U", i, i, step, (step.rows, block[0]))
            parts = {j: masks[j]("M", i, j, step, shape) for j in others}
            dealt = total(parts.values())
            if self._plan.request.checks:
                parts |= {j: parts[j] - label_mask for j in parts if j == self._label}
                shares[i] = checks.deal_checked(i, self._plan.checks, masks, step, u=u, known=parts)
            else:
                known = dealt if i == self._label else dealt - label_mask
                shares[i] = gradient_share(u, known, [masks[j]("R", i, j, step, block) for j in others])
            corrections.append(correction(u, [masks[j]("V", i, j, step, block) for j in others]))
            answers.append(dealt)
        self._deals[step.index] = _PendingStep(total(corrections), answers)
        return shares

    def masked_activations(self, step: Step, shares: Mapping[int, Words]) -> dict[int, Words]:
        """Compute p_i = a - M_i for each data party i, from all shares of z.

        (rows of the batch, outputs), F bits.

        Raises:
            Diverged: if a score leaves the plan's range; the job must stop.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        shape = (step.rows, self._plan.outputs)
        received = [expect(shares[i], shape, f"pre-activation share of party {i}") for i in self._parties]
        if step.index not in self._deals:
            raise OutOfTurn(f"step {step.index} is not dealt, or answered already")
        self._turns.begin_step("masked activations", step)
        deal = self._deals.pop(step.index)
        z = total([*received, deal.correction])
        a = self._answer(self._plan, step, z)
        self._answered, self.largest = (step, z), max(self.largest, largest_score(step, z, self._plan.fz))
        return {i: a - deal.answers[i] for i in self._parties}

    @property
    def scores(self) -> Floats:
        """Scores of the step answered last, alpha z, under its secret signs.

        (rows of the batch, outputs).
        """
        if self._answered is None:
            raise OutOfTurn("no step is answered yet")
        step, z = self._answered
        return step.alpha * decode(z, self._plan.fz)
