"""Looks at a party's table before anybody is asked to approve.

Of a file it reads the first rows, of a query the columns alone. Nothing of it leaves, and nothing is kept.
"""

from tercet.agents.access.table import database_login
from tercet.agents.alignment.own_table import Reading
from tercet.agents.alignment.own_woe import job_table, own_woe
from tercet.agents.alignment.table_problems import report_table
from tercet.agents.session.context import JobContext
from tercet.tables.snapshot.preview import PreviewResult, check_query, preview_table


def look_at_table(context: JobContext, reading: Reading) -> PreviewResult | None:
    """Look at this party's table as the job would read it.

    Returns:
        What a file's first rows say; None of a query, whose columns can be used.

    Raises:
        JobProblem: the table cannot be used, as far as that shows it.
    """
    name, settings, woe = context.description.table_of(context.me), job_table(context, reading.beside), own_woe(context)
    with_label, kind, expected = reading.with_label, reading.label_kind, reading.expected
    with report_table(context):
        if settings.path is not None:
            return preview_table(name, settings, with_label=with_label, label_kind=kind, expected=expected, woe=woe)
        login = database_login(settings)
        check_query(name, settings, login, with_label=with_label, label_kind=kind, expected=expected)
    return None
