"""`tercet doctor` looks at an agent's page: where it is, who may log in, and who may read what it keeps."""

import asyncio
import datetime as dt
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tercet.agents.doctor.finding import Finding, Outcome
from tercet.agents.doctor.page import check_page
from tercet.agents.page.guard import Guard
from tercet.agents.page.users import FILE, Role
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.settings import Settings
from tests.agents.page.web import add_user, paged
from tests.agents.scenes import CARD
from tests.certificates import write_certificate

pytestmark = pytest.mark.real_time


async def found(folder: Path, *, days: int = 0, party: str = CARD, **page: Any) -> list[Finding]:
    """What is said of a page, so many days later."""
    own = Settings(party=party, identity=folder / "none", state=folder, page=PageSettings(**page))
    return [one async for one in check_page(own, dt.datetime.now(dt.UTC) + dt.timedelta(days=days))]


async def trouble(folder: Path, **page: Any) -> Finding:
    """The one thing that is not in order."""
    (one,) = (one for one in await found(folder, **page) if one.outcome is not Outcome.OK)
    return one


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with two users."""
    add_user(tmp_path, "ada", Role.APPROVER)
    add_user(tmp_path, "bea", Role.VIEWER)
    return tmp_path


@pytest.fixture
def occupied() -> Iterator[int]:
    """A port at which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


async def test_a_sound_page_is_told_in_a_line_for_each_check(state: Path) -> None:
    """A page of another machine's browsers too, whose certificate has a day left; without a port there is no page."""
    place, users = await found(state, port=0)
    assert {place.outcome, users.outcome} == {Outcome.OK}
    assert place.said == "at 127.0.0.1, port 0, for this machine alone, in clear, behind a login"
    assert users.said == "ada (approver), bea (viewer); passwords are hashed"
    write_certificate(state, "page", None)
    files: dict[str, Any] = {"certificate": state / "page.pem", "key": state / "page.key"}
    wide: dict[str, Any] = {"port": 0, "address": "0.0.0.0", "hosts": ("agents.example",), **files}
    place, certificate, _ = await found(state, **wide)
    assert place.said == "at 0.0.0.0, port 0, for other machines too, by TLS, behind a login, as agents.example"
    assert certificate.outcome is Outcome.WARN
    assert [one.outcome for one in await found(state, days=2, **wide)] == [Outcome.OK, Outcome.FAIL, Outcome.OK]
    assert await found(state) == []


async def test_what_keeps_a_page_from_people_is_told_with_what_to_do(state: Path, occupied: int) -> None:
    assert "another program" in (await trouble(state, port=occupied)).said
    (state / FILE).chmod(0o640)
    assert "chmod 600" in (await trouble(state, port=0)).said
    (state / FILE).unlink()
    empty = await trouble(state, port=0)
    assert (empty.outcome, "tercet user add" in empty.hint) == (Outcome.WARN, True)


async def test_a_key_that_others_may_read_is_a_failure(state: Path) -> None:
    """So is an address that this machine has not."""
    write_certificate(state, "page", None)
    files: dict[str, Any] = {"certificate": state / "page.pem", "key": state / "page.key"}
    place, *_ = await found(state, port=0, address="192.0.2.7", hosts=("agents.example",), **files)
    assert (place.outcome, place.said.startswith("cannot listen at 192.0.2.7")) == (Outcome.FAIL, True)
    (state / "page.key").chmod(0o644)
    wrong = await trouble(state, port=0, **files)
    assert (wrong.outcome, "page.key" in wrong.said) == (Outcome.FAIL, True)


async def test_a_port_that_the_running_agent_has_is_in_order(tmp_path: Path, state: Path) -> None:
    """And another party's page is another program."""
    async with paged(tmp_path) as site:
        assert (await found(state, port=site.web.port))[0].outcome is Outcome.OK
        assert "another program" in (await trouble(state, port=site.web.port, party="bank")).said


async def test_a_page_at_an_address_of_ipv6_is_asked_as_browsers_ask(state: Path) -> None:
    """Else it would refuse, and be taken for another program."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with server:
        await found(state, address="::1", port=server.sockets[0].getsockname()[1])
    (request,) = asked
    headers = dict(line.split(": ", 1) for line in request.decode().splitlines()[1:] if line)
    assert Guard(Starlette(), PageSettings(address="::1")).is_own_host(headers["Host"])
