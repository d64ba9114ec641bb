"""Keeps a model from scoring any row twice, at data parties other than the label party.

It refuses rows of another job before a score leaves. A later attempt of the same run may score its rows again.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.scored_ids import IdMarks, ScoredIds, UnusableMarks, model_of
from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext


class ScoredOnce:
    """Checks the rows that one job scores; the label party, which learns scores, skips it."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._scored: ScoredIds | None = None
        self._marks: IdMarks = np.empty(0, np.uint64)

    async def check(self, model: tuple[str, str], own: AlignedTable) -> None:
        """Check that no other job has scored any of the common rows under a model.

        `model` is the training job and its run in hexadecimal.

        Raises:
            JobProblem: another job has, and this party's settings forbid it; or the marks cannot be read.
        """
        context = self._context
        if context.is_label_party:
            return
        self._scored = ScoredIds(context.settings.state, model, context.job.run)
        await self._check(own, own.rows)

    async def check_held_out(self, own: AlignedTable, chosen: NDArray[np.bool_]) -> None:
        """Note the chosen common rows as scored under the model that this training makes.

        Raises:
            JobProblem: the disk cannot be written.
        """
        if self._context.is_label_party or not chosen.any():
            return
        self._scored = model_of(self._context.settings.state, self._context.job)
        await self._check(own, own.rows[chosen])
        await self.note_scored()

    async def _check(self, own: AlignedTable, rows: NDArray[np.int64]) -> None:
        try:
            again = await self._context.compute(self._look_up, own.table.ids, rows)
        except (UnusableMarks, OSError) as problem:
            raise self._unusable(problem) from None
        self._refuse(again)

    def _look_up(self, ids: pa.Array, rows: NDArray[np.int64]) -> int:
        assert self._scored is not None
        self._marks = self._scored.mark_ids(ids, rows)
        return 0 if self._permitted else self._scored.repeated(self._marks)

    async def note_scored(self) -> None:
        """Store on the disk that the rows are scored, before a score leaves.

        Raises:
            JobProblem: another job has scored some of them since, or the disk cannot be written.
        """
        if self._scored is None:
            return
        try:
            again = await self._context.compute(self._scored.note, self._marks, repeat=self._permitted)
        except (UnusableMarks, OSError) as problem:
            raise self._unusable(problem) from None
        self._refuse(again)

    @property
    def _table(self) -> str:
        return self._context.description.table_of(self._context.me)

    @property
    def _permitted(self) -> bool:
        return self._context.settings.tables[self._table].rescoring

    def _refuse(self, again: int) -> None:
        me = self._context.me
        if again:
            raise JobProblem(
                "policy.rescored",
                me,
                f"{again} of the {len(self._marks)} rows to be scored have been scored under this model before, and "
                f"{me} lets no row be scored twice under one: leave them out, take up the job that failed by `tercet "
                f"job resume`, or ask {me} whether it writes rescoring = true under [tables.{self._table}]",
            )

    def _unusable(self, problem: UnusableMarks | OSError) -> JobProblem:
        me = self._context.me
        detail = str(problem) if isinstance(problem, UnusableMarks) else f"{problem.filename}: {problem.strerror}"
        public = f"{me} cannot note which rows a model has scored, and lets none be scored without that note"
        return JobProblem("disk.write", me, public, detail)
