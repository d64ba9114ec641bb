"""Persons decide on jobs on the page: who may, what follows, and what the audit log says of it."""

import re
from pathlib import Path

import pytest

from tercet.agents.page.users import Role, UserFile
from tercet.agents.policy.audit_log import entries
from tercet.schemas.messages.kinds import Query
from tests.agents.page.web import add_user, paged, visited, waiting_job
from tests.agents.scenes import CARD, nothing_left, off

pytestmark = pytest.mark.real_time


def audited(state: Path, event: str) -> list[str]:
    """The persons of an event in the audit log."""
    return [entry.fields["by"] for entry in entries((state / "audit.log").read_bytes()) if entry.event == event]


async def test_two_persons_approve_a_job(tmp_path: Path) -> None:
    """The second word lets it in; the log has both names."""
    async with paged(tmp_path, approvals=2) as site:
        ada, bob = await site.person("ada", Role.APPROVER), await site.person("bob", Role.OPERATOR)
        job_id = await waiting_job(site)
        page = f"/jobs/{job_id}"
        assert "Nobody has yet" in (await ada.get(page)).text
        assert (await ada.press(page, f"{page}/approve")).status == 303
        shown = (await ada.get(page)).text
        assert ("Another person must" in shown, "Approve as" in shown) == (True, False)
        nothing_left(site.stage)
        assert "Approved so far by ada" in (await bob.get(page)).text
        assert (await bob.press(page, f"{page}/approve")).status == 303
        assert {found.state for found in (await site.stage.ended(job_id)).values()} == {"done"}
        assert "Approved by ada and bob" in (await ada.get(page)).text
    assert audited(site.state, "approved") == ["ada", "bob"]


async def test_one_person_is_not_two_by_a_form_of_her_own(tmp_path: Path) -> None:
    """The button is gone, and the agent itself counts names."""
    async with visited(tmp_path, Role.APPROVER, approvals=2) as (site, ada):
        job_id = await waiting_job(site)
        page = f"/jobs/{job_id}"
        form = await ada.get(page)
        sent = {"csrf": form.csrf(), "run": form.hidden("run")}
        assert (await ada.post(f"{page}/approve", sent)).status == 303
        again = await ada.post(f"{page}/approve", sent)
        assert (again.status, "another person" in again.text) == (409, True)


@pytest.mark.parametrize("role", [None, Role.VIEWER])
async def test_who_is_removed_has_approved_nothing(tmp_path: Path, role: Role | None) -> None:
    """As the last word comes, the first is of nobody who may still approve."""
    async with paged(tmp_path, approvals=2) as site:
        ada, bob = await site.person("ada", Role.APPROVER), await site.person("bob", Role.APPROVER)
        job_id = await waiting_job(site)
        page = f"/jobs/{job_id}"
        assert (await ada.press(page, f"{page}/approve")).status == 303
        UserFile(site.state).remove("ada")
        if role is not None:
            add_user(site.state, "ada", role)
        assert (await bob.press(page, f"{page}/approve")).status == 303
        (found,) = site.stage.agents[CARD].status(job_id)
        assert (found.approval, found.approvals) == ("approval", ("bob",))
        carol = await site.person("carol", Role.APPROVER)
        assert (await carol.press(page, f"{page}/approve")).status == 303
        assert {found.state for found in (await site.stage.ended(job_id)).values()} == {"done"}


async def test_a_refusal_tells_everybody_why(tmp_path: Path) -> None:
    async with visited(tmp_path, Role.APPROVER) as (site, ada):
        job_id = await waiting_job(site)
        page = f"/jobs/{job_id}"
        assert (await ada.press(page, f"{page}/refuse", why="not in this quarter")).status == 303
        assert "not in this quarter" in off(await site.stage.ended(job_id), "policy.refused", CARD)
        assert (await ada.press(page, f"{page}/approve", run="00")).status == 409
        assert "not in this quarter" in (await ada.get(page)).text
    assert audited(site.state, "refused") == ["ada"]


async def test_a_job_is_shown_by_the_settings_with_which_it_runs(tmp_path: Path) -> None:
    """Others that the agent has read meanwhile count for the jobs after it."""
    async with visited(tmp_path, Role.APPROVER) as (site, ada):
        job_id = await waiting_job(site)
        agent = site.stage.agents[CARD]

        async def shown() -> tuple[list[str], tuple[str, ...]]:
            listed = re.findall(r"<li>[^<]*card[^<]*</li>", (await ada.get(f"/jobs/{job_id}")).text)
            return listed, (await agent.answer(Query(job=job_id, reveals=True))).reveals

        before = await shown()
        tables = {
            name: table.model_copy(update={"columns": ("card-0",)}) for name, table in agent.settings.tables.items()
        }
        await agent.use_settings(agent.settings.model_copy(update={"tables": tables}))
        assert await shown() == before


@pytest.mark.parametrize(
    ("role", "word", "may"),
    [
        (Role.VIEWER, "approve", False),
        (Role.VIEWER, "refuse", False),
        (Role.VIEWER, "cancel", False),
        (Role.APPROVER, "approve", True),
        (Role.APPROVER, "cancel", False),
        (Role.OPERATOR, "cancel", True),
    ],
)
async def test_a_person_does_what_the_role_says(tmp_path: Path, role: Role, word: str, may: bool) -> None:
    """Though the form is all right: any person has its secret."""
    async with visited(tmp_path, role) as (site, ada):
        job_id = await waiting_job(site, epochs=200)
        page = f"/jobs/{job_id}"
        run = site.stage.agents[CARD].jobs.runs[job_id].job.run.hex()
        answer = await ada.press(page, f"{page}/{word}", run=run)
        assert answer.status == (303 if may else 403)
        assert may or f"A {role} may not do that" in answer.text
        if may:
            await site.stage.ended(job_id)
    events = [entry.event for entry in entries((site.state / "audit.log").read_bytes())]
    assert {"approve": "approved", "refuse": "refused"}.get(word, "ended") in events or not may
    assert not ({"approved", "refused"} & {*events}) or may
    if word == "cancel":
        assert audited(site.state, "cancelled") == (["ada"] if may else [""])


async def test_a_word_on_another_run_than_the_one_that_was_shown_does_not_count(tmp_path: Path) -> None:
    """It was submitted anew meanwhile, with other partners perhaps."""
    async with visited(tmp_path, Role.OPERATOR) as (site, ada):
        job_id = await waiting_job(site)
        page = f"/jobs/{job_id}"
        for word in ("approve", "refuse", "cancel"):
            answer = await ada.press(page, f"{page}/{word}", run="00" * 32)
            assert (answer.status, "submitted anew" in answer.text) == (409, True)
        assert site.stage.agents[CARD].status(job_id)[0].approval == "approval"
        assert (await ada.post("/jobs/none-00000000/approve", {"csrf": (await ada.get("/")).csrf()})).status == 404
