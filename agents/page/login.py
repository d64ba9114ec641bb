"""Logs persons in and out, and tells who has sent a request.

A login begins a session of its own, whatever the browser had before. Who is removed or changed is out at once.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tercet.agents.page.guard import SAFE, read_form
from tercet.agents.page.rendering import page
from tercet.agents.page.sessions import LONGEST_SECONDS, LoginLimiter, Sessions
from tercet.agents.page.users import LONGEST, NAME, Role, User, UserFile, verify_password
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings

WRONG: Final = "Name or password is wrong."
FORM_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Visitor:
    """Names the person who has sent a request; `csrf` is for the forms of the answer."""

    name: str
    role: Role
    csrf: str


Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Visitor], Awaitable[Response]]


class Logins:
    """Serves the login of one page, and its sessions."""

    def __init__(self, settings: Settings) -> None:
        self._party, self._users = settings.party, UserFile(settings.state)
        self._sessions, self._limiter = Sessions(), LoginLimiter()
        self._key = secrets.token_bytes(32)  # for the secrets of login forms, of which nothing is kept
        self._verifying = asyncio.Lock()  # a hash takes 64 MiB
        self.is_secure = settings.page.certificate is not None
        # Cookies do not know ports, so that two agents of one machine need two names.
        self.cookie = "__Host-tercet" if self.is_secure else f"tercet-{settings.page.port}"
        self.form_cookie = f"{self.cookie}-login"
        self._log = structlog.get_logger()

    # --- who it is

    def visitor(self, request: Request, *, used: bool = True) -> Visitor | None:
        """Tell who has sent a request; None for nobody who is logged in."""
        token = request.cookies.get(self.cookie, "")
        session = self._sessions.find(token, used=used)
        if session is None:
            return None
        user = self._user(session.name)
        if user is None or _stamp(user) != session.stamp:
            self._sessions.end(token)
            return None
        return Visitor(session.name, user.role, session.csrf)

    def approvers(self) -> tuple[str, ...]:
        """Name all who may approve jobs by now."""
        return tuple(name for name, user in self._all_users().items() if user.role.includes(Role.APPROVER))

    def _all_users(self) -> Mapping[str, User]:
        try:
            return self._users.users()
        except (Invalid, KeyProblem) as problem:
            self._log.error("nobody can use the page", why=str(problem))
            return {}

    def _user(self, name: str) -> User | None:
        return self._all_users().get(name)

    def only(self, least: Role, handler: Handler) -> Endpoint:
        """Let persons of a role to a handler, and others to the login."""

        async def endpoint(request: Request) -> Response:
            visitor = self.visitor(request)
            if visitor is None:
                if request.method in SAFE:
                    return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
                raise HTTPException(HTTPStatus.FORBIDDEN, "your session is over: log in again")
            if not visitor.role.includes(least):
                raise HTTPException(HTTPStatus.FORBIDDEN, f"a {visitor.role} may not do that; it takes a {least}")
            return await handler(request, visitor)

        return endpoint

    # --- the form

    async def show(self, request: Request) -> Response:
        """Show the form."""
        if self.visitor(request) is not None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return self._form(request)

    def _form(self, request: Request, problem: str = "", status: int = HTTPStatus.OK) -> Response:
        """Show the form anew; its cookie and its secret belong together."""
        token = request.cookies.get(self.form_cookie) or secrets.token_urlsafe(32)
        response = page("login", status, party=self._party, problem=problem, csrf=self._form_secret(token))
        response.set_cookie(
            self.form_cookie, token, max_age=FORM_SECONDS, secure=self.is_secure, httponly=True, samesite="strict"
        )
        return response

    def _form_secret(self, token: str) -> str:
        return hmac.new(self._key, token.encode(), hashlib.sha256).hexdigest()

    async def log_in(self, request: Request) -> Response:
        """Take the form; begin a session, or show the form again."""
        form = await read_form(request, self._form_secret(request.cookies.get(self.form_cookie, "")))
        name, password = form.get("name", ""), form.get("password", "")
        if not NAME.fullmatch(name) or len(password) > LONGEST:
            return self._form(request, WRONG, HTTPStatus.FORBIDDEN)
        wait = self._limiter.admit(name)
        if wait:
            self._log.warning("too many try to log in to the page", seconds=round(wait))
            problem = f"There were too many tries. Wait {wait / 60:.0f} minutes."
            return self._form(request, problem, HTTPStatus.TOO_MANY_REQUESTS)
        user = self._user(name)
        async with self._verifying:
            right = await asyncio.to_thread(verify_password, user, password)
        if user is None or not right:
            self._log.warning("a login to the page failed", user=None if user is None else name)
            return self._form(request, WRONG, HTTPStatus.FORBIDDEN)
        self._limiter.forget(name)
        self._log.info("a person logged in to the page", user=name, role=user.role)
        return self._enter(request, name, user)

    def _enter(self, request: Request, name: str, user: User) -> Response:
        """Begin a session under a new id; an old one of this browser ends."""
        self._sessions.end(request.cookies.get(self.cookie, ""))
        token = self._sessions.begin(name, _stamp(user))
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        lasts = int(LONGEST_SECONDS)
        response.set_cookie(self.cookie, token, max_age=lasts, secure=self.is_secure, httponly=True, samesite="strict")
        response.delete_cookie(self.form_cookie, secure=self.is_secure, httponly=True, samesite="strict")
        return response

    async def log_out(self, request: Request, visitor: Visitor) -> Response:
        """End the session."""
        await read_form(request, visitor.csrf)
        self._sessions.end(request.cookies.get(self.cookie, ""))
        response = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        response.delete_cookie(self.cookie, secure=self.is_secure, httponly=True, samesite="strict")
        return response


def _stamp(user: User) -> str:
    """Make a digest of all that a session relies on."""
    return hashlib.sha256(f"{user.role} {user.password_hash}".encode()).hexdigest()
