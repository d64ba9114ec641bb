"""All that a party refuses a job for is told in one run, each with the party and what can mend it."""

import csv
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import adbc_driver_postgresql.dbapi as postgresql
import pytest

from tercet.agents.cli.rendering import job_details
from tercet.agents.policy.audit_log import entries
from tercet.schemas.files.job import AnyJob, Evaluation
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Limits, TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.snapshot.preview import check_query, preview_table
from tests.agents.scenes import (
    BANK,
    CARD,
    NOTARY,
    PATIENT,
    Scene,
    job,
    make_table,
    nothing_left,
    off,
    prediction,
    scene,
    three,
)

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


async def test_a_job_that_is_wrong_in_many_ways_at_three_parties_is_told_all_of_them(tmp_path: Path) -> None:
    """Policy, budget, columns, values, ids and label; whoever can mend the first is named, and no cell or column.

    By the label party's verdict, the same at all of them.
    """
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        make_table(tmp_path / "card.csv", seed=2, change=spoilt)
        stage.change(CARD, policy=PolicySettings(models=("linear",), narrow=True, helper_sees="scores"))
        change_table(stage, CARD, max_losses=1, missing="refuse", numeric=tuple(f"card-{one}" for one in range(6)))
        change_table(stage, BANK, numeric=("salary",))
        stage.change(BANK, policy=PolicySettings(loss=False, helper_sees="scores"))
        stage.change(NOTARY, policy=PolicySettings(max_epochs=1))
        ended = await stage.run(job(evaluation=Evaluation(loss=True)))
        nothing_left(stage)
    failures = [status.failure for status in ended.values() if status.failure is not None]
    (reason,) = {failure.reason for failure in failures}
    assert len(failures) == 3
    for words in (
        "[policy] loss",
        "[policy] max_epochs",
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
    """That the purpose is not allowed is all that there is to say, and nobody reads the table: it is not there."""
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        (tmp_path / "card.csv").unlink()
        change_table(stage, CARD, purposes=("risk",))
        ended = await stage.run(job(purpose="ads"))
        nothing_left(stage)
    reason = off(ended, "policy.purpose", BANK)
    assert "purposes under [tables.customers]" in reason
    assert "; also: " not in reason
    assert ended[CARD].table_rows == 0
    log = entries((tmp_path / CARD / "audit.log").read_bytes())
    assert [one.fields.get("code") for one in log if one.event == "decided"] == ["policy.purpose"]


async def test_beyond_its_sets_of_columns_a_table_is_judged_after_approval_alone(tmp_path: Path) -> None:
    """A submitter that asked for others again and again would learn from each refusal."""
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        make_table(tmp_path / "card.csv", seed=2, change=spoilt)
        change_table(stage, CARD, max_profiles=1, numeric=tuple(f"card-{one}" for one in range(6)))
        for columns, accepted in ((None, False), (None, False), (("card-0",), True)):
            chosen = () if columns is None else ((CARD, columns),)
            ended = await stage.run(job().model_copy(update={"columns": chosen}).with_new_id())
            assert "has text in a numeric column" in off(ended, "table.unusable", CARD)
            log = entries((tmp_path / CARD / "audit.log").read_bytes())
            assert [one.fields["accepted"] for one in log if one.event == "decided"][-1] is accepted
        nothing_left(stage)


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


def database(folder: Path, rows: Rows) -> TableSettings:
    """The card processor's table as a query of a SQLite file."""
    path, names = folder / "card.db", list(rows[0])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE people ({', '.join(map(repr, names))})")
        values = [tuple(row.values()) for row in rows]
        connection.executemany(f"INSERT INTO people VALUES ({', '.join('?' * len(names))})", values)
        connection.commit()
    return TableSettings(database=f"sqlite:///{path}", query="SELECT * FROM people ORDER BY id;", id="id")


@pytest.mark.parametrize("kind", ["training", "prediction"])
async def test_columns_that_a_query_lacks_are_told_with_all_else_before_any_row_is_read(
    kind: str, tmp_path: Path
) -> None:
    """Of a training by its settings, of a prediction by its model; nobody is asked to approve, and no row leaves."""
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        description: AnyJob = job(release="shared")
        if kind == "prediction":
            description = prediction((await stage.run(description))[CARD].job)
            await stage.stop()
            stage.envelopes.clear()
        with (tmp_path / "card.csv").open(encoding="utf-8") as file:
            rows = [{name: cell for name, cell in row.items() if name != "card-0"} for row in csv.DictReader(file)]
        table = database(tmp_path, rows).model_copy(update={"numeric": ("card-0",), "max_alignments": 1})
        stage.change(CARD, tables={"customers": table})
        for party in (BANK, CARD):
            stage.change(party, approval="always")
        stage.change(BANK, limits=Limits(min_rows=200, min_scored_rows=200))
        ended = await stage.run(description)
        nothing_left(stage)
    reason = {status.failure.reason for status in ended.values() if status.failure}.pop()
    lacks = "lacks a column" if kind == "training" else "has other columns than the model was trained on"
    for words in (lacks, f"[limits] {'min_rows' if kind == 'training' else 'min_scored_rows'}"):
        assert reason.count(words) == 1, (words, reason)
    assert "card-0" not in reason
    assert "card-0" in (ended[CARD].detail or "")


async def test_a_prediction_tells_of_a_file_and_of_a_part_that_is_not_there(tmp_path: Path) -> None:
    """Ids that repeat at one party, and no part of the model at the other."""
    async with scene(three(tmp_path, DEADLINES), tmp_path) as stage:
        trained = (await stage.run(job(release="shared")))[CARD].job
        await stage.stop()
        stage.envelopes.clear()
        make_table(tmp_path / "card.csv", seed=2, change=spoilt)
        shutil.rmtree(tmp_path / BANK / "models" / trained)
        ended = await stage.run(prediction(trained))
        nothing_left(stage)
    reason = {status.failure.reason for status in ended.values() if status.failure}.pop()
    shown = [str(cell) for cell in job_details(ended[CARD]).columns[1].cells]
    assert sum("only a finished job has one" in cell for cell in shown) == 1
    for words in ("bank has no usable part of the model", "has an id more than once", "has other columns"):
        assert reason.count(words) == 1, (words, reason)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT id, pg_sleep(60) AS age, now() AS since FROM people", "'since' holds dates or times"),
        ("SELECT id, age FROM people -- all", "`numeric` names 'wage'"),
        ("SELECT id, agee FROM people", "names a column that the database does not have"),
        ("DELETE FROM people", "write"),
    ],
)
def test_postgresql_says_what_is_wrong_with_a_query_without_a_row_of_its_answer(
    query: str, words: str, postgres_url: str
) -> None:
    """However long the answer would take, and nothing is written."""
    with closing(postgresql.connect(postgres_url, autocommit=True)) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS people")
        cursor.execute("CREATE TABLE people AS SELECT '1' AS id, 2 AS age")
        settings = TableSettings(database=postgres_url, query=query, id="id", numeric=("age", "wage"))
        with pytest.raises(TableProblem) as caught:
            check_query("people", settings, None, with_label=False)
        if query.startswith("DELETE"):
            cursor.execute("SELECT count(*) FROM people")
            assert cursor.fetchone() == (1,)
        else:
            assert words in str(caught.value)
