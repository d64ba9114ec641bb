"""Checks that a job has as many rows as a party asks for, and warns when few ids match.

Other parties read names of settings and no numbers. Only this party reads counts and forms of ids.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.schemas.files.evaluation import Evaluation
from tercet.tables.matching.ids import describe_ids

FEW_MATCHED = 0.5  # of a table's ids: below it the table's party reads how matched and other ids look


async def check_common(context: JobContext, ids: pa.Array, count: int) -> None:
    """Check that the common rows are as many as this party asks for.

    Raises:
        JobProblem: too few rows are in common.
    """
    name = "min_scored_rows" if context.description.kind == "prediction" else "min_rows"
    least: int = getattr(context.settings.limits, name)
    if count >= least:
        return
    what = await context.compute(describe_ids, ids)
    raise JobProblem(
        "alignment.few",
        context.me,
        f"fewer rows are in common, to train on or to score, than {context.me} asks for: compare which ids the tables "
        f"hold and how they are written, or let {context.me} lower [limits] {name}",
        f"{count} rows are in common to train on or to score, and [limits] {name} is {least}; our ids: {what}. "
        f"If there should be more: is it the others' kind of id, are leading zeros lacking, is it the right table?",
    )


def check_split(context: JobContext, evaluation: Evaluation, marks: NDArray[np.bool_]) -> None:
    """Check that rows to use and held-out rows are as many as this party asks for.

    `marks` (rows,) says which of the rows in common are held out.

    Raises:
        JobProblem: one kind has too few rows, although enough rows are in common.
    """
    limits, me, choice = context.settings.limits, context.me, evaluation.choice
    common, held_out = len(marks), int(marks.sum())
    trained_on = common - held_out
    if trained_on == 0 or (held_out > 0) != evaluation.holds_out:
        raise JobProblem(
            "job.holdout",
            context.job.submitter,
            "the rows in common are so few that none is left to train on, or none to evaluate with: change holdout in "
            "the job, or bring more rows; without a split each run holds out others",
        )
    if trained_on < limits.min_rows:
        raise JobProblem(
            "job.holdout",
            context.job.submitter,
            f"{choice} leaves fewer rows to train on than {me} asks for, though enough are in common: "
            f"hold out fewer in the job, bring more rows, or let {me} lower [limits] min_rows",
            f"{common} rows are in common and {held_out} of them are held out, which leaves {trained_on} to train on; "
            f"[limits] min_rows is {limits.min_rows}",
        )
    if held_out and held_out < limits.min_scored_rows:
        raise JobProblem(
            "alignment.few",
            me,
            f"fewer rows are held out than {me} lets be scored: hold out more, bring more rows, or let {me} lower "
            f"[limits] min_scored_rows",
            f"{held_out} of {common} rows in common are held out, and [limits] min_scored_rows is "
            f"{limits.min_scored_rows}",
        )


def partly_matched(name: str, ids: pa.Array, rows: NDArray[np.int64]) -> str | None:
    """Warn the owner of table `name` if few of its ids are in all tables; else return None.

    It describes ids by their form and shows none. The two forms side by side often tell the cause.
    """
    if not len(ids) or len(rows) >= FEW_MATCHED * len(ids):
        return None
    matched = np.zeros(len(ids), np.bool_)
    matched[rows] = True
    these, others = (describe_ids(ids.filter(pa.array(marks))) for marks in (matched, ~matched))
    return (
        f"only {len(rows):,} of the {len(ids):,} ids of table {name!r} are in all tables. "
        f"Those are {these}; the others are {others}. If more should match: do all parties "
        f"write ids alike, are leading zeros lacking, is it the right table?"
    )
