"""Reads the weights of evidence that this party was told in a statistics job.

A training encodes by them.

It reads this party's own file, and tells nobody.
"""

from pathlib import Path

from tercet.agents.statistics.result import read_statistics, statistics_file
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.statistics import CountedRows
from tercet.tables.encoding.woe import BinnedWoe, WoeByColumn


def read_woe(state: Path, job: str, label: str) -> tuple[WoeByColumn, CountedRows]:
    """Read bins and weights of evidence of this party's columns, and which rows they are of.

    Columns of which nothing was told are left out, since no bin of theirs had enough rows of both classes. At least one
    is there.

    Args:
        state: this party's state folder.
        job: id of the statistics job.
        label: the party whose label they must be of.

    Raises:
        Invalid: there is no such result here, or it has none of these.
    """
    found = read_statistics(statistics_file(state, job))
    if found.label_party != label:
        raise Invalid(f"the statistics of {job} are of {found.label_party}'s label, and the job's is {label}'s")
    woe = {column.name: BinnedWoe(column.bins, column.woe) for column in found.own if column.woe is not None}
    if found.own and not woe:
        raise Invalid(
            f"{found.party} was told no weight of evidence in {job}: submit it with woe = true under [statistics] and "
            f"a label of two classes; {label} has to allow it, and some bins need enough rows of both classes"
        )
    return woe, found.counted
