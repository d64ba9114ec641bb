"""Lists a job's columns for an operator: its own by name, a partner's by their number.

A partner's columns are named only where the job itself names them, or where this party holds the whole model. It opens
no table.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tercet.agents.models import model_part
from tercet.agents.models.model_part import ModelPart, ModelPartProblem
from tercet.agents.session.findings import Findings
from tercet.schemas.files.job import AnyJob, PredictionJob, StatisticsJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job

MOST_SHOWN = 1500  # characters of names in one sentence

Names = Mapping[str, tuple[str, ...]]  # of columns as tables have them, by party
Counts = Mapping[str, int]  # of encoded columns, by party


class UsedColumns(NamedTuple):
    """Holds the known columns of each data party; unknown parties are left out."""

    names: Names
    counts: Counts


def own_model_part(job: Job, settings: Settings) -> ModelPart | None:
    """Read this party's part of the model that a job makes or applies, if there is one."""
    description = job.description
    model = description.of if isinstance(description, PredictionJob) else job.id
    try:
        part = model_part.manifest(settings.state / "models" / model)
    except ModelPartProblem:
        return None
    return part if isinstance(description, PredictionJob) or part.run == job.run.hex() else None


def columns_used(job: Job, settings: Settings, known: Findings, part: ModelPart | None) -> UsedColumns:
    """Collect what the job, the settings, a run's findings and a model part say."""
    description, me = job.description, settings.party
    named = {party: description.columns_of(party) for party in description.data_parties}
    table = settings.tables.get(description.table_of(me)) if me in named else None
    if table is not None and named[me] is None:
        named[me] = table.columns
    if known.own_columns is not None:
        named[me] = known.own_columns
    names = {party: columns for party, columns in named.items() if columns is not None}
    if part is not None:
        encodings = {me: part.encoding} | part.encodings
        names |= {party: tuple(encoding.kinds) for party, encoding in encodings.items()}
        return UsedColumns(names, dict(zip(part.parties, part.columns_of, strict=True)))
    # Statistics encode nothing.
    return UsedColumns(names, {} if isinstance(description, StatisticsJob) else known.facts.columns)


def column_sentences(job: AnyJob, used: UsedColumns) -> Iterator[str]:
    """Yield a sentence about each data party's columns."""
    for party, table in job.tables:
        names, count = used.names.get(party), used.counts.get(party)
        what = "columns that only it can name" if names is None else _list_names(names)
        if names == ():
            what = f"no column beside the {'id' if isinstance(job, PredictionJob) else 'label'}"
        elif count is not None:
            what += f"; {count} when encoded"
        elif names is None:
            what = "the columns that its own settings list"
        yield f"{party} uses {what} (table {table})"


def _list_names(names: tuple[str, ...]) -> str:
    shown: list[str] = []
    size = 0
    for name in names:
        size += len(name) + 2
        if shown and size > MOST_SHOWN:
            break
        shown.append(name)
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{len(names)} column{'s' * (len(names) > 1)}: {', '.join(shown)}{more}"
