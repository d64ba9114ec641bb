"""The helper's part of a job: it deals gradient shares ahead of time and computes the activation of each step.

It holds no table, takes no part in the secret order, and keeps nothing of a step once that is answered.
"""

import asyncio
from pathlib import Path

from agents.context import JobContext
from agents.pace import Count, look_ahead
from agents.problems import JobProblem
from mpc.helper import Diverged, Helper
from mpc.schedule import Step
from schemas.messages import GradientShare, MaskedActivation, PreactivationShare
from schemas.tensor import Words


class HelperRole:
    """The role behind `lifecycle.Role` for the helper."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._names = dict(enumerate(context.description.data_parties))
        self._begun, self._dealt, self._answered = Count(), Count(), Count()

    async def prepare(self) -> tuple[int, int]:
        """A helper has no table."""
        return 0, 0

    async def align(self) -> None:
        """A helper has no part in the order of the rows."""

    async def train(self) -> None:
        """All steps."""
        context = self._context
        masks = {number: context.masks(name) for number, name in self._names.items()}
        helper = Helper(context.ready_plan, context.number(context.description.label), masks)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._deal(helper))
            loops.create_task(self._answer(helper))

    async def release(self) -> Path | None:
        """A helper keeps nothing."""
        return None

    async def _deal(self, helper: Helper) -> None:
        context = self._context
        ahead = look_ahead(context.ready_plan, context.settings.limits)
        await self._begun.reaches(1)
        for step in context.ready_plan.steps():
            await self._answered.reaches(step.index + 1 - ahead)
            shares = await context.compute_step(helper.gradient_shares, step)
            for number, words in shares.items():
                await self._send(GradientShare(words=words), number, step)
            self._dealt.rise()

    async def _answer(self, helper: Helper) -> None:
        context = self._context
        for step in context.ready_plan.steps():
            shares = await self._receive(step)
            self._begun.rise()  # the data parties agree on rows and order: before that nothing is dealt
            await self._dealt.reaches(step.index + 1)
            try:
                answers = await context.compute_step(helper.masked_activations, step, shares)
            except Diverged as diverged:
                raise JobProblem(
                    "training.diverged",
                    context.job.submitter,
                    f"step {step.index}: {diverged.reason}; run the job again with a smaller rate or a faster decay",
                ) from None
            for number, words in answers.items():
                await self._send(MaskedActivation(words=words), number, step)
            context.statistics.finished(step.epoch, step.index)
            self._answered.rise()

    async def _send(self, message: GradientShare | MaskedActivation, number: int, step: Step) -> None:
        deadline = self._context.deadline("step")
        await self._context.mailbox.send(message, [self._names[number]], deadline, epoch=step.epoch, step=step.position)

    async def _receive(self, step: Step) -> dict[int, Words]:
        mail, shape = self._context.mailbox, (step.rows, self._context.ready_plan.outputs)
        parties = self._context.description.data_parties
        deadline = self._context.deadline("step")
        letters = await mail.receive(PreactivationShare, parties, deadline, epoch=step.epoch, step=step.position)
        words = mail.words(letters, lambda _: shape)
        return {number: words[name] for number, name in self._names.items()}
