"""The page in a real browser: what persons do with it, and what its scripts and styles do under its own policy."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from tercet.agents.page.users import Role
from tercet.schemas.files.job import Evaluation
from tests.agents.page.chromium import chromium, log_in, person
from tests.agents.page.web import PASSWORD, add_user, paged, waiting_job
from tests.agents.scenes import CARD
from tests.debian import ServerMissingError, missing

pytestmark = pytest.mark.real_time

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script> for credit scoring"


async def test_persons_follow_approve_and_are_kept_out_in_a_real_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password, a viewer, a partner's markup, two approvals, and progress that comes by itself."""
    monkeypatch.setattr("tercet.agents.page.stream.TICK_SECONDS", 0.2)  # the job trains on meanwhile
    try:
        async with chromium() as browser, paged(tmp_path, approvals=2) as site:
            for name, role in (("ada", Role.APPROVER), ("bob", Role.APPROVER), ("vera", Role.VIEWER)):
                add_user(site.state, name, role)
            complaints: list[str] = []
            ada, bob, vera = [await person(browser, site.web.port, complaints) for _ in range(3)]
            await log_in(ada, "ada", "not her password at all")
            await expect(ada.get_by_role("alert")).to_have_text("Name or password is wrong.")
            complaints.clear()  # the console tells each answer of 403
            for page, name in ((ada, "ada"), (bob, "bob"), (vera, "vera")):
                await log_in(page, name, PASSWORD)
                await expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
            asks = Evaluation(holdout=0.25, loss=True, loss_to="all")
            job_id = await waiting_job(site, purpose=MARKUP, epochs=1000, evaluation=asks)
            for page in (ada, bob, vera):  # the list is live: nobody has loaded it again
                await page.get_by_text(f"{job_id} waits for a person here").click()
                await expect(page.get_by_text(MARKUP)).to_be_visible()
            await expect(vera.get_by_text("an approver decides")).to_be_visible()
            assert await vera.get_by_role("button", name="Approve").count() == 0
            await ada.get_by_role("button", name="Approve as ada").click()
            await expect(ada.get_by_text("Another person must, too.")).to_be_visible()
            await bob.reload()
            await expect(bob.get_by_text("Approved so far by ada.")).to_be_visible()
            await bob.get_by_role("button", name="Approve as bob").click()
            await expect(vera.locator("#live .pill")).to_have_text("training")  # of whom nobody has loaded anything
            steps = vera.locator("#live progress")
            first = float(await steps.get_attribute("value") or 0)
            await expect(vera.locator("polyline").first).to_be_visible()
            await expect(steps).not_to_have_attribute("value", f"{first:.0f}")
            assert float(await steps.get_attribute("value") or 0) > first
            wide = await vera.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await vera.set_viewport_size({"width": 390, "height": 844})
            assert wide
            assert await vera.evaluate("document.documentElement.scrollWidth <= innerWidth")
            site.stage.agents[CARD].cancel(job_id)
            await site.stage.ended(job_id)
            await expect(vera.locator("#live .pill")).to_have_text("cancelled")
            assert complaints == []
    except ServerMissingError as error:
        missing(error)
