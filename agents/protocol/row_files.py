"""Makes files for masked words of rows, which a job keeps while it runs.

It knows sizes and names; what the words mask is their maker's business.
"""

from collections.abc import Mapping

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.agents.session.mapped_rows import MappedRows


def row_stores(context: JobContext, what: str, names: Mapping[int, str], rows: int) -> dict[int, MappedRows]:
    """Make files for words of so many rows of these parties, by their numbers."""
    columns = context.ready_plan.columns
    return {number: mapped_rows(context, f"{what}-{name}", rows, columns[number]) for number, name in names.items()}


def mapped_rows(context: JobContext, name: str, rows: int, columns: int) -> MappedRows:
    """Make a file for a word of each row and column.

    Raises:
        JobProblem: The disk does not take it; this party is named.
    """
    try:
        return MappedRows(context.work_folder / f"masked-{name}", rows, columns)
    except OSError as error:
        reason = f"{context.me} cannot keep {rows * columns / 2**17:.0f} MiB of masked rows under its state folder"
        raise JobProblem("disk.write", context.me, reason, str(error.strerror)) from None
