"""A page of an agent of a scene, and a small browser for it: cookies, forms, and any header that a test wants."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tercet.agents.daemon.http_server import Listening, WebServer
from tercet.agents.page.site import Page
from tercet.agents.page.users import Role, UserFile
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.policy import PolicySettings
from tests.agents.http_client import exchange
from tests.agents.scenes import CARD, PATIENT, Scene, job, scene, three

PASSWORD = "a long enough secret"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: HTTPMessage
    text: str

    def csrf(self) -> str:
        """The secret of the page's forms."""
        return self.hidden("csrf")

    def hidden(self, name: str) -> str:
        """A hidden field of the page's forms."""
        found = re.search(rf'name="{name}" value="([^"]+)"', self.text)
        return found[1] if found else ""


@dataclass
class Web:
    """Asks one page, as a browser does that is at it."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """As it stands in the address."""
        return f"127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        """Ask for a path. A header is written with underscores; an empty one is left out."""
        named: dict[str, str] = {"host": self.host, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
        if method == "POST":
            named |= {"origin": f"http://{self.host}", "content-type": "application/x-www-form-urlencoded"}
            named |= {"content-length": str(len(body))}
        named |= {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items() if value), "", body]
        status, answered, text = await exchange(self.port, "\r\n".join(lines).encode())
        for value in answered.get_all("set-cookie", ()):
            cookie, _, rest = value.partition(";")
            key, _, content = cookie.partition("=")
            self.cookies[key] = content.strip('"')
            if "Max-Age=0" in rest:
                del self.cookies[key]
        return Answer(status, answered, text.decode())

    async def get(self, path: str, **headers: str) -> Answer:
        """Look at a page."""
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        """Send a form."""
        return await self.ask("POST", path, urlencode(form), **headers)

    async def log_in(self, name: str, password: str = PASSWORD) -> Answer:
        """Fill in the login."""
        csrf = (await self.get("/login")).csrf()
        return await self.post("/login", {"csrf": csrf, "name": name, "password": password})

    async def press(self, path: str, button: str, **form: str) -> Answer:
        """Open a page, and send one of its forms."""
        shown = await self.get(path)
        return await self.post(button, {"csrf": shown.csrf(), "run": shown.hidden("run"), **form})


def add_user(state: Path, name: str, role: Role) -> None:
    """Add a person of the usual password."""
    UserFile(state).add(name, role, PASSWORD)


@dataclass
class Site:
    """A scene in which one party has a page, and a browser that has not logged in."""

    stage: Scene
    page: Page
    web: Web
    state: Path

    def another(self) -> Web:
        """Another person's browser."""
        return Web(self.web.port)

    async def person(self, name: str, role: Role) -> Web:
        """A browser of a person who has just got a login, and used it."""
        add_user(self.state, name, role)
        web = self.another()
        assert (await web.log_in(name)).status == 303
        return web


@asynccontextmanager
async def paged(folder: Path, *, approvals: int = 1) -> AsyncIterator[Site]:
    """Three agents, one with a page, where each job of a partner waits for persons; what still waits is cancelled."""
    async with scene(three(folder, PATIENT), folder) as stage:
        policy = PolicySettings(narrow=True, helper_sees="scores", approval=True, approvals=approvals)
        stage.change(CARD, policy=policy, page=PageSettings(port=0))
        await stage.start()
        async with page_of(stage, CARD) as site:
            yield site
            for job_id in tuple(stage.agents[CARD].jobs.runs):
                stage.agents[CARD].cancel(job_id)
                await stage.ended(job_id)


@asynccontextmanager
async def visited(folder: Path, role: Role = Role.VIEWER, *, approvals: int = 1) -> AsyncIterator[tuple[Site, Web]]:
    """The same, with the browser of a person called ada, who may do what the role says."""
    async with paged(folder, approvals=approvals) as site:
        yield site, await site.person("ada", role)


@asynccontextmanager
async def page_of(stage: Scene, party: str) -> AsyncIterator[Site]:
    """The page of a party of a scene."""
    agent = stage.agents[party]
    page = Page(agent, stage.connection(party))
    watching = asyncio.create_task(page.watch())
    try:
        async with WebServer(page.app, Listening("[page]", "127.0.0.1", 0)) as server:
            yield Site(stage, page, Web(server.port), agent.settings.state)
    finally:
        watching.cancel()


async def waiting_job(site: Site, name: str = "credit", /, **fields: Any) -> str:
    """A job of the bank's that waits for persons at the page's party."""
    job_id = site.stage.submit(job(name, **fields))
    await site.stage.until(lambda: bool(site.stage.agents[CARD].status(job_id)))
    await site.stage.until(lambda: site.stage.agents[CARD].status(job_id)[0].approval == "approval")
    return job_id
