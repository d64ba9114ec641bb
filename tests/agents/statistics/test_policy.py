"""What a party's settings allow of a statistics job, and what is wrong in one."""

from collections.abc import Mapping
from typing import Any

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.check import check_policy
from tercet.agents.policy.job_audit import JobAudit
from tercet.schemas.files.evaluation import Evaluation
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import StatisticsJob, parse_job
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Limits, Settings
from tercet.schemas.files.statistics import Measures
from tests.agents.policy.test_check import KEYS, announcing, refusal, settings_of
from tests.agents.scenes import BANK, CARD, NOTARY, statistics

WRITTEN: dict[str, Any] = {
    "kind": "statistics",
    "name": "look",
    "label": BANK,
    "helper": NOTARY,
    "tables": {BANK: "customers", CARD: "customers"},
}


def allowing(party: str, *, min_cell: int = 20, **policy: Any) -> Settings:
    """A party's settings with this policy."""
    return settings_of(party, policy=PolicySettings(**policy), limits=Limits(min_cell=min_cell))


def bounded(party: str, most: int) -> Settings:
    """A party's settings whose table so many jobs may tell of."""
    table = settings_of(party).tables["customers"]
    return settings_of(party, tables={"customers": table.model_copy(update={"max_statistics": most})})


AMOUNTS = statistics().model_copy(update={"model": "poisson"})
REFUSED: Mapping[str, tuple[Settings, StatisticsJob, str, str]] = {
    "none": (allowing(CARD, statistics="none"), statistics(), "policy.statistics", "writes statistics = "),
    "no weights": (allowing(BANK), statistics(woe=True), "policy.statistics", 'statistics = "woe" under'),
    "amounts": (allowing(CARD), AMOUNTS, "policy.statistics", "statistics_of_amounts = true"),
    "pairs": (allowing(CARD), statistics(correlations="pairs"), "policy.correlations", 'writes correlations = "pairs"'),
    "to the label party": (
        allowing(BANK, correlations="pairs"), statistics(correlations="label"), "policy.correlations", '= "label" under'
    ),
    "cells": (allowing(CARD, min_cell=50), statistics(least=49), "policy.cells", "writes min_cell = 49"),
    "budget": (bounded(CARD, 0), statistics(), "policy.exposure", "max_statistics"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "job", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_what_the_settings_do_not_allow_is_refused(
    settings: Settings, job: StatisticsJob, code: str, words: str
) -> None:
    problem = refusal(announcing(job), settings)
    assert problem.code == code
    assert words in problem.reason
    problem.failure("received", verdict=False)


def test_what_is_allowed_is_taken() -> None:
    """A partner needs no word for what the label party lets it learn; a helper is not asked at all."""
    job = announcing(statistics(woe=True, correlations="label"))
    for settings in (
        allowing(BANK, statistics="woe", correlations="label"),
        allowing(CARD, correlations="label"),
        settings_of(NOTARY, policy=PolicySettings(statistics="none")),
    ):
        check_policy(job, settings, KEYS[settings.party])
    check_policy(announcing(statistics()), settings_of(CARD), KEYS[CARD])
    amounts = announcing(AMOUNTS)
    for settings in (allowing(BANK), allowing(CARD, statistics_of_amounts=True), settings_of(NOTARY)):
        check_policy(amounts, settings, KEYS[settings.party])


@pytest.mark.parametrize("party", [BANK, CARD])
def test_each_attempt_that_opens_cells_counts_as_a_job(party: str) -> None:
    """At the label party too, whose label it tells of; a label party may change labels after a fault."""
    settings, budget = bounded(party, 3), Budget()
    first, second = (announcing(statistics()).model_copy(update={"run": run * 32}) for run in (b"1", b"2"))
    for stage in ("alignment", "alignment", "release", "alignment", "release"):  # the first attempt opens nothing
        JobAudit(first, settings, budget).note_revelations(stage)
    JobAudit(second, settings, budget).note_revelations("release")
    assert {one.name: one.spent for one in budget.entries(settings)}["statistics"] == 3
    with pytest.raises(JobProblem, match="2 statistics told"):
        JobAudit(second, settings, budget).note_revelations("release")
    with pytest.raises(JobProblem, match="3 statistics told"):
        budget.check(announcing(statistics()).model_copy(update={"run": b"3" * 32}), settings)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"statistics": {"bin": 3}}, "unknown field `bin` under [statistics]; did you mean `bins`?"),
        ({"statistics": {"bins": 1}}, "statistics.bins should be greater than or equal to 2"),
        ({"statistics": {"correlations": "all"}}, "statistics.correlations"),
        ({"evaluation": {"holdout": 0.2, "loss": True}}, "nothing is told of them"),
        ({"evaluation": {"folds": 5}}, "holdout, split, holdout_column or holdout_from alone"),
        ({"training": {"epochs": 3}}, "unknown field `training`"),
        ({"columns": {"telco": ["a"]}}, "names each data party once"),
        ({"model": "mlp"}, "model"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_job(WRITTEN | wrong, "job.toml")
    assert words in str(caught.value)


def test_a_job_says_what_it_says() -> None:
    job = parse_job(WRITTEN | {"columns": {CARD: ["delay"]}, "evaluation": {"holdout_column": "opened"}}, "job.toml")
    assert isinstance(job, StatisticsJob)
    assert (job.model, job.statistics, job.counts_classes) == ("logistic", Measures(), True)
    assert (job.columns_of(CARD), job.columns_of(BANK)) == (("delay",), None)
    assert (job.holdout_column_of(BANK), job.holdout_column_of(CARD)) == ("opened", None)
    assert job.evaluation == Evaluation(holdout_column="opened")
    assert "columns" not in statistics().canonical()
