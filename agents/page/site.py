"""Joins the parts of an agent's page to one web application.

It decides nothing itself. Each path says which role it takes.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.http_server import Listening
from tercet.agents.page.decisions import Decisions
from tercet.agents.page.guard import Guard
from tercet.agents.page.login import Handler, Logins
from tercet.agents.page.own_data import ReadLetters
from tercet.agents.page.rendering import ASSETS, asset, page
from tercet.agents.page.users import Role
from tercet.agents.page.views import Views
from tercet.broker.interface.base import Broker
from tercet.broker.sealing.identity import require_private
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.page_settings import PageSettings


class Page:
    """Serves one agent's page: `app` answers, and `watch` runs beside it."""

    def __init__(self, agent: Agent, broker: Broker, letters: ReadLetters | None = None) -> None:
        """Set up; `letters` reads the party's dead letters, where the broker has any."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._logins = Logins(agent.settings)
        agent.requests.page_users = self._logins.approvers
        self._views = Views(agent, broker, self._logins, letters, self._spawn)
        self._decisions = Decisions(agent, self._views)
        site = Starlette(routes=self._routes(), exception_handlers={HTTPException: self._show_error})
        self.app = Guard(site, agent.settings.page)
        self._party = agent.me

    async def watch(self) -> None:
        """Note what jobs tell in passing, until cancelled; whatever the page has begun ends then."""
        try:
            await self._views.watcher.watch()
        finally:
            for task in self._tasks:
                task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _routes(self) -> list[Route]:
        views, logins, decisions = self._views, self._logins, self._decisions
        looks: dict[str, Handler] = {
            "/": views.jobs,
            "/stream": views.jobs_stream,
            "/jobs/{job}/stream": views.job_stream,
            "/jobs/{job}/report": views.report,
            "/jobs/{job}/selection": views.selection,
            "/jobs/{job}": views.job,
            "/tables": views.tables,
            "/tables/stream": views.tables_stream,
            "/partners": views.partners,
            "/dead-letters": views.letters,
            "/audit": views.audit,
        }
        acts: dict[str, tuple[Role, Handler]] = {
            "/logout": (Role.VIEWER, logins.log_out),
            "/tables/{table}/read": (Role.VIEWER, views.read_table),
            "/partners/ask": (Role.VIEWER, views.ask_partners),
            "/jobs/{job}/approve": (Role.APPROVER, decisions.approve),
            "/jobs/{job}/refuse": (Role.APPROVER, decisions.refuse),
            "/jobs/{job}/cancel": (Role.OPERATOR, decisions.cancel),
        }
        return [
            Route("/login", logins.show),
            Route("/login", logins.log_in, methods=["POST"]),
            Route("/static/{name}", _asset),
            *(Route(path, logins.only(Role.VIEWER, handler)) for path, handler in looks.items()),
            *(Route(path, logins.only(least, do), methods=["POST"]) for path, (least, do) in acts.items()),
        ]

    async def _show_error(self, _: Request, error: Exception) -> Response:
        """Show a refusal as a page."""
        if not isinstance(error, HTTPException):
            raise error
        status = HTTPStatus(error.status_code)
        why = error.detail if error.detail != status.phrase else ""
        return page("error", status, party=self._party, title=status.phrase, why=why)


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return Response(asset(name), media_type=ASSETS[name])


def listening(settings: PageSettings, port: int) -> Listening:
    """Say where the page listens.

    Raises:
        Invalid, KeyProblem: certificate or key cannot be used.
    """
    if settings.certificate is None or settings.key is None:
        return Listening("[page]", settings.address, port)
    require_private(settings.key, "write the key's file into [page] key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:  # SSLError is one
        why = error.strerror or type(error).__name__
        raise Invalid(f"[page] certificate {settings.certificate} and key {settings.key}: {why}") from None
    return Listening("[page]", settings.address, port, context)
