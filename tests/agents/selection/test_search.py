"""Searches find the columns that a known loss rewards, stop as they say, and take no more jobs than was counted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tercet.agents.selection.filters import filter_columns, find_unjudged
from tercet.agents.selection.measures import Measures
from tercet.agents.selection.search import most_jobs, walk
from tercet.agents.selection.selection_file import ColumnFilter, Search
from tercet.agents.selection.space import Candidate, Columns, SearchSpace
from tercet.agents.selection.trail import TrailStep, Trial, pairs
from tercet.schemas.files.invalid import Invalid

USE = {"age": 0.3, "limit": 0.1, "noise": 0.0, "delay": 0.4, "late-fee": 0.05, "colour": -0.01}
OWN, PARTNERS = ("age", "limit", "noise"), ("colour", "delay", "late-fee")
CANDIDATES = tuple([Candidate("bank", name) for name in OWN] + [Candidate("card", name) for name in PARTNERS])


class Searched:
    """A search over a loss that is known, without a job."""

    def __init__(self, method: str, always: Columns = frozenset(), **words: Any) -> None:
        self.space = SearchSpace(CANDIDATES, always, "bank")
        self.search = Search.model_validate({"method": method} | words)
        self.steps: list[TrailStep] = []
        self.jobs: list[Columns] = []
        searching = walk(self.space, self.search, self.steps.append)
        try:
            asked = next(searching)
            while True:
                asked = searching.send([self.trial(one) for one in asked])
        except StopIteration as over:
            self.selected: Columns = over.value

    def trial(self, columns: Columns) -> Trial:
        """What a job over these columns would give."""
        self.jobs.append(columns)
        loss = 1.0 - sum(USE[one.column] for one in columns)
        weights = {one.column: abs(USE[one.column]) for one in columns if one.party == "bank"}
        return Trial(job=f"job-{len(self.jobs)}", columns=pairs(columns), loss=loss, weights=weights)

    @property
    def names(self) -> set[str]:
        """The selected columns."""
        return {one.column for one in self.selected}


def test_forward_adds_the_best_column_of_each_step_until_none_gains() -> None:
    found = Searched("forward", min_gain=0.04)
    assert found.names == {"colour", "delay", "age", "limit", "late-fee"}
    assert [step.chosen[0][1] for step in found.steps if step.decision == "added"] == [
        "delay",
        "age",
        "limit",
        "late-fee",
    ]
    assert found.steps[-1].decision == "stopped"
    assert "noise" in found.steps[-1].why
    assert found.steps[0].columns == (("card", "colour"),), "each partner has a column in each job"


def test_backward_drops_what_is_of_no_use_and_leaves_each_partner_a_column() -> None:
    found = Searched("backward", min_gain=0.11)
    assert found.names == {"age", "delay"}
    assert {one.party for one in Searched("backward", min_gain=5.0).selected} == {"card"}
    gains = [step.gain for step in found.steps if step.decision == "dropped"]
    assert gains == pytest.approx([0.01, 0.0, -0.05, -0.1])


def test_refitting_drops_own_columns_of_the_smallest_weights() -> None:
    found = Searched("refit", share=0.4, min_gain=0.2)
    assert found.names == {"age", *PARTNERS}
    assert [step.chosen for step in found.steps if step.chosen] == [(("bank", "noise"),), (("bank", "limit"),)]


def test_steps_end_at_their_most_and_fixed_columns_stay() -> None:
    assert len(Searched("forward", max_steps=1).names) == 2
    assert "noise" in Searched("backward", always=frozenset({Candidate("bank", "noise")}), min_gain=0.11).names
    assert Searched("none").names == {*USE}


@pytest.mark.parametrize("method", ["forward", "backward", "refit", "none"])
@pytest.mark.parametrize("words", [{}, {"min_gain": 5.0}, {"max_steps": 2}])
def test_no_search_takes_more_jobs_than_were_counted(method: str, words: Mapping[str, Any]) -> None:
    found = Searched(method, **words)
    assert len(found.jobs) + 1 <= most_jobs(found.space, found.search)


def test_a_forward_search_that_stops_at_nothing_takes_all_that_were_counted() -> None:
    """But for the steps whose best column gains nothing: so the count is no idle bound."""
    found = Searched("forward", always=frozenset({CANDIDATES[0]}), max_steps=2)
    assert len(found.jobs) + 1 == most_jobs(found.space, found.search)


@pytest.mark.parametrize(
    ("measures", "limit"),
    [
        (Measures(), {"min_iv": 0.0}),
        (Measures({Candidate("card", "unnamed"): 0.2}), {"min_iv": 0.0}),
        (Measures(), {"max_correlation": 1.0}),
        (Measures({}, {}, {(CANDIDATES[0], CANDIDATES[0]): 1.0}), {"max_correlation": 0.5}),
        (Measures({}, {}, {(CANDIDATES[i], CANDIDATES[j]): 0.9 for i, j in [(0, 4), (0, 5)]}), {"max_vif": 2.0}),
    ],
)
def test_a_limit_that_nothing_is_known_for_is_refused(measures: Measures, limit: dict[str, Any]) -> None:
    """Rather than pass over in silence."""
    limits = ColumnFilter.model_validate({"statistics": "s"} | limit)
    with pytest.raises(Invalid, match=f"{min(limit)}: s told no .*leave {min(limit)} out"):
        find_unjudged(CANDIDATES, frozenset(), measures, limits)


def test_columns_that_a_limit_does_not_judge_are_listed() -> None:
    """As partners' among one another, where each correlation goes to its own two parties."""
    bank, card, shop, colour = CANDIDATES[0], CANDIDATES[4], Candidate("shop", "visits"), CANDIDATES[3]
    known = {pair: 0.5 for one in (card, shop) for pair in ((bank, one), (one, bank))}
    limits = ColumnFilter(statistics="s", min_iv=0.1, max_correlation=0.9)
    found = find_unjudged(
        (bank, card, shop, colour), frozenset({shop}), Measures({bank: 0.2, card: 1.0}, {}, known), limits
    )
    assert found == [(card, "max_correlation"), (colour, "min_iv, max_correlation")]


def test_filters_leave_out_by_value_correlation_and_inflation() -> None:
    """The better of two that correlate stays; columns that nothing is known of do, too."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 4))
    values[:, 3] = values[:, 1] + values[:, 2]
    matrix = np.asarray(np.corrcoef(values, rowvar=False))
    axes = CANDIDATES[:4]
    known = {(axes[i], axes[j]): float(matrix[i, j]) for i in range(4) for j in range(4) if i != j}
    iv = dict(zip(CANDIDATES, [0.3, 0.2, 0.1, 0.05, 0.001, 0.4], strict=True))
    rest, gone = filter_columns(
        CANDIDATES, frozenset(), Measures(iv, {}, known), ColumnFilter(statistics="s", min_iv=0.01, max_vif=10)
    )
    assert [one.column for one in rest] == ["late-fee", "age", "limit", "noise"]
    assert {one.column.column: one.why.split(" is ")[0] for one in gone} == {"delay": "its IV", "colour": "its VIF"}
    near = dict.fromkeys(known, 0.95)
    limits = ColumnFilter(statistics="s", max_correlation=0.9)
    rest, gone = filter_columns(CANDIDATES, frozenset({axes[3]}), Measures(iv, {}, near), limits)
    assert [one.column for one in rest] == ["late-fee", "colour", "delay"]
    assert all("colour of card" in one.why for one in gone)
    inflated = Measures({}, {CANDIDATES[0]: 12.0}, {})
    assert filter_columns(CANDIDATES, frozenset(), inflated, ColumnFilter(statistics="s", max_vif=10))[0] == [
        *CANDIDATES[1:]
    ]
