"""Trains the folds of a job one after another, and then the model of all rows.

Each training is planned, masked and resumed by itself, on the rows that one alignment has found.
"""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Generic, Protocol, TypeVar

from tercet.agents.session.agreed import AgreedContext, TrainingContext
from tercet.agents.session.context import JobContext
from tercet.agents.session.findings import Findings
from tercet.agents.session.history import History
from tercet.schemas.files.job import TrainingJob

EPOCHS: Final = 2**20  # more than a training has: so far apart are the addresses of two trainings' messages


class SetUpTraining(Protocol):
    """Holds a training's means as all have agreed on them."""

    @property
    def context(self) -> AgreedContext:
        """With terms."""
        ...


Setup = TypeVar("Setup", bound=SetUpTraining)
Result = TypeVar("Result")


class Folds(Generic[Setup, Result]):
    """Runs all trainings of a job at one party; a job without folds has one.

    Args:
        context: of the job; the model of all rows is trained under its history, statistics and findings.
        job: what is asked for.
        set_up: sets up the training of a context, whose description is given beside it.
        run_steps: runs all steps of one.
    """

    def __init__(
        self,
        context: JobContext,
        job: TrainingJob,
        set_up: Callable[[JobContext, TrainingJob], Awaitable[Setup]],
        run_steps: Callable[[Setup], Awaitable[Result]],
    ) -> None:
        self._context, self._job, self._set_up, self._run_steps = context, job, set_up, run_steps
        self._files = ExitStack()  # of the training that runs
        folds = job.evaluation.folds
        self._left: list[int | None] = [*range(1, folds + 1), None]

    async def set_up(self) -> Setup:
        """Set up the first training that has steps left, or the last.

        Folds that an earlier attempt has trained are scored again, alike.
        """
        setup = await self._set_up_next()
        while self._left and isinstance(setup.context, TrainingContext) and setup.context.all_steps_done:
            await self._run(setup)
            setup = await self._set_up_next()
        return setup

    async def run_steps(self, setup: Setup) -> Result:
        """Run this training and all that follow; return the result of the last."""
        result = await self._run(setup)
        while self._left:
            result = await self._run(await self._set_up_next())
        return result

    async def _set_up_next(self) -> Setup:
        if not self._job.evaluation.folds:
            self._left.clear()
            return await self._set_up(self._context, self._job)
        context, fold, job = self._context, self._left.pop(0), self._job
        context.mailbox.first_epoch = context.trace.first_epoch = (job.evaluation.folds - len(self._left)) * EPOCHS
        context.statistics.begin_fold(fold)
        job = job.of_fold(fold)
        if fold is None:
            context = replace(context, description=job)
        else:
            self._files = context.files.enter_context(ExitStack())
            context = replace(
                context, description=job, fold=fold, history=History(), findings=Findings(), files=self._files
            )
        return await self._set_up(context, job)

    async def _run(self, setup: Setup) -> Result:
        result = await self._run_steps(setup)
        if setup.context.fold is not None:
            self._files.close()
            if metrics := setup.context.history.last_metrics:
                self._context.history.folds.append(metrics)
        return result
