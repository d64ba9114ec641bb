"""Rows that a column of the label party holds out: the same at all data parties, and said to nobody else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tercet.agents.alignment import held_out_column
from tercet.agents.core.problems import UNDECIDED
from tercet.schemas.files.job import EarlyStopping, Evaluation, Privacy, TrainingJob, read_job
from tercet.schemas.files.settings import TableSettings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import HeldOutRows, Message
from tests.agents.recovering import long_job, recovering, setup_of, states
from tests.agents.scenes import (
    BANK,
    CARD,
    SHARES,
    TELCO,
    Scene,
    four,
    job,
    make_table,
    nothing_left,
    off,
    scene,
    three,
)

BY_DATE = Evaluation(holdout_column="applied_on", holdout_from="2026-06-01", held_out_loss=True)


def add_dates(rows: list[dict[str, str]]) -> None:
    """A third of the people came late; another column has flags, and one has neither."""
    for number, row in enumerate(rows):
        row["applied_on"] = "2026-07-01" if number % 3 == 0 else "2026-05-31"
        row["is_new"] = str(number % 4 == 0).lower()
        row["colour"] = "green"


def prepare(stage: Scene, folder: Path) -> None:
    """The bank's table gets columns that may hold rows out, and the card processor's another order."""
    make_table(folder / f"{BANK}.csv", seed=1, label=True, change=add_dates)
    make_table(folder / f"{CARD}.csv", seed=2, change=lambda rows: rows.reverse())
    own = stage.parties[BANK][0].tables["customers"]
    holdouts = ("applied_on", "is_new", "colour")
    stage.change(BANK, tables={"customers": own.model_copy(update={"holdouts": holdouts})})


def held_out(stage: Scene, party: str, job_id: str) -> set[str]:
    """The ids that are held out at a party."""
    trained = setup_of(stage.runs[party, job_id])
    assert "applied_on" not in trained.encoding.kinds
    ids = trained.own.table.ids.to_pylist()
    return {ids[row] for row in trained.own.rows[trained.held_out]}


@pytest.mark.parametrize(
    ("privacy", "evaluation", "every"),
    [(Privacy(), BY_DATE, 3), (Privacy(helper_sees="scores"), Evaluation(holdout_column="is_new"), 4)],
    ids=["blind, by date", "shown, by flag"],
)
async def test_the_column_says_which_rows_are_held_out(
    tmp_path: Path, privacy: Privacy, evaluation: Evaluation, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of any size; the other data party is told which, and the helper nothing."""
    monkeypatch.setattr(held_out_column, "CHUNK", 40)
    said: list[tuple[str, str]] = []

    def look(address: Any, message: Any) -> Any:
        said.extend([(address.sender, address.receiver)] if isinstance(message, HeldOutRows) else [])
        return message

    async with scene(three(tmp_path), tmp_path) as stage:
        prepare(stage, tmp_path)
        stage.tap = look
        description = job(evaluation=evaluation, privacy=privacy)
        ended = await stage.run(description)
        assert states(ended) == {"done"}
        expected = {f"customer {number}" for number in range(0, 96, every)}
        assert held_out(stage, BANK, description.id) == held_out(stage, CARD, description.id) == expected
        assert ended[BANK].held_out == len(expected)
        assert "auc" in ended[BANK].metrics
    assert said == [(BANK, CARD)] * 3


async def test_an_attempt_after_a_restart_holds_out_the_same_rows(tmp_path: Path) -> None:
    """Though the table says otherwise by then."""
    async with recovering(tmp_path) as stage:
        prepare(stage, tmp_path)
        name = await stage.begun(long_job(evaluation=BY_DATE))
        make_table(tmp_path / f"{BANK}.csv", seed=1, label=True)
        await stage.restart(BANK)
        assert states(await stage.ended(name)) == {"done"}
        assert held_out(stage, BANK, name) == held_out(stage, CARD, name)
        assert len(held_out(stage, CARD, name)) == 32


def swap(message: HeldOutRows) -> HeldOutRows:
    """As many held-out rows, and other ones."""
    return HeldOutRows(bits=np.packbits(np.roll(np.unpackbits(np.frombuffer(message.bits, np.uint8)), 1)).tobytes())


async def test_a_label_party_that_holds_out_other_rows_in_a_later_attempt_is_named(tmp_path: Path) -> None:
    """Else each attempt would tell it scores of other rows, and partners would count those of one."""
    async with recovering(tmp_path) as stage:
        prepare(stage, tmp_path)

        def lie(address: Address, message: Message) -> Message:
            if isinstance(message, HeldOutRows) and address.attempt > 1:
                message = swap(message)
            return stage.note(address, message)

        stage.tap = lie
        name = await stage.begun(long_job(evaluation=BY_DATE))
        await stage.restart(BANK)
        assert "--again" in off(await stage.ended(name), "table.changed", BANK)


async def test_a_label_party_that_tells_partners_different_rows_ends_the_job(tmp_path: Path) -> None:
    """As many to each; the partners notice, who cannot know which of them all it was."""

    def equivocate(address: Address, message: Message) -> Message:
        return swap(message) if isinstance(message, HeldOutRows) and address.receiver == TELCO else message

    async with scene(four(tmp_path), tmp_path) as stage:
        prepare(stage, tmp_path)
        stage.tap = equivocate
        tables = tuple((party, "customers") for party in (BANK, CARD, TELCO))
        ended = await stage.run(job(evaluation=BY_DATE, tables=tables))
        off(ended, "split.differs", UNDECIDED)
        assert not stage.said(*SHARES)
        nothing_left(stage)


async def test_a_column_that_the_settings_do_not_list_is_refused(tmp_path: Path) -> None:
    async with scene(three(tmp_path), tmp_path) as stage:
        prepare(stage, tmp_path)
        wrong = Evaluation(holdout_column="bank-1", holdout_from=0.0)
        reason = off(await stage.run(job(evaluation=wrong)), "policy.columns", BANK)
        assert "holdouts" in reason
        nothing_left(stage)


async def test_a_column_that_does_not_fit_is_told_without_a_value(tmp_path: Path) -> None:
    async with scene(three(tmp_path), tmp_path) as stage:
        prepare(stage, tmp_path)
        wrong = Evaluation(holdout_column="colour", holdout_from="2026-06-01")
        reason = off(await stage.run(job(evaluation=wrong)), "table.unusable", BANK)
        assert "green" not in reason
        nothing_left(stage)


async def test_bits_that_are_not_one_for_each_row_end_the_job(tmp_path: Path) -> None:
    def spoil(_: Any, message: Any) -> Any:
        return HeldOutRows(bits=message.bits + b"\x00") if isinstance(message, HeldOutRows) else message

    async with scene(three(tmp_path), tmp_path) as stage:
        prepare(stage, tmp_path)
        stage.tap = spoil
        off(await stage.run(job(evaluation=BY_DATE)), "message.malformed", BANK)
        nothing_left(stage)


@pytest.mark.parametrize(
    "wrong",
    [
        {"holdout_column": "applied_on", "holdout": 0.2},
        {"holdout_column": "applied_on", "split": "spring"},
        {"holdout_from": "2026-06-01"},
        {"holdout_column": "applied_on", "holdout_from": "June"},
        {"split": "spring"},
    ],
)
def test_a_job_says_in_one_way_what_is_held_out(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="hold"):
        Evaluation(**wrong)


def test_a_day_may_be_written_as_toml_has_days(tmp_path: Path) -> None:
    """And holds out as its text does; it may be stopped early by."""
    stopped = job(evaluation=BY_DATE, early_stopping=EarlyStopping(on="held_out_loss"))
    assert stopped.scorings == 1
    text = f"""
name = "credit"
model = "logistic"
label = "{BANK}"
helper = "notary"
[tables]
{BANK} = "customers"
{CARD} = "customers"
[evaluation]
holdout_column = "applied_on"
holdout_from = 2026-06-01
"""
    (tmp_path / "job.toml").write_text(text)
    read = read_job(tmp_path / "job.toml")
    assert isinstance(read, TrainingJob)
    assert read.evaluation.holdout_from == "2026-06-01"
    assert TrainingJob.model_validate_json(read.model_dump_json()) == read


def test_a_column_has_one_part(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="another part"):
        TableSettings(path=tmp_path / "t.csv", id="id", columns=("a",), holdouts=("a",))
