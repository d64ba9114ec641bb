"""A job may wait for a person: everybody waits and knows for whom, and the answer counts for the whole run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Paper

from tercet.agents.cli.rendering import job_details, job_table
from tercet.agents.core.states import APPROVAL
from tercet.agents.jobs.approvals import summarize_revelations
from tercet.agents.policy.audit_log import entries
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.job import Evaluation, TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.kinds import Approvers, Decide, Status
from tests.agents.daemon.test_console import request
from tests.agents.policy.test_check import announced, settings_of
from tests.agents.scenes import BANK, CARD, NOTARY, QUICK, Scene, job, nothing_left, off, scene, three

PARTIES = (BANK, CARD, NOTARY)
PASSED = QUICK.start + QUICK.accept  # which a waiting party must outlive


def asking(stage: Scene, *parties: str, approvals: int = 1, **deadlines: Any) -> None:
    """These parties ask a person, or several; all wait for so long."""
    for party in PARTIES:
        asks: dict[str, Any] = {"approval": True, "approvals": approvals} if party in parties else {}
        policy = PolicySettings(narrow=True, helper_sees="scores", **asks)
        stage.change(party, policy=policy, deadlines=QUICK.model_copy(update={"approve": 30, **deadlines}))
        stage.change(party, recovery=Recovery())


async def waiting(stage: Scene, job_id: str, *parties: str) -> None:
    """Return when these parties wait for their operators."""
    await stage.until(lambda: all(approval(stage, party, job_id) == APPROVAL for party in parties))


@asynccontextmanager
async def asked(
    folder: Path, *parties: str, description: TrainingJob | None = None, submitter: str = BANK, **asks: Any
) -> AsyncIterator[tuple[Scene, str]]:
    """A job that waits for persons of these parties, but for its submitter's; at the end it is cancelled."""
    async with scene(three(folder), folder) as stage:
        asking(stage, *parties, **asks)
        await stage.start()
        job_id = stage.submit(description or job(), submitter)
        await waiting(stage, job_id, *({*parties} - {submitter}))
        yield stage, job_id
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id)


def approval(stage: Scene, party: str, job_id: str) -> str:
    """What a party says of its operator's word on a job; nothing while it does not know the job."""
    found = stage.agents[party].status(job_id)
    return found[0].approval if found else ""


async def decide(stage: Scene, party: str, job_id: str, *, approve: bool = True, why: str = "") -> Status:
    """What `tercet job approve` and `refuse` say."""
    async with stage.console(party) as console:
        return await console.decide(job_id, approve=approve, who="ada", why=why)


def events(folder: Path, party: str) -> list[str]:
    """What a party's audit log tells of."""
    return [entry.event for entry in entries((folder / party / "audit.log").read_bytes())]


async def test_everybody_waits_for_a_person_and_goes_on_when_there_is_a_yes(tmp_path: Path) -> None:
    """Longer than any other deadline; every party tells for whom, by the label party's word, and reads no table.

    What a person is shown says what to do.
    """
    async with asked(tmp_path, CARD) as (stage, job_id):
        await asyncio.sleep(PASSED)
        for party in PARTIES:
            (found,) = stage.agents[party].status(job_id)
            assert found.waits_for in {(CARD,), ()}
            assert (found.waits_for == ()) == (party == CARD)
            (card,) = [one for one in found.parties if one.party == CARD]
            assert card.stage == APPROVAL
            assert found.table_rows == 0
        nothing_left(stage)
        paper = Paper(width=200, record=True, file=StringIO())
        for party in (CARD, BANK):
            paper.print(job_details(stage.agents[party].status(job_id)[0]))
        text = paper.export_text()
        assert f"tercet job approve {job_id}" in text
        assert "asks its operator for approval" in text
        answer = await decide(stage, CARD, job_id)
        assert answer.problem is None
        ended = await stage.ended(job_id)
        assert {found.state for found in ended.values()} == {"done"}
        assert (ended[CARD].approval, ended[BANK].approval) == ("ada", "")
        assert {envelope.sender for envelope in stage.said(Approvers.kind)} == {BANK}
    assert "approved" in events(tmp_path, CARD)


async def test_all_parties_may_ask_and_each_answer_counts(tmp_path: Path) -> None:
    """Whoever submits a job has said yes to it; the helper may ask too."""
    async with asked(tmp_path, *PARTIES, submitter=CARD) as (stage, job_id):
        assert approval(stage, CARD, job_id) == ""
        for party in (NOTARY, BANK):
            await decide(stage, party, job_id)
        assert {found.state for found in (await stage.ended(job_id)).values()} == {"done"}


@pytest.mark.parametrize("party", [BANK, NOTARY])
async def test_a_refusal_ends_the_job_everywhere_with_its_reason(tmp_path: Path, party: str) -> None:
    """Nothing was read or sent."""
    submitter = CARD if party == BANK else BANK
    async with asked(tmp_path, party, submitter=submitter) as (stage, job_id):
        await decide(stage, party, job_id, approve=False, why="not in this quarter")
        reason = off(await stage.ended(job_id), "policy.refused", party)
        assert "not in this quarter" in reason
        nothing_left(stage)
    assert "refused" in events(tmp_path, party)


@pytest.mark.parametrize("party", [CARD, NOTARY])
async def test_a_job_that_waits_can_be_cancelled_at_every_party(tmp_path: Path, party: str) -> None:
    """Where a person is asked, and where not."""
    async with asked(tmp_path, CARD) as (stage, job_id):
        stage.agents[party].jobs.cancel(job_id, "anna")
        ended = await stage.ended(job_id)
        assert {(found.state, found.cancelled_by, found.release) for found in ended.values()} == {
            ("cancelled", party, "")
        }
        reported = StringIO()
        for found in ended.values():
            Paper(file=reported, width=120).print(job_table([found]), job_details(found))
        assert reported.getvalue().count(f"cancelled by {party}") == 2 * len(ended)
    for one in PARTIES:
        audited = {entry.event: entry.fields for entry in entries((tmp_path / one / "audit.log").read_bytes())}
        assert audited["ended"]["cancelled_by"] == party
        assert audited.get("cancelled") == ({"by": "anna"} if one == party else None)


@pytest.mark.parametrize("party", [BANK, CARD])
async def test_a_job_that_nobody_approves_ends_with_that_reason(tmp_path: Path, party: str) -> None:
    """At the party that has asked; no other is blamed for having waited."""
    async with scene(three(tmp_path), tmp_path) as stage:
        asking(stage, party, approve=0.6)
        await stage.start()
        ended = await stage.ended(stage.submit(job(), NOTARY))
        assert f"nobody at {party}" in off(ended, "policy.approval", party)


async def test_an_approval_counts_for_later_attempts_of_the_run(tmp_path: Path) -> None:
    """The agent is killed while a person is asked, who is asked again, and while the job trains: nobody is then."""
    async with asked(tmp_path, CARD, step=20, release=20, description=job(epochs=6)) as (stage, job_id):
        await stage.crash(CARD)
        await stage.start(CARD)
        await waiting(stage, job_id, CARD)
        await decide(stage, CARD, job_id)
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        await stage.crash(CARD)
        await stage.start(CARD)
        assert {found.state for found in (await stage.ended(job_id, seconds=30)).values()} == {"done"}
        audited = events(tmp_path, CARD)
        assert audited.count("approved") == 1
        assert audited.count("begun") >= 2


async def test_a_decision_on_a_job_that_does_not_wait_is_refused(tmp_path: Path) -> None:
    """It was approved already, has ended, is not known, or nobody is asked."""
    async with asked(tmp_path, CARD, description=job(epochs=1000)) as (stage, job_id):
        assert "does not wait" in ((await decide(stage, BANK, job_id)).problem or "")
        await decide(stage, CARD, job_id)
        assert "was approved already" in ((await decide(stage, CARD, job_id, approve=False)).problem or "")
        assert "knows no job" in ((await decide(stage, CARD, "credit-00000000")).problem or "")
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id)
        assert "is cancelled already by bank" in ((await decide(stage, CARD, job_id)).problem or "")


async def test_approving_what_was_refused_says_so(tmp_path: Path) -> None:
    """At once, while the job still ends, and afterwards; and that it may be submitted again."""
    async with asked(tmp_path, CARD) as (stage, job_id):
        await decide(stage, CARD, job_id, approve=False, why="not in this quarter")
        assert "was refused already" in ((await decide(stage, CARD, job_id)).problem or "")
        ended = await stage.ended(job_id)
        assert {status.release for status in ended.values()} == {""}
        problem = (await decide(stage, CARD, job_id)).problem or ""
        assert "was refused already" in problem
        assert "not in this quarter" in problem
        assert "--again" in problem


async def test_nobody_but_the_partys_own_console_decides(tmp_path: Path) -> None:
    """Not the submitter, not another partner, and nobody without the party's key who says that he is its console."""
    async with asked(tmp_path, CARD) as (stage, job_id):
        yes = Decide(job=job_id, approve=True, who="mallory")
        for sender in (BANK, NOTARY):
            own = stage.parties[sender][1]
            for named in (sender, CARD):
                stage.memory_broker.accept(request(yes, own, stage, named, CARD), sender)
        stage.memory_broker.accept(request(yes, Identity.generate(), stage, CARD, CARD), CARD)
        await asyncio.sleep(0.05)
        assert approval(stage, CARD, job_id) == APPROVAL
    assert "approved" not in events(tmp_path, CARD)


async def test_a_console_is_told_what_a_job_tells_whom(tmp_path: Path) -> None:
    """If it asks for that, of any job that is known."""
    description = job(evaluation=Evaluation(holdout=0.25), purpose="credit scoring")
    async with asked(tmp_path, CARD, description=description) as (stage, job_id):
        async with stage.console(CARD) as console:
            assert (await console.query(job_id)).reveals == ()
            reported = "\n".join((await console.reveals(job_id)).reveals)
        assert "credit scoring" in reported
        assert "bank learns the scores of held-out rows, 25% of all, once (protection: noise of each" in reported


def test_a_summary_tells_each_role_what_the_protocol_tells_it() -> None:
    """More with each thing that a job asks for."""
    settings = settings_of(CARD)
    plain = summarize_revelations(announced(), settings)
    assert any("notary learns how many ids" in line for line in plain)
    assert any("card learns the weights of its own columns" in line for line in plain)
    assert not any("scores of held-out" in line or "training loss" in line for line in plain)
    asks: dict[str, Any] = {"release": "label", "alignment": "ecdh", "evaluation": Evaluation(loss=True, loss_to="all")}
    much = summarize_revelations(announced(**asks), settings)
    assert any("bank learns all weights" in line for line in much)
    assert any("bank learns the mean training loss" in line for line in much)
    assert any("card learns each loss that bank learns" in line for line in much)
    assert not any("notary learns how many ids" in line for line in much)


async def say(stage: Scene, job_id: str, who: str, *, approve: bool = True) -> str:
    """What the agent's own socket or page passes on: a person whose name is certain; the problem, if any."""
    answer = await stage.agents[CARD].answer(Decide(job=job_id, approve=approve, who=who))
    return answer.problem or ""


async def test_two_persons_must_approve_where_the_policy_says_so(tmp_path: Path) -> None:
    """Nothing happens after the first, who does not count twice, not after a restart either."""
    async with asked(tmp_path, CARD, approvals=2) as (stage, job_id):
        assert await say(stage, job_id, "ada") == ""
        for restarted in (False, True):
            if restarted:
                await stage.crash(CARD)
                await stage.start(CARD)
                await waiting(stage, job_id, CARD)
            assert "another person" in await say(stage, job_id, "ada")
            await asyncio.sleep(PASSED)
            (found,) = stage.agents[CARD].status(job_id)
            assert (found.approval, found.approvals, found.approvals_needed) == (APPROVAL, ("ada",), 2)
            nothing_left(stage)
        paper = Paper(width=200, record=True, file=StringIO())
        paper.print(job_details(found))
        assert "1 of 2 have approved" in paper.export_text()
        assert await say(stage, job_id, "bob") == ""
        ended = await stage.ended(job_id)
        assert {found.state for found in ended.values()} == {"done"}
        assert (ended[CARD].approval, ended[CARD].approvals) == ("ada and bob", ())
    audited = [entry.fields["by"] for entry in entries((tmp_path / CARD / "audit.log").read_bytes())
               if entry.event == "approved"]  # fmt: skip
    assert audited == ["ada", "bob"]


@pytest.mark.parametrize("users", [("ada", "bob"), ("bob",)])
async def test_a_restarted_agent_knows_who_approved_on_the_page(tmp_path: Path, users: tuple[str, ...]) -> None:
    """So that whoever is gone by then does not count."""
    async with asked(tmp_path, CARD, approvals=2) as (stage, job_id):
        await stage.agents[CARD].answer(Decide(job=job_id, approve=True, who="ada"), on_page=True)
        await stage.crash(CARD)
        await stage.start(CARD)
        await waiting(stage, job_id, CARD)
        stage.agents[CARD].requests.page_users = lambda: users
        await stage.agents[CARD].answer(Decide(job=job_id, approve=True, who="bob"), on_page=True)
        (found,) = stage.agents[CARD].status(job_id)
        assert found.approval == ("ada and bob" if "ada" in users else APPROVAL)


async def test_an_approval_does_not_outlive_a_refusal(tmp_path: Path) -> None:
    """One person refuses a job that takes two. If the run is taken up again, all persons are asked anew."""
    async with asked(tmp_path, CARD, approvals=2) as (stage, job_id):
        await say(stage, job_id, "ada")
        assert await say(stage, job_id, "bob", approve=False) == ""
        recorded = stage.agents[CARD].jobs.records.find(job_id)
        assert recorded is not None
        assert recorded.status.approvals == ()  # whatever happens to the agent now
        off(await stage.ended(job_id), "policy.refused", CARD)
        stage.runs.clear()
        stage.agents[BANK].resume(job_id)
        await waiting(stage, job_id, CARD)
        assert await say(stage, job_id, "carol") == ""
        await asyncio.sleep(PASSED)
        assert stage.agents[CARD].status(job_id)[0].approvals == ("carol",)
        nothing_left(stage)


async def test_whoever_has_the_key_is_not_two_persons(tmp_path: Path) -> None:
    """A console at the broker says itself whose it is."""
    async with asked(tmp_path, CARD, approvals=2) as (stage, job_id):
        assert "nobody knows who you are" in ((await decide(stage, CARD, job_id)).problem or "")
        assert stage.agents[CARD].status(job_id)[0].approvals == ()
        assert (await decide(stage, CARD, job_id, approve=False)).problem is None
        await stage.ended(job_id)


def test_two_approvals_need_approval() -> None:
    with pytest.raises(ValueError, match="approval = true"):
        PolicySettings(approvals=2)
