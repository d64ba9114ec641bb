"""Results are compared as jobs are, and the comparison shows itself, whatever a partner has called what."""

import pytest

import tercet
from tercet.agents.evaluation.comparison import compare_jobs
from tests.agents.api.made_up import customers
from tests.agents.cli.test_compare import status
from tests.agents.reports.test_report import Page

FIELDS = {"label": "default", "id": "customer", "split": "spring", "holdout": 0.4, "accept_narrow": True}


@pytest.fixture(scope="module")
def results() -> list[tercet.Result]:
    """Two trainings of the same rows, the second without a column; both have the strongest, so both are worth it."""
    frames = customers()
    fewer = frames | {"bank": frames["bank"].drop_columns("debt_0")}
    return [
        tercet.simulate(used, **FIELDS, epochs=4, held_out_scores=True, purpose="<b>to see</b>")  # type: ignore[arg-type]
        for used in (frames, fewer)
    ]


def test_the_same_held_out_rows_are_compared(results: list[tercet.Result]) -> None:
    found = tercet.compare(*results)
    assert found.jobs == [result.job for result in results]
    difference = found.differences[1]
    assert difference is not None
    gained = results[1].metrics["auc"] - results[0].metrics["auc"]
    assert difference["difference"] == pytest.approx(gained)
    assert 0 < difference["p"] <= 1
    assert found.metrics["auc"][0]["value"] == results[0].metrics["auc"]
    assert f"{results[0].metrics['auc']:.4f}" in repr(found)
    assert [line.split()[0] for line in repr(found).splitlines()][1] == "state"


def test_what_a_partner_has_written_is_text() -> None:
    """In HTML and in a terminal."""
    jobs = [status("a", job={"purpose": "<img src=x>\x1b[2J"}), status("b", job={"purpose": "other"})]
    shown = tercet.Comparison(compare_jobs(jobs, [None, None]))
    assert {*Page(shown._repr_html_()).tags} == {"table", "tr", "td"}
    assert "&lt;img" in shown._repr_html_()
    assert "\x1b" not in repr(shown) + shown._repr_html_()
    assert "held_out_scores = true" in repr(shown)


def test_what_cannot_be_compared_is_refused(results: list[tercet.Result]) -> None:
    prediction = tercet.Result(
        status("c", kind="prediction"),
        weights=dict,
        report=None,
        scorer=lambda: None,
        cards=lambda _: pytest.fail("nobody asks"),
    )
    with pytest.raises(tercet.Invalid, match="is a prediction"):
        tercet.compare(results[0], prediction)
    with pytest.raises(tercet.Invalid, match="give the results"):
        tercet.compare()
