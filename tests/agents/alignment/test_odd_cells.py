"""A few odd cells in a partner's table never turn its values into names that another party is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import ColumnEncoding, Message
from tercet.tables.encoding.encoding import Encoding
from tests.agents.scenes import BANK, CARD, PATIENT, SHARES, Scene, job, make_table, off, scene, three

INCOME = [f"{1000 + 37 * row}" for row in range(96)]

Rows = list[dict[str, str]]


def incomes(*odd: str, every: int = 96) -> Callable[[Rows], object]:
    """A column of incomes, in which each `every`-th cell is one of these instead."""

    def change(rows: Rows) -> None:
        for number, row in enumerate(rows):
            row["income"] = odd[number // every % len(odd)] if odd and number % every == 0 else INCOME[number]

    return change


async def reported(
    folder: Path, change: Callable[[Rows], object], **reading: Any
) -> tuple[dict[str, Any], list[Encoding], Scene]:
    """How a job ends that gives the bank the whole model, and what it is told of the card processor's columns."""
    settings, heard = three(folder, PATIENT), []

    def tap(address: Address, message: Message) -> Message:
        if isinstance(message, ColumnEncoding):
            heard.append(Encoding.model_validate_json(message.encoding))
        return message

    make_table(folder / f"{CARD}.csv", seed=2, change=change)
    async with scene(settings, folder) as stage:
        customers = settings[CARD].tables["customers"].model_copy(update=reading)
        stage.change(CARD, tables={"customers": customers})
        stage.pin(CARD, BANK, may_hold_model=True)
        stage.tap = tap
        await stage.start()
        ended = await stage.ended(stage.submit(job(release="label")), seconds=60)
        return ended, heard, stage


MIXED = incomes(*(f"class {letter}" for letter in "abcdefghijkl"), every=2)  # as many words as may be categories


@pytest.mark.parametrize(
    "change",
    [
        incomes("?"),
        incomes('"1,234.50"'),
        incomes("not said", every=2),
        MIXED,
    ],
    ids=["?", "1,234.50", "half of it words", "several words"],
)
async def test_no_income_reaches_the_label_party_as_the_name_of_a_category(tmp_path, change):
    """The job ends before any share leaves, or the column is one of numbers."""
    ended, heard, stage = await reported(tmp_path, change)
    for encoding in heard:
        assert not set(INCOME) & set(encoding.model_dump_json().split('"'))
        assert encoding.kinds["income"] == "numeric"
    if not heard:
        reason = off(ended, "table.unusable", CARD)
        assert "of which its owner's settings do not say what it is" in reason
        assert "income" not in reason
        assert "column 'income'" in ended[CARD].detail
        assert not {envelope.kind for envelope in stage.envelopes} & SHARES


async def test_what_the_owner_calls_categories_is_told(tmp_path):
    """That is its word."""
    ended, heard, _ = await reported(tmp_path, incomes("not said", every=2), categorical=("income",))
    assert {status.state for status in ended.values()} == {"done"}
    assert set(INCOME[1::2]) <= {
        category for column in heard[0].columns for category in getattr(column, "categories", ())
    }


async def test_the_test_sees_incomes_that_travel(tmp_path, monkeypatch):
    """Were the check not there."""
    monkeypatch.setattr("tercet.agents.roles.fitted_table.check_declared", lambda *_: None)
    _, heard, _ = await reported(tmp_path, MIXED)
    assert set(INCOME) & set(heard[0].model_dump_json().split('"'))


async def test_a_copy_of_the_label_is_told_the_label_party_and_nobody_else(tmp_path):
    """In its status, so that it sees it before it believes a model that is too good."""

    def copied(rows: Rows) -> None:
        for row in rows:
            row["twin"] = row["default"]

    settings = three(tmp_path, PATIENT)
    make_table(tmp_path / f"{BANK}.csv", seed=1, label=True, change=copied)
    async with scene(settings, tmp_path) as stage:
        await stage.start()
        ended = await stage.ended(stage.submit(job()), seconds=60)
    assert {status.state for status in ended.values()} == {"done"}
    reported = {party: [one for one in status.warnings if "twin" in one] for party, status in ended.items()}
    assert [party for party, found in reported.items() if found] == [BANK]
    assert "alone tells nearly every label" in reported[BANK][0]
