"""The pages of a whole job's parties, for tests to read."""

from tercet.agents.reports.build import Result, report_data
from tercet.agents.reports.report import ReportData, render
from tests.agents.recording import Heard
from tests.agents.reports.test_report import Page


def data_of(run: Heard, party: str) -> ReportData:
    """What a party's page is made of."""
    one = run.simulation.runs[party]
    assert isinstance(one.reached, Result)
    return report_data(one.reached, one.model_part)


def text_of(run: Heard, party: str) -> str:
    """What a party reads; a page is drawn once, whoever asks for it."""
    if party not in run.pages:
        run.pages[party] = Page(render(data_of(run, party))).text
    return run.pages[party]
