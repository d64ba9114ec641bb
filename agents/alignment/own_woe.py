"""Finds the weights of evidence (WOE) by which a training encodes this party's columns.

It narrows the table to the columns that have some.

It reads this party's own files. A party that has none refuses the job before anything of a row has left.
"""

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.table import is_offered, narrow_table
from tercet.agents.session.context import JobContext
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.settings import TableSettings
from tercet.schemas.files.statistics import CountedRows
from tercet.tables.core.problem import SHOWN, join_names
from tercet.tables.encoding.woe import NO_WOE, WoeByColumn


def own_woe(context: JobContext) -> WoeByColumn:
    """Read the weights of evidence that the job names; none where it names none.

    Raises:
        JobProblem: this party has no such, and is named. Or they are of another table or label, or of rows that the job
            holds out; whoever wrote the job can mend it.
    """
    job, me = context.description, context.me
    if not isinstance(job, TrainingJob) or job.encoding.woe is None:
        return NO_WOE
    try:
        woe, counted = context.read_woe(context.settings.state, job.encoding.woe, job.label)
    except Invalid as problem:
        reason = (
            f"{me} has no weights of evidence from {job.encoding.woe}: run that statistics job with woe = true, and "
            f"name its id; or leave out [encoding] woe"
        )
        raise JobProblem("encoding.woe", me, reason, str(problem)) from None
    _check_tables(context, job, counted)
    _check_held_out(context, job, counted)
    return woe


def _check_tables(context: JobContext, job: TrainingJob, counted: CountedRows) -> None:
    """Check that the statistics are of this party's table and of the job's label."""
    tables, label = dict(counted.tables), context.settings.tables[job.table_of(context.me)].label
    other = [party for party in (context.me, job.label) if tables.get(party) != job.table_of(party)]
    if other or (context.is_label_party and counted.label_column != label):
        what = "another table" if other else "another column of labels"
        raise JobProblem(
            "encoding.woe",
            context.job.submitter,
            f"{job.encoding.woe} counted {what} of {(*other, job.label)[0]} than this job trains on: run statistics of "
            f"the tables and label of this job, and name their id",
        )


def _check_held_out(context: JobContext, job: TrainingJob, counted: CountedRows) -> None:
    """Check that no held-out row was counted, as weights of evidence tell its label."""
    mine, parties = job.evaluation, {party for party, _ in counted.tables}
    if not mine.holds_out:
        return
    alike = mine.is_lasting and mine.chosen_rows == counted.evaluation.chosen_rows
    if not alike or (mine.split is not None and parties != {*job.data_parties}):
        raise JobProblem(
            "encoding.woe",
            context.job.submitter,
            f"{job.encoding.woe} counted rows that this job holds out, so that their labels would be in its columns: "
            f"write the same holdout and split, or the same holdout_column, under [evaluation] of both jobs, with the "
            f"same data parties, and run statistics anew; or hold no rows out",
        )


def job_table(context: JobContext, beside: tuple[str, ...] = ()) -> TableSettings:
    """Restrict this party's table to the columns that the job uses, and those `beside`.

    Where it encodes by weights of evidence, these are the ones that have some.

    Raises:
        JobProblem: it names a column that has none, or this party has none at all.
    """
    job, me = context.description, context.me
    table, columns = context.settings.tables[job.table_of(me)], job.columns_of(me)
    beside = tuple(column for column in job.columns_beside(me) if column in table.beside) + beside
    columns = None if columns is None else tuple(name for name in columns if is_offered(table, name))
    if isinstance(job, TrainingJob) and job.encoding.woe is not None:
        woe = own_woe(context)
        without = [name for name in columns or () if name not in woe]
        if without:
            raise JobProblem(
                "encoding.woe",
                context.job.submitter,
                f"{me} was told no weight of evidence of column {join_names(without, SHOWN)} in "
                f"{job.encoding.woe}: leave it out of [columns] {me} in the job",
            )
        columns = tuple(name for name in woe if is_offered(table, name)) if columns is None else columns
        if not columns and not context.is_label_party:
            raise JobProblem(
                "encoding.woe",
                me,
                f"{me} lets jobs use no column that has a weight of evidence from {job.encoding.woe}: list some under "
                f"`columns` in its settings, or run that statistics job again",
            )
    return narrow_table(table, columns, beside)
