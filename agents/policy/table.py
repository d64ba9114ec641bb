"""Checks a job against the policy of the one table that it names.

It compares names only, and does not open the table.
"""

from collections.abc import Iterator

from tercet.agents.core.problems import JobProblem
from tercet.schemas.files.job import PredictionJob, TrainingJob
from tercet.schemas.files.settings import Settings, TableSettings
from tercet.schemas.messages.kinds import Job
from tercet.tables.core.problem import SHOWN, join_names


def table_refusals(job: Job, settings: Settings) -> Iterator[JobProblem]:
    """List all refusals of a job by a table's own settings.

    Each names the party that can mend it. The helper has no table.
    """
    me, description = settings.party, job.description
    for helper in description.helpers:
        if helper != me and not settings.partners[helper].may_help:
            yield _wrong_helper(job, settings, helper, f"(may_help under [partners.{helper}])")
    yield from _of_purpose(job, settings, settings.policy.purposes, "[policy] purposes")
    if me in description.helpers:
        return
    name = description.table_of(me)
    table, section = settings.tables[name], f"[tables.{name}]"
    yield from _of_purpose(job, settings, table.purposes, f"purposes under {section}")
    if job.submitter != me and not _among(job.submitter, table.submitters):
        yield JobProblem(
            "policy.submitter",
            job.submitter,
            f"{me} takes no jobs from {job.submitter} over its table {name!r} (submitters under {section})",
        )
    for party in description.data_parties:
        if party != me and not _among(party, table.partners):
            yield JobProblem(
                "policy.parties",
                job.submitter,
                f"{me} does not let its table {name!r} be used together with {party} (partners under {section} at "
                f"{me}): name another table in the job, or ask {me}",
            )
    for helper in description.helpers:
        if not _among(helper, table.helpers):
            yield _wrong_helper(job, settings, helper, f"over its table {name!r} (helpers under {section})")
    yield from _of_job_columns(job, settings, table)


def _of_job_columns(job: Job, settings: Settings, table: TableSettings) -> Iterator[JobProblem]:
    me, description = settings.party, job.description
    if isinstance(description, PredictionJob):
        return
    yield from _of_columns(job, settings, table, description.columns_of(me))
    beside = [(description.holdout_column_of(me), "holdouts", "hold rows out", "correct holdout_column")]
    if isinstance(description, TrainingJob):
        beside.append((description.offset_of(me), "offsets", "shift scores", "name another column"))
        beside.append((description.weights_of(me), "weights", "weigh rows", "name another column"))
    for column, setting, what, mend in beside:
        if column is not None and column not in getattr(table, setting):
            yield JobProblem(
                "policy.columns",
                job.submitter,
                f"{me} lets no job {what} by column {column!r} ({setting} under [tables.{description.table_of(me)}] at "
                f"{me}): {mend} in the job, or ask {me}",
            )


def narrow_table(table: TableSettings, columns: tuple[str, ...] | None, beside: tuple[str, ...] = ()) -> TableSettings:
    """Restrict a table's settings to a job's columns, which `table_refusals` has checked.

    Those `beside` are read too, and are no features: they stand under `holdouts` then, whatever they are for.
    """
    unused = () if table.columns is not None else tuple(dict.fromkeys([*table.exclude, *table.beside]))
    table = table.model_copy(update={"exclude": unused, "holdouts": beside, "offsets": (), "weights": ()})
    if columns is None:
        return table
    lists = {
        kind: tuple(name for name in getattr(table, kind) if name in columns) for kind in ("numeric", "categorical")
    }
    cuts = {name: cuts for name, cuts in table.cuts.items() if name in columns}
    return table.model_copy(update={"columns": columns, "exclude": (), "cuts": cuts, **lists})


def _among(party: str, allowed: tuple[str, ...] | None) -> bool:
    return allowed is None or party in allowed


def _wrong_helper(job: Job, settings: Settings, helper: str, where: str) -> JobProblem:
    me = settings.party
    return JobProblem(
        "policy.helper",
        job.submitter,
        f"{me} does not take {helper} as a helper of a job {where}: name another helper in the job, or ask {me}",
    )


def _of_purpose(job: Job, settings: Settings, allowed: tuple[str, ...] | None, where: str) -> Iterator[JobProblem]:
    me, purpose = settings.party, job.description.purpose
    if allowed is not None and purpose not in allowed:
        names = f"purpose {purpose!r} is none of those" if purpose else "the job names no purpose, and must name one"
        yield JobProblem(
            "policy.purpose",
            job.submitter,
            f"{names} that {me} allows ({where} at {me}): write `purpose` into the job as {me} has agreed to",
        )


def _of_columns(
    job: Job, settings: Settings, table: TableSettings, columns: tuple[str, ...] | None
) -> Iterator[JobProblem]:
    me = settings.party
    wrong = [column for column in columns or () if not is_offered(table, column)]
    if wrong:
        yield JobProblem(
            "policy.columns",
            job.submitter,
            f"{me} does not let jobs use column {join_names(wrong, SHOWN)} of that table: "
            f"correct [columns] {me} in the job",
        )


def is_offered(table: TableSettings, column: str) -> bool:
    """Tell whether a table's settings let jobs use a column."""
    if table.columns is not None:
        return column in table.columns
    return column not in {table.id, table.label, *table.exclude, *table.beside}
