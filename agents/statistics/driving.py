"""Drives a role's scripts of a statistics job, some batches at a time."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tercet.agents.core.problems import UNDECIDED, JobProblem
from tercet.agents.protocol.script_driver import STATISTICS, ScriptDriver
from tercet.agents.statistics.terms import StatisticsContext
from tercet.mpc.interface.script import Script
from tercet.mpc.plan.schedule import Step
from tercet.mpc.statistics.opening import WrongOpening

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Widths:
    """Describes the widths of a batch's tensors, as the driver asks for them."""

    columns: tuple[int, ...]
    turns: int
    hidden: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()


class StatisticsDriver:
    """Drives the scripts of one role."""

    def __init__(self, context: StatisticsContext) -> None:
        self._context, plan = context, context.plan
        self._last = plan.last
        bins = tuple(plan.masked_words(j) for j in plan.partners)
        self._scripts = ScriptDriver(context, STATISTICS, _Widths((*bins, *plan.correlated), plan.turns), plan.batch)

    async def run(self, script: Script[T], step: Step) -> T:
        """Drive one script to its end.

        At the first and the last batch others may still encode their tables.

        Raises:
            Overdue, JobProblem: something did not come in time, or came in a wrong shape, or cannot be.
        """
        patient = step.index in {0, self._last}
        try:
            return await self._scripts.run(script, step, self._context.deadline("fit" if patient else "step"))
        except WrongOpening:
            raise _wrong_opening(self._context) from None

    async def run_pass(self, script: Callable[[Step], Script[None]]) -> None:
        """Drive the scripts of the pass, whose steps are the job's progress, as `run_all`."""
        await self.run_all(self._context.plan.steps(), script, self._context.note_finished_step)

    async def run_all(
        self,
        steps: Iterable[Step],
        script: Callable[[Step], Script[None]],
        note: Callable[[Step], None] = lambda _: None,
    ) -> None:
        """Drive the scripts of all steps, some side by side, and the last one alone.

        As many are begun as the settings let go ahead. A finished one is given to `note`.

        Raises:
            Overdue, JobProblem: as `run`, in a group.
        """
        free = asyncio.Semaphore(self._context.settings.limits.look_ahead)

        async def run_step(step: Step) -> None:
            try:
                await self.run(script(step), step)
                note(step)
            finally:
                free.release()

        ordered = [*steps]
        async with asyncio.TaskGroup() as tasks:
            for step in ordered[:-1]:
                await free.acquire()
                tasks.create_task(run_step(step))
        for last in ordered[-1:]:
            await run_step(last)


def _wrong_opening(context: StatisticsContext) -> JobProblem:
    """Blame nobody: shares of any party, or of the helper, may be wrong."""
    parties = " or ".join(context.description.parties)
    return JobProblem(
        "statistics.opened",
        UNDECIDED,
        f"what was opened to {context.me} cannot be counts of rows or products of columns, and no message tells whose "
        f"fault it is, {parties}: do all run the same version? If so, one of them has told others wrong words",
    )
