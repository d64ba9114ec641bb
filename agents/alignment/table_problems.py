"""Reports an unusable table, or a label that does not fit, to the parties of a job.

Its owner reads all of it as `detail`; the others read no column but one that the job itself names, and no value.
"""

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.mpc.functions.labels import LabelProblem
from tercet.tables.core.problem import SHOWN, TableProblem, join_names
from tercet.tables.encoding.label import UnfitLabel


def unusable_table(context: JobContext, problem: TableProblem) -> JobProblem:
    """Blame this party, but for columns that the job names and its table lacks the submitter."""
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


def unfit_label(context: JobContext, problem: UnfitLabel | LabelProblem) -> JobProblem:
    """Blame this party for labels that its job's model cannot be trained on."""
    table, link = context.description.table_of(context.me), context.training.link
    detail = str(problem) if isinstance(problem, UnfitLabel) else f"the label of table {table!r}: {problem}"
    public = f"at {context.me} the label of table {table!r} does not fit a {link} model"
    return JobProblem("table.label", context.me, public, detail)
