"""Serves web applications on the agent's loop; bounds connections, sizes and times.

uvicorn speaks HTTP, without its own server, which would install signal handlers. Each connection is for one request.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import structlog
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tercet.schemas.files.invalid import Invalid

MOST_REQUEST: Final = 8192  # bytes of a request, its headers and its body
MOST_CONNECTIONS: Final = 16
SECONDS: Final = 5.0  # for a request and its answer
DEADLINE: Final = "tercet.deadline"  # in a scope: gives the answer another deadline, in seconds from now
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none a browser does not say which page sends a form
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Sent with each answer that has none of its own of that name."""
TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Listening:
    """Says where a server listens.

    Attributes:
        section: of the settings that say so, for its errors.
        tls: certificate and key; None for plain HTTP.
        most_request: bytes of a request, its headers and its body.
        most_connections: at a time; one more is turned away.
    """

    section: str
    address: str
    port: int
    tls: ssl.SSLContext | None = None
    most_request: int = field(default_factory=lambda: MOST_REQUEST)
    most_connections: int = field(default_factory=lambda: MOST_CONNECTIONS)


class WebServer:
    """Serves one application at one place. Use as an async context manager."""

    _server: asyncio.Server  # once it listens

    def __init__(self, app: ASGIApp, place: Listening) -> None:
        self._place, self._state = place, ServerState()
        self._encrypted: set[asyncio.Transport] = set()  # connections with TLS, also before their handshake
        self._config = Config(
            partial(_answer, app),
            http=BoundedProtocol,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # whoever sends nonsense fills no log; our own errors are logged below
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MOST_REQUEST,
        )

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            Invalid: it cannot.
        """
        self._config.load()
        loop, place = asyncio.get_running_loop(), self._place
        make: Callable[[], asyncio.BaseProtocol] = partial(
            BoundedProtocol, place, config=self._config, server_state=self._state, app_state={}, _loop=loop
        )
        if place.tls is not None:
            make = partial(self._encrypt, make, place.tls)
        try:
            self._server = await loop.create_server(make, place.address, place.port)
        except (OSError, ValueError) as error:  # UnicodeError, of a name that no machine can have, among them
            why = getattr(error, "strerror", None) or type(error).__name__
            raise Invalid(
                f"{place.section} cannot listen at {place.address}, port {place.port} ({why}): give each agent of this "
                f"machine a port of its own that its user may have, and an address of this machine"
            ) from None
        return self

    def _encrypt(self, make: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext) -> asyncio.BaseProtocol:
        loop, most = asyncio.get_running_loop(), self._place.most_connections
        how: Any = {"server_side": True, "ssl_handshake_timeout": SECONDS}
        return BoundedTls(self._encrypted, most, loop, make(), tls, None, **how)

    @property
    def port(self) -> int:
        """Port on which it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        answering = tuple(self._state.tasks)
        for task in answering:
            task.cancel()
        for connection in tuple(self._state.connections):
            connection.transport.abort()
        for transport in tuple(self._encrypted):
            transport.abort()
        if answering:
            await asyncio.wait(answering)
        await self._server.wait_closed()


class BoundedProtocol(H11Protocol):
    """Reads one request of a bounded size from a connection, which has a deadline."""

    def __init__(self, place: Listening, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner, self._received, self._place = self.app, 0, place
        self._deadline: asyncio.TimerHandle | None = None

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope[DEADLINE] = self._set_deadline
            await inner(scope, receive, send)

        self.app = app

    def connection_made(self, transport: Any) -> None:
        """Take a connection in, or turn it away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._place.most_connections:
            transport.abort()
        else:
            self._set_deadline(SECONDS)

    def data_received(self, data: bytes) -> None:
        """Read a part of the request, up to the bound on all of it."""
        self._received += len(data)
        if self._received <= self._place.most_request:
            super().data_received(data)
        elif not self.transport.is_closing():
            if self.cycle is None or not self.cycle.response_started:
                self.transport.write(TOO_LARGE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)


class BoundedTls(SSLProtocol):
    """Encrypts a connection; it counts from when it is there, as a handshake may never end."""

    def __init__(self, connections: set[asyncio.Transport], most: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections, self._most = connections, most
        self._own: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake, or turn a connection away where there are too many."""
        if len(self._connections) >= self._most:
            transport.abort()
            return
        self._own = transport
        self._connections.add(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget a connection, whether its handshake had ended or not."""
        if self._own is not None:
            self._connections.discard(self._own)
        super().connection_lost(exc)


async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an application answer, with strict headers; a bug in it ends no agent."""
    started = False

    async def send_strictly(message: Message) -> None:
        nonlocal started
        if message["type"] == "http.response.start":
            started = True
            headers = MutableHeaders(raw=message["headers"])
            headers["connection"] = "close"
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    try:
        await app(scope, receive, send_strictly)
    except Exception:
        structlog.get_logger().exception("an error of our own in the page or monitor")
        if started:
            raise  # which cuts the answer off
        await Response(status_code=HTTPStatus.INTERNAL_SERVER_ERROR)(scope, receive, send_strictly)
