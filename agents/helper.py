"""The helper's part of a job: it deals gradient shares ahead of time and computes the activation of each step.

It holds no table, takes no part in the secret order, and keeps nothing of a step once that is answered.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from agents.context import JobContext
from agents.pace import look_ahead
from agents.problems import JobProblem
from mpc.helper import Diverged, Helper
from mpc.schedule import Step
from schemas.codec import Companion
from schemas.messages import GradientShare, MaskedActivation, PreactivationShare
from schemas.tensor import Words

Dealt = tuple[Step, dict[int, Words]]  # a step, and each data party's gradient share of it


class HelperRole:
    """The role behind `lifecycle.Role` for the helper."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._names = dict(enumerate(context.description.data_parties))

    async def prepare(self) -> tuple[int, int]:
        """A helper has no table."""
        return 0, 0

    async def align(self) -> None:
        """A helper has no part in the order of the rows."""

    async def train(self) -> None:
        """All steps: answer one, then deal for one further on, whose gradient shares leave with the next answer."""
        context = self._context
        masks = {number: context.masks(name) for number, name in self._names.items()}
        helper = Helper(context.ready_plan, context.number(context.description.label), masks)
        dealing = context.ready_plan.steps()
        ahead = look_ahead(context.ready_plan, context.settings.limits)
        dealt: list[Dealt] = []
        for step in context.ready_plan.steps():
            shares = await self._receive(step)
            if step.index == 0:  # the data parties agree on rows and order: before that nothing is dealt
                dealt = [await self._deal(helper, far) for far in islice(dealing, ahead)]
            await self._answer(helper, step, shares, dealt)
            dealt = [await self._deal(helper, far) for far in islice(dealing, 1)]

    async def release(self) -> Path | None:
        """A helper keeps nothing."""
        return None

    async def _deal(self, helper: Helper, step: Step) -> Dealt:
        return step, await self._context.compute_step(helper.gradient_shares, step)

    async def _answer(self, helper: Helper, step: Step, shares: dict[int, Words], dealt: Sequence[Dealt]) -> None:
        context, deadline = self._context, self._context.deadline("step")
        try:
            answers = await context.compute_step(helper.masked_activations, step, shares)
        except Diverged as diverged:
            raise self._diverged(diverged, step) from None
        for number, words in answers.items():
            along = [Companion(GradientShare(words=g[number]), far.epoch, far.position) for far, g in dealt]
            await context.mailbox.send(
                MaskedActivation(words=words),
                [self._names[number]],
                deadline,
                epoch=step.epoch,
                step=step.position,
                along=along,
            )
        context.statistics.finished(step.epoch, step.index)

    def _diverged(self, diverged: Diverged, step: Step) -> JobProblem:
        return JobProblem(
            "training.diverged",
            self._context.job.submitter,
            f"step {step.index}: {diverged.reason}; run the job again with a smaller rate or a faster decay",
        )

    async def _receive(self, step: Step) -> dict[int, Words]:
        mail, shape = self._context.mailbox, (step.rows, self._context.ready_plan.outputs)
        parties = self._context.description.data_parties
        deadline = self._context.deadline("step")
        letters = await mail.receive(PreactivationShare, parties, deadline, epoch=step.epoch, step=step.position)
        words = mail.words(letters, lambda _: shape)
        return {number: words[name] for number, name in self._names.items()}
