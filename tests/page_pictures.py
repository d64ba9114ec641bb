"""Takes the pictures of docs/page.md: three agents in this process, two of their pages, and a real Chromium.

`python -m tests.page_pictures` writes them; with a folder it writes every page there, in full, to look at the design.
"""

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from tercet.agents.page.users import Role
from tercet.schemas.files.job import Evaluation
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.policy import PolicySettings
from tests.agents.page.chromium import chromium, log_in, person
from tests.agents.page.web import PASSWORD, Site, add_user, page_of, waiting_job
from tests.agents.scenes import BANK, CARD, PATIENT, make_table, scene, three
from tests.test_rooms import ROOT

WIDTHS = {"wide": {"width": 1280, "height": 860}, "narrow": {"width": 390, "height": 844}}
ROWS, EPOCHS = 2000, 400
PAGES = {"jobs": "/", "tables": "/tables", "partners": "/partners", "letters": "/dead-letters", "audit": "/audit"}


class Camera:
    """Takes pictures of a page of a scene as a person of it sees them."""

    def __init__(self, browser: Browser, out: Path, *, whole: bool) -> None:
        self._browser, self._out, self._whole = browser, out, whole

    async def take_picture(self, site: Site, path: str, name: str, width: str, see: str = "h1") -> None:
        """Write one picture; `see` is what has to be there, and in sight."""
        page = await person(self._browser, site.web.port, [], viewport=WIDTHS[width])
        await log_in(page, "ada", PASSWORD)
        await page.get_by_role("heading", name="Jobs").wait_for()
        await page.goto(f"http://127.0.0.1:{site.web.port}{path}")
        await page.locator(see).first.scroll_into_view_if_needed()
        await page.screenshot(path=self._out / f"page-{name}.png", full_page=self._whole)
        await page.context.close()

    async def take_all(self, site: Site, job_id: str, stage: str) -> None:
        """Write every page of a site, wide and narrow."""
        for width in WIDTHS:
            for name, path in {**PAGES, "job": f"/jobs/{job_id}"}.items():
                await self.take_picture(site, path, f"{stage}-{name}-{width}", width)


async def take_pictures(folder: Path, out: Path, *, whole: bool) -> None:
    """Write the pictures of a job that waits for two persons, and then runs."""
    settings = three(folder, PATIENT)
    for number, party in enumerate((BANK, CARD)):
        make_table(folder / f"{party}.csv", seed=number + 1, rows=ROWS, label=party == BANK)
    async with scene(settings, folder) as stage, AsyncExitStack() as stack:
        for party in (BANK, CARD):
            asks: dict[str, Any] = {"approval": True, "approvals": 2} if party == CARD else {}
            stage.change(party, policy=PolicySettings(helper_sees="scores", narrow=True, **asks))
            stage.change(party, page=PageSettings(port=0))
        await stage.start()
        bank, card = [await stack.enter_async_context(page_of(stage, party)) for party in (BANK, CARD)]
        for site in (bank, card):
            add_user(site.state, "ada", Role.OPERATOR)
        camera = Camera(await stack.enter_async_context(chromium()), out, whole=whole)
        asks_for = Evaluation(holdout=0.25, metrics="end", loss=True, held_out_loss=True)
        fields = {"evaluation": asks_for, "batch": 100, "rate": 0.05, "purpose": "credit scoring"}
        for name, epochs in (("returns", 3), ("credit", EPOCHS)):
            job_id = await waiting_job(card, name, epochs=epochs, **fields)
            if epochs == EPOCHS:
                await camera.take_picture(card, "/", "jobs", "wide")
                await camera.take_picture(card, f"/jobs/{job_id}", "decision", "wide", see="#decide button.stop")
                if whole:
                    await camera.take_all(card, job_id, "waiting")
            for who in ("bob", "eve"):
                stage.agents[CARD].jobs.runs[job_id].approve(who)
            await stage.until(lambda: stage.agents[BANK].status()[0].epoch > 24 or not stage.agents[BANK].runs)
        await camera.take_picture(bank, f"/jobs/{job_id}", "job", "wide")
        await camera.take_picture(bank, f"/jobs/{job_id}", "phone", "narrow")
        if whole:
            await camera.take_all(bank, job_id, "running")
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id)


def main() -> None:
    """Take them."""
    whole = len(sys.argv) > 1
    with tempfile.TemporaryDirectory() as folder:
        out = Path(sys.argv[1]) if whole else ROOT / "docs" / "images"
        asyncio.run(take_pictures(Path(folder), out, whole=whole))


if __name__ == "__main__":
    main()
