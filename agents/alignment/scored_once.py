"""Keeps a model from scoring any row twice, at data parties other than the label party.

It refuses rows of another job before a score leaves. A later attempt of the same run may score its rows again.
"""

from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.scored_ids import IdMarks, ScoredIds, UnusableMarks
from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext


class ScoredOnce:
    """Checks the rows that one job scores under one model; the label party skips it."""

    def __init__(self, context: JobContext, scored: ScoredIds, marks: IdMarks) -> None:
        self._context, self._scored, self._marks = context, scored, marks

    @classmethod
    async def check(cls, context: JobContext, scored: ScoredIds, ids: pa.Array, rows: NDArray[np.int64]) -> Self:
        """Check that no other job has scored any of these rows of the table.

        Raises:
            JobProblem: another job has, and this party's settings forbid it; or the marks cannot be read.
        """
        try:
            found = cls(context, scored, await context.compute(scored.mark_ids, ids, rows))
            again = 0 if found._permitted else await context.compute(scored.repeated, found._marks)
        except (UnusableMarks, OSError) as problem:
            raise _unusable(context.me, problem) from None
        found._refuse(again)
        return found

    async def note_scored(self) -> None:
        """Store on the disk that the rows are scored, before a score leaves.

        Raises:
            JobProblem: another job has scored some of them since, or the disk cannot be written.
        """
        try:
            again = await self._context.compute(self._scored.note, self._marks, repeat=self._permitted)
        except (UnusableMarks, OSError) as problem:
            raise _unusable(self._context.me, problem) from None
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


def _unusable(me: str, problem: UnusableMarks | OSError) -> JobProblem:
    detail = str(problem) if isinstance(problem, UnusableMarks) else f"{problem.filename}: {problem.strerror}"
    public = f"{me} cannot note which rows a model has scored, and lets none be scored without that note"
    return JobProblem("disk.write", me, public, detail)
