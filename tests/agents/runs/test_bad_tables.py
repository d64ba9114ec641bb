"""A table that cannot be used is refused before any share leaves: its owner reads where, the others that."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tercet.agents.roles.data_party import Trained
from tercet.schemas.files.job import Evaluation, TrainingJob
from tercet.schemas.files.settings import Limits, TableSettings
from tests.agents.scenes import (
    BANK,
    CARD,
    COLUMNS,
    NOTARY,
    ROWS,
    Scene,
    job,
    make_table,
    nothing_left,
    off,
    scene,
    three,
)

Rows = list[dict[str, str]]


class Ended(NamedTuple):
    """What the parties agree on about a job's end; `detail` is the culprit's own."""

    code: str
    culprit: str
    reason: str
    detail: str


async def run_with_tables(
    folder: Path,
    reading: dict[str, Any] | None = None,
    asking: dict[str, Any] | None = None,
    **spoiled: Callable[[Rows], object],
) -> Ended:
    """A run that fails since some tables are spoiled.

    `reading` are the card processor's settings of its table, `asking` what else is in the job.
    """
    async with tables(folder, reading, **spoiled) as stage:
        return await run_in_vain(stage, job(**asking or {}))


async def run_in_vain(stage: Scene, description: TrainingJob) -> Ended:
    """A run that fails before any share leaves."""
    ended = await stage.run(description)
    failure = ended[BANK].failure
    assert failure is not None
    reason = off(ended, failure.code, failure.culprit)
    nothing_left(stage)
    detail = ended[failure.culprit].detail or ""
    assert all(status.detail is None for party, status in ended.items() if party != failure.culprit)
    return Ended(failure.code, failure.culprit, reason, detail)


@asynccontextmanager
async def tables(
    folder: Path, reading: dict[str, Any] | None = None, **spoiled: Callable[[Rows], object]
) -> AsyncIterator[Scene]:
    """A scene in which some tables are spoiled, and the card processor's is read by other settings."""
    settings = three(folder)
    for party, change in spoiled.items():
        make_table(folder / f"{party}.csv", seed=1, label=party == BANK, change=change)
    async with scene(settings, folder) as stage:
        customers = settings[CARD].tables["customers"].model_copy(update=reading)
        stage.change(CARD, tables={"customers": customers})
        yield stage


def strangers(count: int) -> Callable[[Rows], object]:
    """So many rows at the end are of people whom nobody else knows."""

    def change(rows: Rows) -> None:
        for number in range(len(rows) - count, len(rows)):
            rows[number]["id"] = f"stranger {number}"

    return change


def spoil(row: int, column: str, value: str) -> Callable[[Rows], object]:
    """Put a value into one cell."""

    def change(rows: Rows) -> None:
        rows[row][column] = value

    return change


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        ("nan", {"missing": "refuse"}),
        ("many", {"numeric": ("card-3",)}),
    ],
)
async def test_a_value_that_is_no_finite_number_is_found_where_it_is(
    tmp_path: Path, value: str, reading: dict[str, Any]
) -> None:
    """Others learn that the table cannot be used; its owner also the column and the line."""
    code, culprit, reason, detail = await run_with_tables(tmp_path, reading, card=spoil(7, "card-3", value))
    assert (code, culprit) == ("table.unusable", CARD)
    assert "card-3" not in reason
    assert "customers" in reason
    assert "card-3" in detail
    assert "line 9" in detail


async def test_a_value_that_is_missing_is_made_up_for_and_texts_are_categories_by_default(tmp_path: Path) -> None:
    """Another column says where one was missing; one column of three texts becomes three."""

    def change(rows: Rows) -> None:
        rows[7]["card-2"] = "nan"
        for number, row in enumerate(rows):
            row["card-3"] = ("red", "green", "blue")[number % 3]

    async with tables(tmp_path, card=change) as stage:
        ended = await stage.run(job())
        assert {status.state for status in ended.values()} == {"done"}
        assert (ended[CARD].rows, ended[CARD].columns) == (ROWS, COLUMNS + 1 - 1 + 3)


async def test_a_label_other_than_zero_and_one_is_the_label_partys_fault(tmp_path: Path) -> None:
    """A logistic model cannot be trained on it."""
    code, culprit, reason, detail = await run_with_tables(tmp_path, bank=spoil(5, "default", "0.5"))
    assert (code, culprit) == ("table.label", BANK)
    assert "logistic" in reason
    assert "0" in detail


def labelled(*values: str) -> Callable[[Rows], object]:
    """The label is one of these in turn."""

    def change(rows: Rows) -> None:
        for number, row in enumerate(rows):
            row["default"] = values[number % len(values)]

    return change


OTHER_LABELS = [
    ("softmax", ("late", "on time"), "table.label", 'has 2 classes in the rows in common; use model = "logistic"'),
    ("logistic", ("good", "bad"), "table.label", 'write positive = "..."'),
    ("logistic", ("one", "two", "three"), "table.label", "has 3 classes in the rows in common"),
    ("logistic", ("yes",), "table.label", "has 1 class in the rows in common"),
    ("logistic", ("yes", "no", "NA"), "table.unusable", "written as NA, null or the like"),
    ("linear", ("1", "2", "many"), "table.unusable", "label column 'default' should be numeric for this model"),
    ("softmax", ("late", "on time", "never", ""), "table.unusable", "values missing (line 5, 9,"),
    ("softmax", ("2020-01-01",), "table.unusable", "dates or times"),
    ("poisson", ("0", "1", "2.5"), "table.label", "no whole numbers from 0 on; use counts"),
    ("poisson", ("0",), "table.label", "are 0; give rows with counts above 0, too"),
    ("poisson", ("0", "1", "many"), "table.unusable", "other than numbers"),
    ("gamma", ("1.5", "2.5", "0"), "table.label", "leave these rows out, or use another model"),
    ("gamma", ("1.5",), "table.unusable", "one value in every training row"),
    ("gamma", ("1.5", "2.5", "1e-12"), "table.label", "less than"),
]


async def test_a_label_that_a_model_cannot_learn_is_told_to_its_party_with_what_to_do(tmp_path: Path) -> None:
    """And to the others with nothing of it but that it does not fit; no share has left by then."""
    async with tables(tmp_path) as stage:
        for number, (model, values, code, words) in enumerate(OTHER_LABELS):
            make_table(tmp_path / f"{BANK}.csv", seed=1, label=True, change=labelled(*values))
            ended = await run_in_vain(stage, job(f"credit-{number}", model=model, rate=0.02))
            assert (ended.code, ended.culprit) == (code, BANK), (model, values)
            assert words in ended.detail, (model, values)
            assert not re.search(r"[0-9]", ended.reason), ended.reason
            assert not any(len(value) > 1 and value in ended.reason for value in values)


async def test_row_counts_of_aligned_tables_that_differ_are_told_with_both_counts(tmp_path: Path) -> None:
    """Both parties can then tell whose export is short."""
    code, culprit, reason, _ = await run_with_tables(tmp_path, asking=ALIGNED, card=lambda rows: rows.pop())
    assert (code, culprit) == ("table.rows", CARD)
    assert f"{ROWS - 1} rows" in reason
    assert f"has {ROWS}:" in reason


ALIGNED = {"alignment": "aligned"}


def swap_ids(rows: Rows) -> None:
    """The same customers, two of them in each other's place."""
    rows[3]["id"], rows[4]["id"] = rows[4]["id"], rows[3]["id"]


@pytest.mark.parametrize("change", [swap_ids, spoil(3, "id", "a stranger")])
async def test_ids_of_aligned_tables_that_differ_or_stand_in_another_order_are_found_before_training(
    tmp_path: Path, change: Callable[[Rows], object]
) -> None:
    """The parties compare a keyed digest, and say what to do."""
    code, culprit, reason, _ = await run_with_tables(tmp_path, asking=ALIGNED, card=change)
    assert (code, culprit) == ("table.ids", CARD)
    assert "sort" in reason
    assert "stranger" not in reason


def fewer_in_another_order(rows: Rows) -> None:
    """Two people in each other's place, and one whom nobody else knows."""
    swap_ids(rows)
    strangers(1)(rows)


@pytest.mark.parametrize(
    ("alignment", "change", "common"),
    [("helper", strangers(ROWS - 40), 40), ("ecdh", fewer_in_another_order, ROWS - 1)],
)
async def test_rows_that_are_matched_may_stand_in_any_order_and_be_in_one_table_only(
    tmp_path: Path, alignment: str, change: Callable[[Rows], object], common: int
) -> None:
    """What is in common is trained on, and each party alone knows how many rows its table has.

    Of ids that match in part only it is told while the job runs, in status and report, with what they look like; the
    helper is told nothing.
    """
    async with tables(tmp_path, card=change) as stage:
        stage.change(BANK, report=True)
        stage.change(CARD, limits=Limits(min_rows=common))
        ended = await stage.run(job(alignment=alignment))
        assert {(status.state, status.rows) for status in ended.values()} == {("done", common)}
        assert [ended[party].table_rows for party in (BANK, CARD, NOTARY)] == [ROWS, ROWS, 0]
        few = {
            party: [one.partition(" in all tables")[0] for one in status.warnings if "in all tables" in one]
            for party, status in ended.items()
        }
        notes = [f"only 40 of the {ROWS} ids of table 'customers' are"] if common == 40 else []
        assert few == {BANK: notes, CARD: notes, NOTARY: []}
        (page,) = (tmp_path / BANK / "reports").iterdir()
        assert ("ids of table &#39;customers&#39; are in all tables" in page.read_text()) == (common == 40)


@pytest.mark.parametrize("alignment", ["helper", "ecdh"])
async def test_too_few_rows_in_common_are_told_to_everybody_and_their_number_to_who_asks_for_more(
    tmp_path: Path, alignment: str
) -> None:
    """The helper, which is to know no number of rows before there are terms, reads none."""
    async with tables(tmp_path, card=strangers(ROWS - 10)) as stage:
        stage.change(BANK, limits=Limits(min_rows=5))
        ended = await stage.run(job(alignment=alignment))
        reason = off(ended, "alignment.few", CARD)
        assert "min_rows" in reason
        assert not re.search(r"\d", reason)
        assert re.search(r"\b10 rows", ended[CARD].detail or "")
        assert "stranger" not in str(ended[CARD].detail)
        assert [ended[party].detail for party in (BANK, NOTARY)] == [None, None]
        assert [ended[NOTARY].rows, ended[BANK].rows] == [0, 0]
        nothing_left(stage)


async def test_a_holdout_that_leaves_too_few_rows_to_train_on_is_not_told_as_a_lack_of_overlap(tmp_path: Path) -> None:
    """There are enough rows in common; the job sets too many of them aside."""
    async with tables(tmp_path, card=strangers(ROWS - 40)) as stage:
        stage.change(BANK, limits=Limits(min_rows=1, min_scored_rows=1))
        stage.change(CARD, limits=Limits(min_rows=32, min_scored_rows=1))
        ended = await stage.run(job(evaluation=Evaluation(holdout=0.5)))
        reason = off(ended, "job.holdout", BANK)
        assert "holdout = 0.5 leaves fewer rows to train on than card asks for" in reason
        assert "ids" not in reason
        assert re.match(r"40 rows are in common and \d+ of them are held out", ended[CARD].detail or "")
        assert "[limits] min_rows is 32" in (ended[CARD].detail or "")
        nothing_left(stage)


async def test_a_party_may_ask_for_more_rows_than_there_are(tmp_path: Path) -> None:
    """It takes no part; with exactly as many as it asks for it is content where rows are matched."""
    async with tables(tmp_path) as stage:
        stage.change(CARD, limits=Limits(min_rows=ROWS + 1))
        off(await stage.run(job()), "alignment.few", CARD)
        nothing_left(stage)


@pytest.mark.parametrize(("strange", "holdout"), [(0, 1e-12), (ROWS - 1, 0.9)])
async def test_a_split_that_leaves_nothing_on_one_side_is_the_submitters_fault(
    tmp_path: Path, strange: int, holdout: float
) -> None:
    """Too small a part of the rows to hold any out, or one row in common, which can be on one side only."""
    async with tables(tmp_path, card=strangers(strange)) as stage:
        for party in (BANK, CARD):
            stage.change(party, limits=Limits(min_rows=1, min_scored_rows=1))
        ended = await stage.run(job(evaluation=Evaluation(holdout=holdout)), CARD)
        assert "holdout" in off(ended, "job.holdout", CARD)
        nothing_left(stage)


def all_alike(party: str) -> Callable[[Rows], object]:
    """One value in all rows of each column."""

    def change(rows: Rows) -> None:
        for row in rows:
            row |= {f"{party}-{column}": "7" for column in range(COLUMNS)}

    return change


@pytest.mark.parametrize("whiten", [False, True])
async def test_a_partner_of_which_no_column_differs_is_refused_by_name(tmp_path: Path, whiten: bool) -> None:
    """It would add nothing, and its rows be matched for nothing; others are told the table, its owner what to do."""
    code, culprit, reason, detail = await run_with_tables(tmp_path, {"whiten": whiten}, card=all_alike(CARD))
    assert (code, culprit) == ("table.unusable", CARD)
    assert "no column of table 'customers' differs among the rows in common" in reason
    assert "has one value in all rows that are trained on; bring columns that differ" in detail


async def test_a_label_party_of_which_no_column_differs_trains_with_a_warning(tmp_path: Path) -> None:
    """As one that holds labels alone would: what its partner has is the model."""
    async with tables(tmp_path, bank=all_alike(BANK)) as stage:
        customers = stage.parties[BANK][0].tables["customers"].model_copy(update={"whiten": True})
        stage.change(BANK, tables={"customers": customers})
        ended = await stage.run(job())
        assert {status.state for status in ended.values()} == {"done"}
        role = stage.runs[BANK, ended[BANK].job].reached
        assert isinstance(role, Trained)
        assert len([text for text in role.warnings if "adds nothing to the model" in text]) == COLUMNS
        assert any("partners' columns make the model" in text for text in role.warnings)


async def test_an_unknown_column_is_its_partys_fault(tmp_path: Path) -> None:
    """Column names stay with the party whose table it is."""
    async with scene(three(tmp_path), tmp_path) as stage:
        table = TableSettings(path=tmp_path / "card.csv", id="id", columns=("card-0", "shoe-size"))
        stage.change(CARD, tables={"customers": table})
        ended = await stage.run(job())
        reason = off(ended, "table.unusable", CARD)
        assert "shoe-size" not in reason
        assert "shoe-size" in (ended[CARD].detail or "")
        assert ended[BANK].detail is None
        nothing_left(stage)


async def test_an_unknown_column_of_the_jobs_is_the_submitters_fault(tmp_path: Path) -> None:
    """It is named to all, who know it from the job; what else the table has its owner alone reads."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(columns=((CARD, ("card-0", "card-O")),)))
        reason = off(ended, "policy.columns", BANK)
        assert "the job's [columns] names 'card-O' for card" in reason
        assert "correct [columns] card in the job" in reason
        assert "card-0" not in reason
        assert "card-1" not in reason
        assert "'card-1'" in (ended[CARD].detail or "")
        assert [ended[party].detail for party in (BANK, NOTARY)] == [None, None]
        nothing_left(stage)


async def test_an_unknown_table_is_named(tmp_path: Path) -> None:
    """A job can only name what the settings list."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(tables=((BANK, "customers"), (CARD, "accounts"))))
        assert "'accounts'" in off(ended, "policy.table", CARD)
        nothing_left(stage)


async def test_a_label_party_without_a_label_is_told_so(tmp_path: Path) -> None:
    """The card processor's table has none."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(label=CARD))
        assert "label" in off(ended, "policy.label", CARD)
        nothing_left(stage)
