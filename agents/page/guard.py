"""Refuses what no page of ours can have sent: another host's name, another site's form.

It knows no session; that a form carries the session's secret is checked beside.
"""

import hmac
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tercet.schemas.files.page_settings import PageSettings

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE: Final = frozenset({"GET", "HEAD"})
MOST_FIELDS: Final = 8  # of a form


class Guard:
    """Lets requests through to an application that come from its own pages, or from a person."""

    def __init__(self, app: ASGIApp, settings: PageSettings) -> None:
        own = {settings.address} | (LOCAL if settings.is_local else frozenset())
        self._app, self._hosts = app, own | {host.lower() for host in settings.hosts}
        self._scheme = "http" if settings.certificate is None else "https"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        why = self.refusal(scope["method"], Headers(scope=scope))
        app = self._app if why is None else PlainTextResponse(f"{why}\n", HTTPStatus.FORBIDDEN)

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"]).setdefault("content-security-policy", POLICY)
            await send(message)

        await app(scope, receive, send_with_policy)

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Say why a request is refused, if it is."""
        host = headers.get("host", "")
        if not self.is_own_host(host):
            return "this page is not at that name; [page] hosts in the agent's settings lists its names"
        if not self.is_own_site(method, host, headers):
            return "another site has sent this request"
        return None

    def is_own_host(self, host: str) -> bool:
        """Tell whether this host is the page, and no name that was turned to its address."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name in self._hosts

    def is_own_site(self, method: str, host: str, headers: Headers) -> bool:
        """Tell whether a page of this host has sent a request that may change or embed something."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if method in SAFE:
            return site in {None, "same-origin", "none"} or headers.get("sec-fetch-mode") == "navigate"
        if origin is not None and origin != f"{self._scheme}://{host}":
            return False
        return site == "same-origin" or (site is None and origin is not None)


async def read_form(request: Request, secret: str) -> dict[str, str]:
    """Read a form that a page of this session has sent.

    Raises:
        HTTPException: it is no form, or the session's secret is not in it.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    try:
        form = dict(parse_qsl((await request.body()).decode("ascii"), max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError:
        raise HTTPException(HTTPStatus.BAD_REQUEST) from None
    if not is_secret(form.pop("csrf", ""), secret):
        raise HTTPException(HTTPStatus.FORBIDDEN, "this form is of another session: load the page again")
    return form


def is_secret(sent: str, secret: str) -> bool:
    """Compare a form's secret with the session's, always in the same time."""
    return hmac.compare_digest(sent.encode(), secret.encode())
