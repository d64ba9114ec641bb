"""Checks an agent's page for `tercet doctor`: its address, its users, and its files.

It reads no password, and leaves what listens already alone.
"""

import asyncio
import datetime as dt
import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from tercet.agents.daemon.http_server import Listening
from tercet.agents.doctor.certificates import read_certificate, validity
from tercet.agents.doctor.finding import Finding, fail, ok, warn
from tercet.agents.page.site import listening
from tercet.agents.page.users import UserFile
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.settings import Settings

SECONDS: Final = 2.0
LISTED: Final = 5  # users in one line
MOST_ANSWER: Final = 2**14  # bytes of a login form


async def check_page(settings: Settings, now: dt.datetime) -> AsyncIterator[Finding]:
    """Check what [page] says; nothing without a port."""
    page = settings.page
    if page.port is None:
        return
    try:
        place = listening(page, page.port)
    except (Invalid, KeyProblem) as problem:
        yield fail("page", str(problem), "correct certificate and key under [page]; the key has mode 600, your own")
        return
    yield await _check_address(settings.party, page, place)
    if page.certificate is not None:
        what, hint = f"the page's certificate ({page.certificate})", f"renew {page.certificate}"
        yield validity("page", what, read_certificate(page.certificate), now, hint)
    yield _check_users(settings)


async def _check_address(party: str, page: PageSettings, place: Listening) -> Finding:
    """Check that the page can be served there, or is by this party's agent, and who gets there."""
    where = f"{place.address}, port {place.port}"
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, place.address, place.port)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) != errno.EADDRINUSE:
            why = getattr(error, "strerror", None) or type(error).__name__
            hint = "write an address of this machine, and a port that the agent's user may have, under [page]"
            return fail("page", f"cannot listen at {where}: {why}", hint)
        if not await _is_page_of(party, page, place):
            return fail("page", f"another program listens at {where}", "write another port under [page], or end it")
    else:
        server.close()
    if page.is_local:
        encrypted = "in clear" if place.tls is None else "by TLS"
        return ok("page", f"at {where}, for this machine alone, {encrypted}, behind a login")
    return ok("page", f"at {where}, for other machines too, by TLS, behind a login, as {', '.join(page.hosts)}")


async def _is_page_of(party: str, page: PageSettings, place: Listening) -> bool:
    """Tell whether what listens there is this party's page, by its login."""
    tls = None if place.tls is None else ssl.create_default_context()
    if tls is not None:  # nothing secret is sent
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    host = page.hosts[0] if page.hosts else page.address
    host = f"[{host}]" if ":" in host else host  # as browsers write IPv6
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(place.address, place.port, ssl=tls)
            try:
                writer.write(f"GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                answer = bytearray()
                while len(answer) < MOST_ANSWER and (some := await reader.read(MOST_ANSWER)):
                    answer += some
            finally:
                writer.close()
            return f"<span>Tercet</span> {party}</p>".encode() in answer
    return False


def _check_users(settings: Settings) -> Finding:
    """Check that somebody may log in, and that nobody else reads the hashes."""
    try:
        users = UserFile(settings.state).users()
    except (Invalid, KeyProblem) as problem:
        return fail("page users", str(problem), "until then nobody can log in; `tercet user add` makes the file anew")
    if not users:
        hint = "run `tercet user add NAME --role approver` with the same settings"
        return warn("page users", "nobody may log in", hint)
    roles = [f"{name} ({user.role})" for name, user in sorted(users.items())]
    return ok("page users", f"{', '.join(roles[:LISTED])}{' and others' * (len(roles) > LISTED)}; passwords are hashed")
