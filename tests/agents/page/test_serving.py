"""Where a page is served: at a port of its own or the monitor's, with TLS wherever others can connect."""

import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tercet.agents.daemon import service
from tercet.agents.daemon.health import LoopMonitor
from tercet.agents.daemon.http_server import Listening, WebServer
from tercet.agents.page.login import Logins
from tercet.agents.page.site import Page, listening
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.agent_settings import MonitorSettings
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.settings import read_settings
from tests.agents.http_client import say
from tests.agents.page.web import Web, paged
from tests.agents.scenes import CARD
from tests.certificates import write_certificate
from tests.rabbitmq_node import free_ports


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('address = "0.0.0.0"', "passwords need TLS"),
        ('address = "192.0.2.7"', "passwords need TLS"),
        ('address = "page.bank.example"', "passwords need TLS"),
        ('certificate = "a.pem"', "certificate and key go together"),
        ('address = "::"\ncertificate = "a.pem"\nkey = "a.key"', "the names by which browsers reach the page"),
    ],
)
def test_an_address_that_others_reach_needs_tls_and_names(tmp_path: Path, lines: str, why: str) -> None:
    """Before anything starts, in a sentence that says what to write."""
    path = tmp_path / "bank.toml"
    path.write_text(f'party = "bank"\nidentity = "k"\nstate = "s"\n[page]\nport = 8765\n{lines}\n')
    with pytest.raises(Invalid, match=why):
        read_settings(path)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_none(address: str) -> None:
    assert PageSettings(port=1, address=address).is_local


def tls_settings(folder: Path) -> PageSettings:
    """Of a page with a certificate."""
    write_certificate(folder, "page", write_certificate(folder, "authority", None))
    certificate, key = folder / "page.pem", folder / "page.key"
    return PageSettings(port=0, hosts=("page.bank.example",), certificate=certificate, key=key)


def test_certificate_and_key_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A key that others may read, and a file that is none."""
    settings = tls_settings(tmp_path)
    (tmp_path / "page.key").chmod(0o644)
    with pytest.raises(KeyProblem, match="chmod 600"):
        listening(settings, 0)
    (tmp_path / "page.key").chmod(0o600)
    (tmp_path / "page.pem").write_text("none")
    with pytest.raises(Invalid, match=r"\[page\] certificate"):
        listening(settings, 0)


@pytest.mark.real_time
async def test_with_tls_cookies_are_bound_to_the_host(tmp_path: Path) -> None:
    """And go over TLS alone; a browser at a name of the settings is let in."""
    settings = tls_settings(tmp_path)
    async with paged(tmp_path / "scene") as site:
        agent = site.stage.agents[CARD]
        agent.settings = agent.settings.model_copy(update={"page": settings})
        page = Page(agent, site.stage.connection(CARD))
        async with WebServer(page.app, listening(settings, 0)) as server:
            context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
            answer = await say(server.port, b"GET /login HTTP/1.1\r\nHost: page.bank.example\r\n\r\n", context)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"__Host-tercet-login=" in answer
            assert b"Secure" in answer
            assert await say(server.port, b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n") == b""


def test_two_agents_of_a_machine_have_cookies_of_their_own(tmp_path: Path) -> None:
    """Browsers send them to every port."""
    path = tmp_path / "bank.toml"
    path.write_text('party = "bank"\nidentity = "k"\nstate = "s"\n')
    settings = read_settings(path)
    named = [Logins(settings.model_copy(update={"page": PageSettings(port=port)})).cookie for port in (1, 2)]
    assert len({*named}) == 2


@pytest.mark.real_time
async def test_one_port_may_serve_page_and_monitor(tmp_path: Path) -> None:
    """Then what a monitor asks for needs no login, and all else does; at two ports each has its own."""
    async with paged(tmp_path) as site:
        agent, broker = site.stage.agents[CARD], site.stage.connection(CARD)
        one, other = free_ports(2)
        for port in (one, other):
            agent.settings = agent.settings.model_copy(update={"monitor": MonitorSettings(port=port)})
            place = Listening("[page]", "127.0.0.1", one)
            async with AsyncExitStack() as servers:
                await service._listen(servers, agent, broker, LoopMonitor(), (site.page.app, place))
                monitor, page = Web(port), Web(one)
                assert (await monitor.get("/readyz", host="prometheus")).text == "ok\n"
                assert (await page.get("/")).headers.get("location") == "/login"
                assert (await page.get("/metrics")).status == (200 if port == one else 404)
                assert (await page.get("/", host="elsewhere.example")).status == 403
