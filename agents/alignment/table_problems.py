"""Reports an unusable table, or a label that does not fit, to the parties of a job.

The owner reads the whole problem as `detail`. The others read no value, and only columns that the job names.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.mpc.functions.labels import LabelProblem
from tercet.schemas.files.invalid import Invalid
from tercet.tables.core.problem import SHOWN, TableProblem, join_names
from tercet.tables.encoding.label import UnfitLabel


@contextmanager
def report_table(context: JobContext) -> Iterator[None]:
    """Raise JobProblem where the block finds that the table, or its login, cannot be used."""
    try:
        yield
    except (Invalid, KeyProblem) as problem:
        public = f"at {context.me} the login to a database cannot be read"
        raise JobProblem("table.unusable", context.me, public, str(problem)) from None
    except TableProblem as problem:
        raise _unusable_table(context, problem) from None


@contextmanager
def report_label(context: JobContext, link: str) -> Iterator[None]:
    """Raise JobProblem where the block finds that the label does not fit a model of this link."""
    try:
        yield
    except (UnfitLabel, LabelProblem) as problem:
        raise unfit_label(context, link, problem) from None


def _unusable_table(context: JobContext, problem: TableProblem) -> JobProblem:
    """Blame this party, or the submitter where the job names columns that the table lacks."""
    me = context.me
    asked = context.job.description.columns_of(me) or ()
    if lacking := [name for name in problem.lacks if name in asked]:
        reason = (
            f"the job's [columns] names {join_names(lacking, SHOWN)} for {me}, and {me}'s table "
            f"{context.description.table_of(me)!r} has no such column: correct [columns] {me} "
            f"in the job, or ask {me}"
        )
        return JobProblem("policy.columns", context.job.submitter, reason, problem.what)
    return JobProblem("table.unusable", me, f"at {me} {problem.public}", str(problem))


def unfit_label(context: JobContext, link: str, problem: UnfitLabel | LabelProblem) -> JobProblem:
    """Blame this party for labels that do not fit the job's model."""
    table = context.description.table_of(context.me)
    detail = str(problem) if isinstance(problem, UnfitLabel) else f"the label of table {table!r}: {problem}"
    public = f"at {context.me} the label of table {table!r} does not fit a {link} model"
    return JobProblem("table.label", context.me, public, detail)
