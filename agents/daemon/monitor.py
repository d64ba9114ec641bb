"""Answers GET /metrics, /healthz and /readyz as a web application, and nothing else.

It takes no input but a path, and can change nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.health import LoopMonitor, health_problems, readiness_problems
from tercet.agents.daemon.prometheus import Metrics, text
from tercet.broker.interface.base import Broker

PATHS: Final = ("/metrics", "/healthz", "/readyz")
METHODS: Final = frozenset({"GET", "HEAD"})

Answer = Callable[[], Awaitable[Response]]


def answers_of(agent: Agent, broker: Broker, pulse: LoopMonitor) -> dict[str, Answer]:
    """Map each path to what an agent answers there."""
    metrics = Metrics(agent, broker, pulse)

    async def numbers() -> Response:
        gathered = metrics.gather()  # here, where nothing changes meanwhile
        content = await asyncio.to_thread(text, gathered)
        return Response(content, headers={"content-type": CONTENT_TYPE_LATEST})

    async def alive() -> Response:
        return _problems_page(health_problems(agent, broker))

    async def ready() -> Response:
        return _problems_page(readiness_problems(agent, broker))

    return dict(zip(PATHS, (numbers, alive, ready), strict=True))


def _problems_page(problems: list[str]) -> Response:
    if not problems:
        return PlainTextResponse("ok\n")
    return PlainTextResponse("".join(f"{problem}\n" for problem in problems), HTTPStatus.SERVICE_UNAVAILABLE)


class MonitorApp:
    """Answers these paths; all others go to `other`, if there is one."""

    def __init__(self, answers: Mapping[str, Answer], other: ASGIApp | None = None) -> None:
        self._answers, self._other = answers, other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._other is not None and scope["path"] not in self._answers:
            await self._other(scope, receive, send)
            return
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method not in METHODS:
            return Response(status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "GET, HEAD"})
        answer = self._answers.get(request.url.path)
        if answer is None:
            return PlainTextResponse(f"{', '.join(PATHS)}\n", HTTPStatus.NOT_FOUND)
        return await answer()
