"""Answers GET /metrics, /healthz and /readyz on the agent's own port, and nothing else.

It takes no input but a path, holds few connections for a short time, and can change nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.health import LoopMonitor, health_problems, readiness_problems
from tercet.agents.daemon.prometheus import Metrics, text
from tercet.broker.interface.base import Broker
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.monitor_settings import MonitorSettings

MOST_REQUEST: Final = 8192  # bytes of a request, its headers included
MOST_CONNECTIONS: Final = 16
SECONDS: Final = 5.0  # for a request and its answer
PLAIN: Final = "text/plain; charset=utf-8"
METHODS: Final = {b"GET", b"HEAD"}


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Holds a page that is sent back."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = PLAIN


Page = Callable[[], Awaitable[HttpResponse]]


def pages_of(agent: Agent, broker: Broker, pulse: LoopMonitor) -> dict[str, Page]:
    """Map each path to the page that an agent serves there."""
    metrics = Metrics(agent, broker, pulse)

    async def numbers() -> HttpResponse:
        gathered = metrics.gather()  # here, where nothing changes meanwhile
        return HttpResponse(HTTPStatus.OK, await asyncio.to_thread(text, gathered), CONTENT_TYPE_LATEST)

    async def alive() -> HttpResponse:
        return _problems_page(health_problems(agent, broker))

    async def ready() -> HttpResponse:
        return _problems_page(readiness_problems(agent, broker))

    return {"/metrics": numbers, "/healthz": alive, "/readyz": ready}


def _problems_page(problems: list[str]) -> HttpResponse:
    if not problems:
        return HttpResponse(HTTPStatus.OK, b"ok\n")
    return HttpResponse(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{problem}\n" for problem in problems).encode())


class Monitor:
    """Serves the pages if the settings name a port. Use as an async context manager."""

    def __init__(self, settings: MonitorSettings, pages: Mapping[str, Page]) -> None:
        self._settings, self._pages = settings, pages
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    async def __aenter__(self) -> Self:
        port, address = self._settings.port, self._settings.address
        if port is None:
            return self
        try:
            self._server = await asyncio.start_server(self._serve, address, port, limit=MOST_REQUEST)
        except (OSError, ValueError) as error:  # UnicodeError, of a name that no machine can have, among them
            why = getattr(error, "strerror", None) or type(error).__name__
            raise Invalid(
                f"[monitor] cannot listen at {address}, port {port} ({why}): give each agent of this machine a port "
                f"of its own that its user may have, and an address of this machine"
            ) from None
        return self

    @property
    def port(self) -> int:
        """Port on which it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._busy):
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._busy) >= MOST_CONNECTIONS:
                return
            self._busy.add(task)
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):  # who asked has gone, or is too slow
                async with asyncio.timeout(SECONDS):
                    await self._converse(reader, writer)
        finally:
            self._busy.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            writer.write(_response_bytes(HttpResponse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), b"GET"))
        else:
            method, path = _parse_request(head)
            writer.write(_response_bytes(await self._answer(method, path), method))
        await writer.drain()

    async def _answer(self, method: bytes, path: bytes) -> HttpResponse:
        if not path:
            return HttpResponse(HTTPStatus.BAD_REQUEST)
        if method not in METHODS:
            return HttpResponse(HTTPStatus.METHOD_NOT_ALLOWED)
        page = self._pages.get(path.partition(b"?")[0].decode("latin-1"))
        if page is None:
            return HttpResponse(HTTPStatus.NOT_FOUND, b"/metrics, /healthz, /readyz\n")
        try:
            return await page()
        except Exception:  # noqa: BLE001 - a bug in a page ends no agent
            self._log.exception("an error of our own in the monitor")
            return HttpResponse(HTTPStatus.INTERNAL_SERVER_ERROR)


def _parse_request(head: bytes) -> tuple[bytes, bytes]:
    """Method and path; both empty for what is no HTTP/1 request."""
    words = head.partition(b"\r\n")[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return b"", b""
    return words[0], words[1]


def _response_bytes(answer: HttpResponse, method: bytes) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(["Allow: GET, HEAD"] if answer.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else answer.body)
