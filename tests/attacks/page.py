"""Attacks on the page of an agent: by other sites, by whoever reaches its port, and by a partner's words.

Each tells the part of what it wants that it gets, with the protection in or out: 1 or 0, as a rule.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from jinja2 import Environment
from starlette.convertors import CONVERTOR_TYPES

from tercet.agents.core.templates import template_environment
from tercet.agents.daemon import http_server
from tercet.agents.page import guard, rendering, sessions, views
from tercet.agents.page.users import Role
from tests.agents.page.web import PASSWORD, Site, Web, add_user, paged, waiting_job
from tests.agents.scenes import CARD

SECRET: Final = "what only the agent's user may read"
PLANTED: Final = "an-id-that-the-attacker-has-chosen-before"
MARKUP: Final = "<script>alert('from a partner')</script>"
GUESSES: Final = [*(f"a guess of number {number}" for number in range(7)), PASSWORD]
PATIENCE: Final = 0.4  # seconds of a request, in the place of five
OTHER_SITE: Final = {"origin": "https://elsewhere.example", "sec_fetch_site": "cross-site"}

Act = Callable[[Site], Awaitable[float]]


def on_page(act: Act) -> float:
    """Do something to a page of its own; what it gets."""

    async def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            async with asyncio.timeout(60), paged(Path(folder)) as site:
                got = await act(site)
                for job_id in list(site.stage.agents[CARD].jobs.runs):
                    site.stage.agents[CARD].cancel(job_id)
                    await site.stage.ended(job_id)
                return got

    return asyncio.run(run())


def attacked(act: Act, protected: bool, *, without: Callable[[], Any]) -> float:
    """Do it with the protection in, or `without` it."""
    with ExitStack() as stack:
        if not protected:
            stack.enter_context(without())
        return on_page(act)


# --- by another site that a person visits


async def _post_from_elsewhere(site: Site) -> float:
    """Another site's form approves a partner's job; the partner knows the run, and an old browser sends cookies."""
    ada = await site.person("ada", Role.APPROVER)
    job_id = await waiting_job(site)
    run = site.stage.agents[CARD].jobs.runs[job_id].job.run.hex()
    await ada.post(f"/jobs/{job_id}/approve", {"csrf": "guessed", "run": run}, **OTHER_SITE)
    return float(site.stage.agents[CARD].status(job_id)[0].approval == "ada")


@contextmanager
def no_site_check(*, secret: bool = False, origin: bool = False) -> Iterator[None]:
    """Take out the form's secret, the look at the origin, or both."""
    with ExitStack() as stack:
        if secret:
            stack.enter_context(patch.object(guard, "is_secret", lambda *_: True))
        if origin:
            stack.enter_context(patch.object(guard.Guard, "is_own_site", lambda *_: True))
        yield


def cross_site_post(protected: bool) -> float:
    """A job that is approved by another site's form."""
    return attacked(_post_from_elsewhere, protected, without=lambda: no_site_check(secret=True, origin=True))


async def _read_by_another_name(site: Site) -> float:
    """A name of the attacker's is turned to loopback, so that his page and this one are of one origin."""
    ada = await site.person("ada", Role.VIEWER)
    answer = await ada.get("/", host=f"elsewhere.example:{site.web.port}")
    return float(answer.status == 200)


def dns_rebinding(protected: bool) -> float:
    """A page that is read under another name."""
    return attacked(
        _read_by_another_name, protected, without=lambda: patch.object(guard.Guard, "is_own_host", lambda *_: True)
    )


# --- by whoever reaches the port


async def _fix_a_session(site: Site) -> float:
    """The attacker plants a session's id in a browser, waits for its person to log in, and uses it."""
    add_user(site.state, "ada", Role.APPROVER)
    victim, attacker = site.web, site.another()
    victim.cookies["tercet-0"] = attacker.cookies["tercet-0"] = PLANTED
    await victim.log_in("ada")
    return float((await attacker.get("/")).status == 200)


def session_fixation(protected: bool) -> float:
    """A session that somebody else uses."""
    keeping = SimpleNamespace(token_urlsafe=lambda _: PLANTED)
    return attacked(_fix_a_session, protected, without=lambda: patch.object(sessions, "secrets", keeping))


async def _guess(site: Site) -> float:
    """Try one password after another."""
    add_user(site.state, "ada", Role.VIEWER)
    for guess in GUESSES:
        if (await site.web.log_in("ada", guess)).status == 303:
            return 1.0
    return 0.0


def login_guessing(protected: bool) -> float:
    """A login whose password is the eighth in a list."""
    return attacked(_guess, protected, without=lambda: patch.object(sessions.LoginLimiter, "admit", lambda *_: 0.0))


async def _leave_the_folder(site: Site) -> float:
    """A viewer asks for the report of a job whose id leads out of the reports' folder."""
    ada = await site.person("ada", Role.VIEWER)
    (site.state / "reports").mkdir()
    (site.state / "private.html").write_text(SECRET)
    tries = ["/jobs/..%2fprivate/report", "/jobs/%2e%2e%2fprivate/report", "/jobs/../private/report",
             "/static/..%2f..%2fusers.json", "/jobs/..%5cprivate/report"]  # fmt: skip
    return float(any([SECRET in (await ada.get(path)).text for path in tries]))


@contextmanager
def any_id() -> Iterator[None]:
    """Take any text for a job's id, slashes too."""
    with (
        patch.object(views, "known_status", lambda _, job: SimpleNamespace(job=job)),
        patch.object(CONVERTOR_TYPES["str"], "regex", ".+"),
    ):
        yield


def path_traversal(protected: bool) -> float:
    """A file beside the reports."""
    return attacked(_leave_the_folder, protected, without=any_id)


async def _name_a_download(site: Site) -> float:
    """An id that ends the quotation in a header; the file of that name is there for the attack's sake."""
    ada = await site.person("ada", Role.VIEWER)
    (site.state / "reports").mkdir()
    (site.state / "reports" / 'x"; filename="run-me.exe.html').write_text("")
    answer = await ada.get("/jobs/x%22;%20filename=%22run-me.exe/report?download")
    return float("run-me.exe" in answer.headers.get("content-disposition", ""))


def header_injection(protected: bool) -> float:
    """A download whose name is the attacker's."""
    return attacked(_name_a_download, protected, without=any_id)


async def _send_much(site: Site) -> float:
    """A body of a MiB before any login; the form is answered when all of it is in the memory."""
    answer = await site.web.ask("POST", "/login", "x" * 2**20)
    return float(answer.status == 403)


def oversized_request(protected: bool) -> float:
    """A request of a MiB that is taken in."""
    return attacked(_send_much, protected, without=lambda: patch.object(http_server, "MOST_REQUEST", 2**30))


async def _send_slowly(site: Site) -> float:
    """As many connections as there may be, each with a byte now and then; is a person turned away?"""
    slow = [await asyncio.open_connection("127.0.0.1", site.web.port) for _ in range(http_server.MOST_CONNECTIONS)]
    try:
        for _ in range(8):
            for _, writer in slow:
                with suppress(OSError):
                    writer.write(b"G")
            await asyncio.sleep(PATIENCE / 4)
        return float((await Web(site.web.port).get("/login")).status != 200)
    finally:
        for _, writer in slow:
            writer.close()


def slow_requests(protected: bool) -> float:
    """A person who finds no connection."""
    with patch.object(http_server, "SECONDS", PATIENCE if protected else 600.0):
        return on_page(_send_slowly)


# --- by a partner


async def _write_markup(site: Site) -> float:
    """A script in a job's purpose."""
    ada = await site.person("ada", Role.VIEWER)
    job_id = await waiting_job(site, purpose=MARKUP)
    return float(MARKUP in (await ada.get(f"/jobs/{job_id}")).text)


@contextmanager
def unescaped() -> Iterator[None]:
    """Take texts for markup."""

    def make(*path: str, escape: bool) -> Environment:
        assert escape, "the page asks for escaped texts"
        return template_environment(*path, escape=False)

    with patch.object(rendering, "template_environment", make):
        rendering._environment.cache_clear()
        try:
            yield
        finally:
            rendering._environment.cache_clear()


def partners_markup(protected: bool) -> float:
    """A script of a partner's in a page."""
    return attacked(_write_markup, protected, without=unescaped)
