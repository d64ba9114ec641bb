"""Makes files for masked words of rows, which a job keeps while it runs.

It knows sizes and names; what the words mask is their maker's business.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.context import JobContext
from tercet.agents.session.mapped_rows import MappedRows


def row_stores(
    context: TrainingContext, what: str, names: Mapping[int, str], rows: int, *, checks: int = 0, lasting: bool = False
) -> dict[int, MappedRows]:
    """Make files for words of so many rows of these parties, by their numbers.

    `checks` are columns beside the parties' own. `lasting` ones are found again by a later attempt.
    """
    columns, make = context.plan.columns, lasting_rows if lasting else mapped_rows
    return {number: make(context, f"{what}-{name}", rows, columns[number] + checks) for number, name in names.items()}


def mapped_rows(context: JobContext, name: str, rows: int, columns: int) -> MappedRows:
    """Make a file for a word of each row and column, for this attempt alone.

    Raises:
        JobProblem: The disk does not take it; this party is named.
    """
    with _full_disk(context, rows * columns):
        return MappedRows(context.work_folder / f"masked-{name}", rows, columns)


def lasting_rows(context: JobContext, name: str, rows: int, columns: int) -> MappedRows:
    """Find the file that an earlier attempt of the run has made, or make one for later ones.

    Raises:
        JobProblem: The disk does not take it; this party is named.
    """
    if context.settings.recovery.attempts == 1:
        return mapped_rows(context, name, rows, columns)
    with _full_disk(context, rows * columns):
        return context.snapshots.map_rows(f"masked-{name}", rows, columns)


@contextmanager
def _full_disk(context: JobContext, words: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{context.me} cannot keep {words / 2**17:.0f} MiB of masked rows under its state folder"
        raise JobProblem("disk.write", context.me, reason, str(error.strerror)) from None
