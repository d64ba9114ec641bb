"""The system's Chromium, driven by Playwright: Debian's package, as no browser of Playwright's own is downloaded."""

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.debian import Server, ensure_server

VARIABLE = "TERCET_TEST_CHROMIUM"
SERVER = Server("chromium", "https://www.chromium.org/getting-involved/download-chromium/", VARIABLE)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]  # tests run as root, in containers


def find_chromium(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The program, if there is one."""
    if named := environment.get(VARIABLE):
        return Path(named)
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window.

    Raises:
        ServerMissingError: there is none and it may not or cannot be installed from here.
    """
    program = ensure_server(SERVER, find_chromium)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(program), args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


async def person(browser: Browser, port: int, complaints: list[str], **context: object) -> Page:
    """A page of a browser that knows nothing of the others; `complaints` gets what its console says."""
    page = await (await browser.new_context(**context)).new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    page.set_default_timeout(20_000)
    await page.goto(f"http://127.0.0.1:{port}/")
    return page


async def log_in(page: Page, name: str, password: str) -> None:
    """Fill in the login."""
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Log in").click()
