"""Trains a network as the helper: deals products of masks, and answers each step.

It sees what `forward_helper` sees in a forward pass, and nothing more on the way back.
"""

from collections.abc import Mapping

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import Words, product_transposed, total, transposed_product
from tercet.mpc.interface.script import Script, Send
from tercet.mpc.linear import checks
from tercet.mpc.linear.algebra import gradient_share
from tercet.mpc.linear.helper import ActivationFunction, activation, largest_score
from tercet.mpc.linear.loss import LossHelper
from tercet.mpc.network.forward_helper import ForwardHelper
from tercet.mpc.plan.architecture import NARROW_BITS, Entry, Tensors, pack
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks

HIDDEN_LIMIT = 256.0  # no useful hidden pre-activation is larger, and the planner counts on it


class NetworkHelper(ForwardHelper):
    """The helper in one attempt of a training. Not to be shared by threads.

    `deal` may run any number of steps before the answers. A step's answers come in order: `answer_hidden` for each
    layer, then `answer_output`.

    Args:
        plan: The job's agreed numbers, with a network.
        label: The label party's index.
        masks: Shared with each data party, by its index.
        answer: How the output's activation is computed.
        first: The first step of this attempt.
        loss: Where the job wants that.
    """

    limit = HIDDEN_LIMIT

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
        super().__init__(plan, masks)
        self._plan, self._label, self._answer, self._loss = plan, label, answer, loss
        self._answered: tuple[Step, Words] | None = None
        self.largest = 0.0  # score of the steps answered so far, of whichever sign
        self._turns = Turns(first)

    @property
    def slope_bits(self) -> int:
        """Fractional bits of slopes."""
        return self._plan.fx if self._plan.smooth else 0

    def deal(self, step: Step) -> dict[int, Words]:
        """Compute the words dealt to each data party for a step.

        Each gets g_i; the carrier gets all products too, flat.
        """
        self._turns.begin_step("deal", step)
        layout, smooth, below = self.layout, self._plan.smooth, self.masks_below(step)
        values = self.deal_forward(step, below, slopes=True)
        errors = [self._error_mask(k, step) for k in layout.hidden]
        self._deals[step.index].output = self._output_mask(step)
        for k in layout.hidden:
            values |= self._deal_backward(k, step, below[k], errors[k])
        explicit = self.explicit(layout.dealt(step.rows, smooth=smooth), values, step)
        return {i: self._deal_to(i, step, explicit) for i in self.parties}

    def _deal_to(self, i: int, step: Step, explicit: Tensors) -> Words:
        plan = self._plan
        block, shape = self.layout.block(i), self.layout.below(0, step.rows)
        u, known = self.features_mask(i, step), self.block_masks("S", i, step, shape)
        if plan.request.checks:
            partners = (j for j in self.parties if j != i)
            g = checks.deal_checked(
                i, plan.checks, self._masks, step, u=u, known=dict(zip(partners, known, strict=True))
            )
        else:
            g = gradient_share(u, total(known), self.block_masks("R", i, step, block))
        return pack(self._entries(i, step), {("g", 0): g} | explicit)

    def _entries(self, i: int, step: Step) -> tuple[Entry, ...]:
        return self.layout.dealt_to(i, step.rows, smooth=self._plan.smooth, checks=self._plan.checks)

    def _output_mask(self, step: Step) -> Words:
        return self.mask("m", self.layout.last, step, (step.rows, self.layout.outputs))

    def _error_mask(self, k: int, step: Step) -> Words:
        """Return the mask of the error above hidden layer k."""
        if k != self.layout.last:
            return self.mask("o", k, step, (step.rows, self.layout.widths[k + 1]))
        shape = (step.rows, self.layout.outputs)
        return self._output_mask(step) - self._masks[self._label]("m_y", self._label, self._label, step, shape)

    def _deal_backward(self, k: int, step: Step, below: Words, error: Words) -> Tensors:
        """Compute products and truncation parts for the weights above hidden layer k."""
        layout, shape = self.layout, self.layout.elements(k, step.rows)
        tau, rd = self._deals[step.index].slopes[k], self.mask("rd", k, step, shape)
        rw = self.mask("rw", k, step, layout.upper(k))
        high, top = truncation.high_part(rd, NARROW_BITS), truncation.top_bit(rd)
        values = {
            ("qo", k): transposed_product(below, error),
            ("ov", k): product_transposed(error, self.mask("v", k, step, layout.upper(k))),
            ("hw", k): truncation.high_part(rw, self._plan.fw - NARROW_BITS),
            ("tw", k): truncation.top_bit(rw),
            ("h", k): high,
            ("t", k): top,
            ("ht", k): high * tau,
            ("tt", k): top * tau,
        }
        if self._plan.smooth:
            rs = self.mask("rs", k, step, shape)
            values["h2", k], values["t2", k] = truncation.high_part(rs, self._plan.fx), truncation.top_bit(rs)
        return values

    def answer_output(self, step: Step, shares: Mapping[int, Words]) -> Words:
        """Compute the scaled activation less its mask, for every data party alike.

        (rows of the batch, outputs), F bits.

        Raises:
            Diverged: a score or the activation leaves the plan's range.
            ShapeProblem: naming the data party whose share has the wrong shape.
        """
        z = self.open_scores(step, shares)
        deal = self.dealt_masks(step)
        self._turns.begin_step("output", step)
        assert deal.output is not None
        answer = self._answer(self._plan, step, z) - deal.output
        self._answered, self.largest = (step, z), max(self.largest, largest_score(step, z, self.plan.fz))
        del self._deals[step.index]
        return answer

    def deal_step(self, step: Step) -> Script[None]:
        """Deal a step, as a script."""
        for i, words in self.deal(step).items():
            yield Send("dealt", 0, (i,), words)

    def run_online(self, step: Step) -> Script[None]:
        """Answer a step, as a script."""
        shares = yield from self.run_forward(step)
        yield Send("output answer", 0, tuple(self.parties), self.answer_output(step, shares))
        if self._loss is not None:
            yield Send("loss terms", 0, (self._label,), self._loss.terms(step, self.scores))

    @property
    def scores(self) -> Floats:
        """Scores of the step answered last, (rows of the batch, outputs), under secret signs."""
        if self._answered is None:
            raise OutOfTurn("no step is answered yet")
        step, z = self._answered
        return step.alpha * decode(z, self.plan.fz)
