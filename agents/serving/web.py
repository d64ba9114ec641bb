"""Answers POST /scores and GET /healthz as JSON, for programs and for no page of a browser.

It holds no key and no part of a model; a `Scores` answers. What is wrong has a code of docs/errors.md.
"""

import asyncio
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tercet.agents.core.problems import JobProblem

MOST_BODY: Final = 64 * 1024  # bytes
BODY_SECONDS: Final = 2.0
MOST_AT_ONCE: Final = 32  # requests that are being answered
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
STATUS: Final = {  # by the code of a failure, or what it begins with; others are 500
    "serving.answer": 502,
    "serving.shared": 409,
    "serving.": 503,
    "policy.exposure": 429,
    "policy.": 403,
    "model.": 404,
}


class Scores(Protocol):
    """Scores what a request asks for."""

    async def score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the body of a request.

        Raises:
            RequestRefused: the body is wrong.
            JobProblem: there is no score.
        """

    async def check(self) -> None:
        """Check that there could be scores.

        Raises:
            JobProblem: there could not.
        """


@dataclass
class RequestRefused(Exception):
    """Says what is wrong with a request."""

    status: int
    reason: str
    code: str = "serving.request"


@dataclass
class ScoreApp:
    """Answers requests by `scores`.

    Attributes:
        scores: what answers.
        hosts: names under which this server is called, beside loopback's.
        token: what each request has to bring; None: nothing.
    """

    scores: Scores
    hosts: frozenset[str] = LOOPBACK
    token: str | None = field(default=None, repr=False)
    _at_once: int = 0

    def build(self) -> Starlette:
        """Make the application."""
        routes = [
            Route("/scores", self._answer_scores, methods=["POST"]),
            Route("/healthz", self._answer_health, methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {
            RequestRefused: lambda _, found: failure(found.status, found.code, "", found.reason),
            JobProblem: lambda _, found: failure(_status(found.code), found.code, found.culprit, found.reason),
            HTTPException: lambda _, found: failure(
                found.status_code, code="serving.request", culprit="", reason=found.detail
            ),
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    async def _answer_scores(self, request: Request) -> Response:
        self._check_caller(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestRefused(415, "send the header Content-Type: application/json")
        asked = _parse(await _read_body(request))
        if self._at_once >= MOST_AT_ONCE:
            raise RequestRefused(503, f"{MOST_AT_ONCE} requests are being answered", code="serving.busy")
        self._at_once += 1
        try:
            found = await self.scores.score(asked)
        finally:
            self._at_once -= 1
        return JSONResponse(found)

    async def _answer_health(self, request: Request) -> Response:
        self._check_host(request)
        await self.scores.check()
        return JSONResponse({"state": "ready"})

    def _check_caller(self, request: Request) -> None:
        self._check_host(request)
        if "origin" in request.headers:
            raise RequestRefused(403, "a page of a browser has no business here")
        if self.token is None:
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            raise RequestRefused(401, "send the header Authorization: Bearer, with the token", code="serving.token")

    def _check_host(self, request: Request) -> None:
        """Refuse another name: a page could have its own point at this machine."""
        host = request.headers.get("host", "")
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name.lower() not in self.hosts:
            raise RequestRefused(421, "call this server by localhost, or by a name given to it as --host")


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BODY:
                    raise RequestRefused(413, f"a body has at most {MOST_BODY} bytes")
    except TimeoutError:
        raise RequestRefused(408, f"a body comes within {BODY_SECONDS:g} seconds") from None
    except ClientDisconnect:
        raise RequestRefused(400, "the body has no end") from None
    return bytes(body)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        asked = json.loads(body)
        json.dumps(asked, ensure_ascii=False).encode()  # half a pair of surrogates is no text
    except (ValueError, RecursionError):
        raise RequestRefused(400, "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise RequestRefused(400, "the body is no JSON object")
    return asked


def failure(status: int, code: str, culprit: str, reason: str) -> Response:
    """Make the answer that says what is wrong."""
    headers = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "1"}}.get(status)
    return JSONResponse({"error": {"code": code, "culprit": culprit, "reason": reason}}, status, headers)


def _status(code: str) -> int:
    return next((status for start, status in STATUS.items() if code.startswith(start)), 500)
