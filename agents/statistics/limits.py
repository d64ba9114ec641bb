"""Refuses a statistics job that would tell too much of few rows, or send too much.

It sees counts only; all parties compute the same.
"""

from collections.abc import Mapping

from tercet.agents.core.problems import JobProblem
from tercet.agents.roles.memory_limits import check_message_memory
from tercet.agents.session.context import JobContext
from tercet.mpc.statistics.plan import StatisticsPlan
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.messages.kinds import BinCounts

ROWS_A_NUMBER = 64  # rows for each number that somebody else correlates: one has 64 bits at most, a row one at least
MOST_BITS = 2**43  # 1 TiB: that one partner sends of its bins, or is dealt to check them

Counts = Mapping[str, BinCounts]


def check_counted_rows(context: JobContext, job: StatisticsJob, rows: int, counts: Counts) -> None:
    """Check that what is told of columns is far less than their rows hold.

    There are `least` rows for each bin of a partner's columns together: a sum for each bin, and a mark too, is an
    equation in the labels, and as many as rows would give all of them away.

    Raises:
        JobProblem: it is not.
    """
    numbers = [len(counts[party].numeric) for party in job.data_parties]
    if job.statistics.correlations != "none" and rows < ROWS_A_NUMBER * (sum(numbers) - min(numbers)):
        raise JobProblem(
            "job.plan",
            context.job.submitter,
            f"correlations of so many numeric columns would tell nearly all of a column of so few rows: bring "
            f'{ROWS_A_NUMBER} rows for each numeric column, name fewer under [columns], or use correlations = "none"',
        )
    party, cells = _widest_partner(job, counts)
    if rows < job.statistics.least * cells:
        raise JobProblem(
            "job.plan",
            context.job.submitter,
            f"{party} has {cells:,} bins in all its columns, and by so many the labels of so few rows could be "
            f"computed: bring {job.statistics.least:,} rows for each (`least`), name fewer columns of {party} under "
            f"[columns], or use fewer bins under [statistics]",
        )


def check_size(context: JobContext, job: StatisticsJob, plan: StatisticsPlan, counts: Counts) -> None:
    """Check that what is sent is bounded, and that each message fits into this party's memory.

    Raises:
        JobProblem: it does not.
    """
    party, cells = _widest_partner(job, counts)
    remedy = f"name fewer columns of {party} under [columns], or use fewer bins under [statistics]"
    if cells * max(plan.rows * plan.word_bits, plan.tests * plan.table) > MOST_BITS:
        raise JobProblem(
            "job.plan",
            context.job.submitter,
            f"{party} has {cells:,} bins in all its columns, and to count so many rows by them is more than a job may "
            f"send: {remedy}, or bring fewer rows",
        )
    check_message_memory(context, plan.largest_message, f"by {cells:,} bins of {party}", remedy)


def _widest_partner(job: StatisticsJob, counts: Counts) -> tuple[str, int]:
    """Return the party without the label that has the most bins, and how many those are."""
    cells = {party: sum(counts[party].bins) for party in job.data_parties if party != job.label}
    party = max(cells, key=cells.__getitem__)
    return party, cells[party]
