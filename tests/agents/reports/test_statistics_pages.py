"""Each party's page of a statistics job: what it was told is there, and nothing else."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from tercet.agents.reports.build import Counted, statistics_report, write_report
from tercet.agents.reports.statistics import MOST_CHARTS, StatisticsReport, render_statistics
from tercet.agents.reports.wording import number
from tercet.agents.statistics.result import StatisticsResult
from tercet.agents.statistics.tables import column_rows
from tercet.schemas.files.statistics import Measures
from tests.agents.reports.test_report import EVIL, Page
from tests.agents.statistics.world import Finished, finish_job, people, statistics_job


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two parties; the label party learns correlations and names, its partner no weight of evidence."""
    measures = Measures(correlations="label")
    return finish_job(statistics_job(2, statistics=measures), tmp_path_factory.mktemp("look"), people(2))


def report_of(finished: Finished, party: str) -> StatisticsReport:
    """The data of a party's page."""
    counted = finished.simulation.runs[party].reached
    assert isinstance(counted, Counted)
    return statistics_report(counted)


def test_the_label_party_reads_all_columns_and_draws_its_own(finished: Finished) -> None:
    page = render_statistics(report_of(finished, "bank"))
    text, result = Page(page).text, finished.result("bank")
    for row in column_rows(result):
        assert f"{row['party']} {row['column']} {number(row['iv'])} " in text
    assert len(column_rows(result)) == len(result.own) + len(result.partners)
    assert page.count('<svg class="chart"') == min(3, MOST_CHARTS)
    assert all(word in text for word in ("weight of evidence", "VIF", "Gini", "caravan", "card/card_quantity_0"))


@pytest.fixture(scope="module")
def amounts(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same two of a count, which the partner is told by bin of its own columns."""
    job = statistics_job(2, model="poisson", statistics=Measures(woe=True))
    return finish_job(job, tmp_path_factory.mktemp("amounts"), people(2, model="poisson"))


def test_of_a_count_each_reads_means_from_0_on(amounts: Finished) -> None:
    """And what kind of label there is; bars have both sides only where some mean is below 0."""
    for party in ("bank", "card"):
        report = report_of(amounts, party)
        page = render_statistics(report)
        text = Page(page).text
        assert "Label counts" in text
        assert "mean label deviation" in text
        assert all(word not in text for word in ("WOE", "IV", "Gini"))
        assert "labels were rounded" not in text  # whole numbers are summed as they are
        assert "M 50 0 V 8" not in page
        column, sums = next((one, one.sums) for one in amounts.result(party).own if one.sums is not None)
        low = column.model_copy(update={"sums": ((-5.0, 30.0), *sums[1:])})
        assert report.result is not None
        below = replace(report, result=report.result.model_copy(update={"own": (low,)}))
        assert "M 50 0 V 8" in render_statistics(below)


def test_a_factor_without_end_is_told_from_one_that_was_not_told(finished: Finished) -> None:
    """In the file, in the rows and on the page."""
    report = report_of(finished, "bank")
    assert report.result is not None
    assert "VIF of inf" not in render_statistics(report)
    own = (report.result.own[0].model_copy(update={"vif": inf}), *report.result.own[1:])
    endless = report.result.model_copy(update={"own": own})
    assert StatisticsResult.model_validate_json(endless.model_dump_json()) == endless
    assert {row["vif"] for row in column_rows(endless)} >= {inf, None}
    assert " inf " in Page(render_statistics(replace(report, result=endless))).text.partition("VIF of inf")[2]


def test_a_partner_reads_of_its_own_columns_what_it_was_told(finished: Finished) -> None:
    report = report_of(finished, "card")
    page = render_statistics(report)
    text, _, _ = Page(page).text.partition("What each could learn")
    assert "card_quantity_0" in text
    assert "bank_quantity" not in text
    assert "WOE" not in text
    assert "IV" not in text
    assert "VIF" in text  # the label party tells each its own
    with pytest.raises(ValueError, match="cannot know"):
        replace(report, result=finished.result("bank"))


def test_the_helper_reads_of_messages_alone(finished: Finished, tmp_path: Path) -> None:
    report = report_of(finished, "notary")
    text = Page(render_statistics(report)).text
    assert "saw no data" in text
    assert "Time and traffic" in text
    assert "quantity" not in text
    with pytest.raises(ValueError, match="cannot know"):
        replace(report, result=finished.result("bank"))


def test_each_party_has_its_page_in_its_state(finished: Finished) -> None:
    for party in finished.job.parties:
        counted = finished.simulation.runs[party].reached
        assert isinstance(counted, Counted)
        path = write_report(counted, None)
        assert path == finished.folder / party / "reports" / f"{finished.job.id}.html"
        assert path.stat().st_mode & 0o777 == 0o600


def test_names_from_outside_are_escaped(finished: Finished) -> None:
    report = report_of(finished, "bank")
    assert report.result is not None
    own = tuple(
        one.model_copy(update={"bins": one.bins.model_copy(update={"name": EVIL})}) for one in report.result.own
    )
    page = render_statistics(replace(report, result=report.result.model_copy(update={"own": own})))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
