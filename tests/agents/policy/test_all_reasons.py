"""All that a party refuses a job for is told in one run, each with the party and what can mend it."""

from pathlib import Path

import pytest

from tercet.agents.policy.audit_log import entries
from tercet.schemas.files.job import Evaluation
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Limits, TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.snapshot.preview import preview_table
from tests.agents.scenes import BANK, CARD, PATIENT, Scene, job, make_table, nothing_left, off, scene, three
from tests.agents.scenes import quick_switches as quick_switches  # a fixture

DEADLINES = PATIENT.model_copy(update={"verdict": 20})
Rows = list[dict[str, str]]


def spoilt(rows: Rows) -> None:
    """Three faults of a card processor's table."""
    rows[3]["card-0"] = "many"
    rows[5]["card-1"] = ""
    rows[7]["id"] = rows[8]["id"]


def change_table(stage: Scene, party: str, **fields: object) -> None:
    """Other settings for a party's table."""
    table = stage.parties[party][0].tables["customers"].model_copy(update=fields)
    stage.change(party, tables={"customers": table})


async def test_a_job_that_is_wrong_in_many_ways_at_two_parties_is_told_all_of_them(tmp_path: Path) -> None:
    """Policy, budget, columns, values, ids and label; whoever can mend the first is named, and no cell or column."""
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        make_table(tmp_path / "card.csv", seed=2, change=spoilt)
        stage.change(CARD, policy=PolicySettings(models=("linear",), narrow=True, helper_sees="scores"))
        change_table(stage, CARD, max_losses=1, missing="refuse", numeric=tuple(f"card-{one}" for one in range(6)))
        change_table(stage, BANK, numeric=("salary",))
        ended = await stage.run(job(evaluation=Evaluation(loss=True)))
        nothing_left(stage)
    failures = [status.failure for status in ended.values() if status.failure is not None]
    (reason,) = {failure.reason for failure in failures}
    for words in (
        "card trains no logistic models ([policy] models)",
        "max_losses under [tables.customers]",
        "has an id more than once",
        "has text in a numeric column",
        "has missing values",
        "lacks a column that its owner's settings name",
    ):
        assert reason.count(words) == 1, (words, reason)
    for secret in ("many", "card-0", "card-1", "salary"):
        assert secret not in reason
    for words in ("card-0", "line 5", "card-1", "line 7", "line 10"):
        assert words in (ended[CARD].detail or ""), words
    assert "salary" in (ended[BANK].detail or "")


async def test_few_rows_and_a_label_without_a_positive_class_are_told_with_what_a_partner_refuses(
    tmp_path: Path,
) -> None:
    """What only a whole table shows is told of one that is short enough."""
    settings = three(tmp_path, DEADLINES)
    make_table(tmp_path / "bank.csv", seed=1, label=True, change=lambda rows: [row.update(default=word) for row, word in
               zip(rows, ["paid", "lost"] * 48, strict=True)])  # fmt: skip
    async with scene(settings, tmp_path) as stage:
        stage.change(BANK, limits=Limits(min_rows=200))
        stage.change(CARD, policy=PolicySettings(max_epochs=1, narrow=True, helper_sees="scores"))
        ended = await stage.run(job(l2=0.9, rate=2.0))
    reason = {status.failure.reason for status in ended.values() if status.failure}.pop()
    assert "[limits] min_rows" in reason
    assert "does not fit a logistic model" in reason
    assert "[policy] max_epochs" in reason
    assert "rate times l2" in reason  # which the planner refuses whatever the tables hold
    assert "positive" in (ended[BANK].detail or "")


async def test_a_partner_whom_a_table_is_not_for_hears_nothing_of_what_is_wrong_with_it(tmp_path: Path) -> None:
    """That the purpose is not allowed is all that there is to say."""
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        make_table(tmp_path / "card.csv", seed=2, change=spoilt)
        change_table(stage, CARD, purposes=("risk",))
        ended = await stage.run(job(purpose="ads"))
    reason = off(ended, "policy.purpose", BANK)
    assert "id more than once" not in reason
    assert [
        one.fields.get("code")
        for one in entries((tmp_path / CARD / "audit.log").read_bytes())
        if one.event == "decided"
    ] == ["policy.purpose"]


def test_a_table_tells_everything_that_is_wrong_with_it(tmp_path: Path) -> None:
    """Names, types and values alike, each with its remedy."""
    path = tmp_path / "people.csv"
    path.write_text("id,age,town,label\n1,x,a,1\n2,3,b,\n2,inf,c,0\n")
    settings = TableSettings(path=path, id="id", label="label", numeric=("age", "wage"), exclude=("street",))
    with pytest.raises(TableProblem) as caught:
        preview_table("people", settings, with_label=True, label_kind="categorical")
    for words in ("'wage'", "'street'", "line 2", "line 3", "line 4", "not finite", "further up"):
        assert words in str(caught.value), words
    assert "'age'" not in caught.value.public


def test_without_an_id_column_the_rest_is_told_all_the_same(tmp_path: Path) -> None:
    """As far as names and types show it."""
    path = tmp_path / "people.csv"
    path.write_text("key,age\n1,3\n")
    with pytest.raises(TableProblem) as caught:
        preview_table("people", TableSettings(path=path, id="id", label="label", numeric=("wage",)), with_label=True)
    for words in ("`id`", "`label`", "`numeric`"):
        assert words in str(caught.value)
