"""A job that cannot be run, or a key that differs, is refused before any share leaves, by everybody alike."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.agents.scenes import (
    BANK,
    CARD,
    NOTARY,
    PATIENT,
    job,
    make_narrow,
    make_table,
    nothing_left,
    off,
    scene,
    stranger,
    three,
)


async def test_a_job_that_does_not_fit_into_the_words_is_refused(tmp_path: Path) -> None:
    """Whoever submitted it is told what to change."""
    changes: list[tuple[dict[str, Any], str]]
    changes = [({"rate": 1e6}, "rate"), ({"rate": 1e-9}, "rate"), ({"rate": 1.5, "l2": 0.9}, "l2")]
    async with scene(three(tmp_path), tmp_path) as stage:
        for number, (change, words) in enumerate(changes):
            ended = await stage.run(job(f"credit-{number}", **change), CARD)
            assert words in off(ended, "job.plan", CARD)
        nothing_left(stage)


async def test_narrow_tables_are_refused_unless_the_job_accepts_it(tmp_path: Path) -> None:
    """Records of few kinds would be exposed to the helper, however many columns hold them."""
    settings = three(tmp_path)
    for party in (BANK, CARD):
        make_narrow(tmp_path / f"{party}.csv")
    async with scene(settings, tmp_path) as stage:
        ended = await stage.run(job())
        assert "accept_narrow" in off(ended, "job.plan", BANK)
        nothing_left(stage)
        ended = await stage.ended(stage.submit(job(accept_narrow=True)))
        assert {status.state for status in ended.values()} == {"done"}


async def test_who_may_not_submit_is_refused(tmp_path: Path) -> None:
    """Each party decides for itself whose jobs it takes."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.pin(CARD, BANK, may_submit=False)
        ended = await stage.run(job())
        assert "may_submit" in off(ended, "policy.submitter", BANK)
        nothing_left(stage)


OTHER_ROLES: dict[str, dict[str, Any]] = {  # by submitter
    BANK: {"helper": CARD, "tables": ((BANK, "customers"), (NOTARY, "customers"))},
    NOTARY: {"helper": BANK, "label": NOTARY, "tables": ((CARD, "customers"), (NOTARY, "customers"))},
}


async def test_a_party_in_a_role_that_is_not_its_own_is_refused(tmp_path: Path) -> None:
    """A notary holds no tables, and a data party is no notary; no agent comes to harm by being asked."""
    async with scene(three(tmp_path), tmp_path) as stage:
        for submitter, changes in OTHER_ROLES.items():
            ended = await stage.run(job(submitter, **changes), submitter)
            assert "role" in off(ended, "policy.role", submitter)
        nothing_left(stage)
        assert {status.state for status in (await stage.run(job())).values()} == {"done"}


async def test_a_job_with_a_party_that_the_submitter_does_not_know_is_not_announced(tmp_path: Path) -> None:
    """Nothing is sent: the error comes at once."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        async with stage.console(BANK) as console:
            answer = await console.submit(job(tables=((BANK, "customers"), ("telco", "customers"))))
        assert "telco" in (answer.problem or "")
        assert stage.said("job") == []


async def test_a_job_without_the_submitter_is_not_announced(tmp_path: Path) -> None:
    """A party starts only jobs that it has a part in."""
    settings = three(tmp_path)
    make_table(tmp_path / "telco.csv", seed=3)
    telco = settings[CARD].model_copy(update={"party": "telco"})
    async with scene(settings | {"telco": telco}, tmp_path) as stage:
        await stage.start()
        async with stage.console("telco") as console:
            answer = await console.submit(job())
        assert "no part" in (answer.problem or "")
        assert stage.said("job") == []


# --- keys


async def test_a_partner_that_does_not_know_another_party_says_whom(tmp_path: Path) -> None:
    """The card processor has no key of the notary."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.forget(CARD, NOTARY)
        ended = await stage.run(job())
        assert "[partners.notary]" in off(ended, "policy.partner", CARD)
        nothing_left(stage)


@pytest.mark.parametrize("pinned", ["none", "wrong"])
async def test_a_submitter_that_a_party_does_not_know_is_told_to_compare_keys(tmp_path: Path, pinned: str) -> None:
    """It cannot answer somebody whose key it does not have; the others name it, and say what may be the matter."""
    async with scene(three(tmp_path), tmp_path) as stage:
        if pinned == "none":
            stage.forget(CARD, BANK)
        else:
            stage.pin(CARD, BANK, key=stranger().key)
        await stage.start()
        ended = await stage.ended(stage.submit(job()), BANK, NOTARY)
        assert re.search("key", off(ended, "party.silent", CARD))
        nothing_left(stage)


@pytest.mark.parametrize("holder", [BANK, CARD])
async def test_two_parties_with_different_keys_of_a_third_are_told_to_compare(tmp_path: Path, holder: str) -> None:
    """One of the two is wrong; neither can know which."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.pin(holder, NOTARY, key=stranger().key)
        await stage.start()
        everybody = (BANK, CARD, NOTARY) if holder == CARD else (BANK, CARD)  # the notary cannot read the bank's
        ended = await stage.ended(stage.submit(job()), *everybody)
        assert "keygen" in off(ended, "policy.key", BANK)
        nothing_left(stage)


async def test_a_party_that_cannot_speak_to_the_label_party_is_heard_through_another(tmp_path: Path) -> None:
    """The notary holds another key of the bank than the submitter does, so the bank could not read what it says."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.pin(NOTARY, BANK, key=stranger().key)
        await stage.start()
        ended = await stage.ended(stage.submit(job(), CARD))
        assert "different keys of bank" in off(ended, "policy.key", CARD)
        nothing_left(stage)
