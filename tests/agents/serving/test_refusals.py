"""Nobody has rows served without consent, beyond a budget, or twice with other noise; and every refusal has a name."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.policy.audit_log import entries
from tercet.agents.serving.asking import MOST_AT_ONCE
from tercet.broker.interface.clock import loop_time
from tercet.schemas.files.policy import DAY_SECONDS
from tercet.schemas.messages.kinds import ScoreReply
from tests.agents.recording import Tables, hear_prediction
from tests.agents.roles.test_prediction import trained
from tests.agents.scenes import Scene
from tests.agents.serving.stage import THREE, TWO, copy_of, failure, ids_of, known_ids, query, scores, serving
from tests.agents.world import PERSON, write_table

BANK, CARD, TELCO = THREE.parties
Change = Callable[[Scene], None]


def pinned(**changes: Any) -> Change:
    """Card says something else of the bank."""
    return lambda stage: stage.pin(CARD, BANK, **changes)


def table(**changes: Any) -> Change:
    """Card says something else of its table."""

    def change(stage: Scene) -> None:
        tables = stage.parties[CARD][0].tables
        stage.change(CARD, tables={"people": tables["people"].model_copy(update=changes)})

    return change


def policy(**changes: Any) -> Change:
    """Card has another policy."""
    return lambda stage: stage.change(CARD, policy=stage.parties[CARD][0].policy.model_copy(update=changes))


async def settle(stage: Scene, change: Change) -> None:
    """Let card's agent read its settings again, with this change."""
    change(stage)
    await stage.agents[CARD].use_settings(stage.parties[CARD][0])


REFUSED: Mapping[str, tuple[Change, str, str, str]] = {
    "no consent": (pinned(serving_table=None), "policy.serving", CARD, "serving_table"),
    "no predictions": (pinned(predictions=False), "policy.serving", CARD, "[partners.bank]"),
    "a stranger to the table": (table(submitters=(TELCO,)), "policy.submitter", CARD, "submitters"),
    "a partner of the table": (table(partners=(BANK,)), "policy.parties", CARD, TELCO),
    "another purpose": (table(purposes=("credit",)), "policy.purpose", BANK, "--purpose"),
    "a purpose of the policy": (policy(purposes=("credit",)), "policy.purpose", BANK, "[policy] purposes"),
    "no predictions left": (table(max_predictions=0), "policy.exposure", CARD, "max_predictions"),
    "no rows left": (table(max_scored_rows=0), "policy.exposure", CARD, "max_scored_rows"),
    "no rows left today": (table(served_rows_a_day=0), "policy.exposure", CARD, "served_rows_a_day"),
    "no bits left": (table(max_score_bits=1), "policy.exposure", CARD, "max_score_bits"),
    "no scorings left": (table(max_total_scorings=0), "policy.exposure", CARD, "max_total_scorings"),
    "a table of other columns": (table(id="nobody"), "table.unusable", CARD, "cannot be used"),
}


@pytest.mark.parametrize(("change", "code", "culprit", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_a_partner_does_not_allow_is_refused_by_its_code(
    change: Change, code: str, culprit: str, words: str, tmp_path: Path
) -> None:
    """The reason says what to do, and nothing of a row; once it is mended, and read again, there are scores."""
    one = known_ids(THREE, tmp_path)[0]
    async with serving(THREE, tmp_path) as stage:
        before = stage.parties[CARD][0]
        await settle(stage, change)
        found = await failure(stage, THREE, [one])
        assert (found.code, found.culprit) == (code, culprit)
        assert words in found.reason
        assert one not in found.reason
        await stage.agents[CARD].use_settings(before)
        assert {*await scores(stage, THREE, [one])} == {one}


async def test_a_purpose_that_was_agreed_on_is_heeded(tmp_path: Path) -> None:
    """Word for word."""
    one = known_ids(THREE, tmp_path)[0]
    async with serving(THREE, tmp_path) as stage:
        await settle(stage, table(purposes=("credit",)))
        assert {*await scores(stage, THREE, [one], purpose="credit")} == {one}


async def test_what_the_label_party_lacks_is_named(tmp_path: Path) -> None:
    """Model and table."""
    copy_of(TWO, tmp_path)
    async with serving(TWO, tmp_path) as stage:
        assert (await failure(stage, TWO, [], model="other-01234567")).code == "model.missing"
        assert (await failure(stage, TWO, [], table="other")).code == "policy.table"


@pytest.mark.parametrize("release", ["shared", "label"])
def test_a_model_of_shared_weights_is_refused_with_what_to_do(release: str, tmp_path: Path) -> None:
    """Its scores take all parties' work."""
    sample = replace(TWO, release=release, epochs=1)
    trained(sample, tmp_path)

    async def ask_for_it() -> None:
        async with serving(sample, tmp_path) as stage:
            found = await failure(stage, sample, [])
            assert (found.code, found.culprit) == ("serving.shared", BANK)
            assert "tercet predict" in found.reason

    asyncio.run(ask_for_it())


async def test_a_partner_that_is_away_is_named_and_not_asked_again_at_once(tmp_path: Path) -> None:
    """So that its queue does not fill with what nobody waits for; when it is back, there are scores."""
    one = known_ids(TWO, tmp_path)[0]
    async with serving(TWO, tmp_path) as stage:
        expected = await scores(stage, TWO, [one])
        await stage.stop(CARD)
        start = loop_time()
        found = await failure(stage, TWO, [one])
        assert (found.code, found.culprit) == ("serving.deadline", CARD)
        assert "has not answered bank for 2 s ([deadlines] serve" in found.reason
        assert 1.9 < loop_time() - start < 2.5
        asked = len(stage.said("score request"))
        for _ in range(50):
            assert (await failure(stage, TWO, [one])).code == "serving.deadline"
        assert len(stage.said("score request")) == asked
        await stage.start(CARD)
        await asyncio.sleep(1.1)
        assert await scores(stage, TWO, [one]) == expected


async def test_no_more_questions_wait_than_a_bound(tmp_path: Path) -> None:
    """The others are told so at once."""
    one = known_ids(TWO, tmp_path)[0]
    async with serving(TWO, tmp_path) as stage:
        await scores(stage, TWO, [one])
        stage.hang(CARD)
        agent = stage.agents[BANK]
        replies = await asyncio.gather(*(agent.answer_local(query(TWO, [one])) for _ in range(MOST_AT_ONCE + 5)))
        codes = [reply.failure.code for reply in replies if isinstance(reply, ScoreReply) and reply.failure]
        assert codes.count("serving.busy") == 5
        assert codes.count("serving.deadline") == MOST_AT_ONCE
        stage.wake()


async def test_a_used_up_budget_ends_new_rows_and_no_old_ones(tmp_path: Path) -> None:
    """Over restarts, since it is on the disk; so is the audit log's line, before a score leaves."""
    first, second, third = known_ids(TWO, tmp_path)[:3]
    async with serving(TWO, tmp_path, {CARD: {"max_scored_rows": 2, "rescoring": False}}) as stage:
        await settle(stage, policy(score_noise=0.25))
        found = await scores(stage, TWO, [first, second])
        for _ in range(2):
            refused = await failure(stage, TWO, [third])
            assert (refused.code, refused.culprit) == ("policy.exposure", CARD)
            assert await scores(stage, TWO, [second, first]) == found
            await stage.stop(CARD)
            await stage.start(CARD)
    lines = [line for line in entries((tmp_path / CARD / "audit.log").read_bytes()) if line.event == "revealing"]
    assert [line.fields["stage"] for line in lines if line.fields["stage"] == "serving"] == ["serving"]
    counts = lines[-1].fields["counts"]
    assert (counts["predictions"], counts["scorings"], counts["scored_rows"]) == (1, 1, 2)
    assert lines[-1].fields["revelations"][0]["to"] == BANK


async def test_a_days_rows_are_bounded(tmp_path: Path) -> None:
    """Old ones are not counted, and a day later there is room again."""
    first, second, third = known_ids(TWO, tmp_path)[:3]
    async with serving(TWO, tmp_path, {CARD: {"served_rows_a_day": 2}}) as stage:
        assert len(await scores(stage, TWO, [first, second, first])) == 2
        assert (await failure(stage, TWO, [third])).code == "policy.exposure"
        assert len(await scores(stage, TWO, [first, second])) == 2
        (rows,) = stage.agents[CARD]._serving._answering._rows.values()
        rows.day.clock = lambda: time.time() + DAY_SECONDS
        assert len(await scores(stage, TWO, [third])) == 1


def test_a_days_rows_are_those_of_all_models_of_a_label_party(tmp_path: Path) -> None:
    """Also over a restart, and before the other model is asked for."""
    other = replace(TWO, epochs=TWO.epochs + 1)
    copy_of(other, tmp_path)
    first, second, third = known_ids(TWO, tmp_path)[:3]

    async def serve() -> None:
        async with serving(TWO, tmp_path, {CARD: {"served_rows_a_day": 2}}) as stage:
            assert len(await scores(stage, TWO, [first])) == 1
            model = other.description().id
            assert len(await scores(stage, TWO, [second], model=model)) == 1
            for _ in range(2):
                for asked in ({}, {"model": model}):
                    assert (await failure(stage, TWO, [third], **asked)).code == "policy.exposure"
                await stage.stop(CARD)
                await stage.start(CARD)

    asyncio.run(serve())


async def test_ids_that_a_partner_lacks_count_as_those_that_it_has(tmp_path: Path) -> None:
    """Once each, also over a restart; so a refusal tells of none whether it is there."""
    tables = copy_of(TWO, tmp_path)
    known = ids_of(tables, *TWO.parties)
    lacking = [one for one in tables[BANK][PERSON] if one not in known]
    async with serving(TWO, tmp_path, {CARD: {"served_rows_a_day": 2}}) as stage:
        found = await scores(stage, TWO, [known[0], lacking[0]])
        for _ in range(2):
            for other in (known[1], lacking[1]):
                assert (await failure(stage, TWO, [other])).code == "policy.exposure"
            assert await scores(stage, TWO, [lacking[0], known[0]]) == found
            await stage.stop(CARD)
            await stage.start(CARD)


async def test_a_row_that_changes_is_no_refusal(tmp_path: Path) -> None:
    """Where no rows are left it has no score, as if a partner lacked it."""
    tables = copy_of(TWO, tmp_path)
    first, second = ids_of(tables, *TWO.parties)[:2]
    async with serving(TWO, tmp_path, {CARD: {"served_rows_a_day": 2, "rescoring": True}}) as stage:
        assert len(await scores(stage, TWO, [first, second])) == 2
        changed = {name: list(values) for name, values in tables[CARD].items()}
        changed["card_quantity_0"][tables[CARD][PERSON].index(first)] = "55.5"
        write_table(tmp_path / f"{CARD}.csv", changed)
        await stage.agents[CARD].use_settings(stage.parties[CARD][0])  # which reads it again
        assert {*await scores(stage, TWO, [first, second])} == {second}
        await settle(stage, table(served_rows_a_day=3, rescoring=True))
        assert {*await scores(stage, TWO, [first, second])} == {first, second}


def predicted(folder: Path) -> tuple[Tables, list[str]]:
    """Rows of a folder that a prediction has scored."""
    tables = copy_of(TWO, folder)
    return tables, ids_of(tables, *TWO.parties)


def test_a_row_that_a_prediction_has_scored_is_not_served(tmp_path: Path) -> None:
    """Nor the other way round; as if a partner did not have it."""
    tables, ids = predicted(tmp_path)
    hear_prediction(TWO, tmp_path, tables, reading={"rescoring": False})

    async def serve() -> None:
        async with serving(TWO, tmp_path, {CARD: {"rescoring": False}}) as stage:
            assert await scores(stage, TWO, ids) == {}
            await stage.stop(CARD)
            table(rescoring=True)(stage)
            await stage.start(CARD)
            assert {*await scores(stage, TWO, ids)} == {*ids}

    asyncio.run(serve())


def test_a_row_that_was_served_is_not_predicted(tmp_path: Path) -> None:
    """Under the same model."""
    tables, ids = predicted(tmp_path)

    async def serve() -> None:
        async with serving(TWO, tmp_path, {CARD: {"rescoring": False}}) as stage:
            assert {*await scores(stage, TWO, ids[:1])} == {*ids[:1]}

    asyncio.run(serve())
    with pytest.raises(AssertionError, match=f"'policy.rescored'.*'1 of the {len(ids)} rows"):
        hear_prediction(TWO, tmp_path, tables, reading={"rescoring": False})


@pytest.mark.parametrize("rescoring", [False, True])
async def test_a_row_that_changes_is_scored_again_where_that_is_allowed(rescoring: bool, tmp_path: Path) -> None:
    """With other noise, and counted as another scoring; else there is no score until the row is as it was."""
    tables = copy_of(TWO, tmp_path)
    ids = ids_of(tables, *TWO.parties)[:2]
    async with serving(TWO, tmp_path, {CARD: {"rescoring": rescoring}}) as stage:
        await settle(stage, policy(score_noise=0.25))
        before = await scores(stage, TWO, ids)
        changed = {name: list(values) for name, values in tables[CARD].items()}
        changed["card_quantity_0"][tables[CARD][PERSON].index(ids[0])] = "55.5"
        write_table(tmp_path / f"{CARD}.csv", changed)
        await stage.agents[CARD].use_settings(stage.parties[CARD][0])  # which reads it again
        after = await scores(stage, TWO, ids)
        assert after[ids[1]] == before[ids[1]]
        if rescoring:
            assert after[ids[0]] != before[ids[0]]
        else:
            assert {*after} == {ids[1]}
    spent = [line for line in entries((tmp_path / CARD / "audit.log").read_bytes()) if line.event == "revealing"]
    assert spent[-1].fields["counts"]["scorings"] == (2 if rescoring else 1)


async def test_other_noise_of_the_same_row_is_another_answer(tmp_path: Path) -> None:
    """Two answers with one draw in two widths would give it away."""
    (one,) = known_ids(TWO, tmp_path)[:1]
    async with serving(TWO, tmp_path, {CARD: {"rescoring": False}}) as stage:
        await settle(stage, policy(score_noise=0.25))
        assert len(await scores(stage, TWO, [one])) == 1
        await settle(stage, policy(score_noise=0.5))
        assert await scores(stage, TWO, [one]) == {}


async def test_a_partner_that_asks_too_fast_is_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped is told to the log, and the others are answered."""
    one = known_ids(TWO, tmp_path)[0]
    async with serving(TWO, tmp_path) as stage:
        await scores(stage, TWO, [one])
        monkeypatch.setattr(stage.agents[CARD]._serving._answering._rates, "admit", lambda _: None)
        assert (await failure(stage, TWO, [one])).code == "serving.deadline"


async def test_an_old_question_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However validly it was sealed."""
    copy_of(TWO, tmp_path)
    async with serving(TWO, tmp_path) as stage:
        await scores(stage, TWO, [])
        monkeypatch.setattr("tercet.agents.serving.answering.TOLERANCE_SECONDS", -1.0)
        found = await failure(stage, TWO, [])
        assert (found.code, found.culprit) == ("job.expired", BANK)
