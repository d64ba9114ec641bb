"""What other sites, strangers at the port and partners can do to an agent's page: nothing, with its protections."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from argon2 import extract_parameters

from tercet.agents.daemon import http_server
from tercet.agents.page import users
from tercet.agents.page.users import Role
from tests.agents.http_client import say
from tests.agents.page.web import paged, waiting_job
from tests.agents.scenes import CARD
from tests.attacks import page

IN_LIFE = users._hasher  # before it is made quick for tests


def test_a_guess_costs_its_time_and_memory() -> None:
    """As `verify_password` says."""
    costs = extract_parameters(IN_LIFE().hash("a long enough secret"))
    assert (costs.memory_cost, costs.time_cost, costs.type.name) == (64 * 1024, 3, "ID")


@pytest.mark.parametrize("left_out", [{"secret": True}, {"origin": True}])
def test_the_secret_of_a_form_and_its_origin_each_stop_another_site(left_out: dict[str, bool]) -> None:
    """Or one of them would be there for nothing."""
    with page.no_site_check(**left_out):
        assert page.on_page(page._post_from_elsewhere) == 0


HEADERS: tuple[tuple[int, dict[str, Any]], ...] = (
    (404, {}),  # which is let through: there is no such table
    (404, {"sec_fetch_site": ""}),  # of an old browser, which says its origin
    (403, {"origin": "null"}),
    (403, {"origin": "", "sec_fetch_site": ""}),
    (403, {"origin": "https://127.0.0.1"}),
    (403, {"sec_fetch_site": "same-site"}),
    (403, {"host": "elsewhere.example"}),
    (403, {"host": "127.0.0.1.elsewhere.example"}),
    (415, {"content_type": "text/plain"}),
    (415, {"content_type": "application/json"}),
)


@pytest.mark.real_time
async def test_only_a_page_of_the_agents_own_sends_forms(tmp_path: Path) -> None:
    async with paged(tmp_path) as site:
        ada = await site.person("ada", Role.VIEWER)
        csrf = (await ada.get("/")).csrf()
        for status, headers in HEADERS:
            assert (await ada.post("/tables/strangers/read", {"csrf": csrf}, **headers)).status == status, headers


@pytest.mark.real_time
async def test_another_site_embeds_nothing_and_a_link_leads_to_the_page(tmp_path: Path) -> None:
    async with paged(tmp_path) as site:
        ada = await site.person("ada", Role.VIEWER)
        embedded = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
        assert (await ada.get("/", **embedded)).status == 403
        assert (await ada.get("/", sec_fetch_site="cross-site")).status == 200


@pytest.mark.real_time
async def test_a_form_of_another_session_does_not_count(tmp_path: Path) -> None:
    """Nor one of the login, whose secret is its cookie's."""
    async with paged(tmp_path) as site:
        ada, eve = await site.person("ada", Role.APPROVER), await site.person("eve", Role.APPROVER)
        job_id = await waiting_job(site)
        shown = await eve.get(f"/jobs/{job_id}")
        form = {"csrf": shown.csrf(), "run": shown.hidden("run")}
        assert (await ada.post(f"/jobs/{job_id}/approve", form)).status == 403
        stranger = site.another()
        foreign = (await stranger.get("/login")).csrf()
        other = site.another()
        await other.get("/login")
        assert (await other.post("/login", {"csrf": foreign, "name": "ada", "password": "x"})).status == 403
        site.stage.agents[CARD].cancel(job_id)
        await site.stage.ended(job_id)


@pytest.mark.real_time
async def test_no_header_is_split_whatever_is_asked_for(tmp_path: Path) -> None:
    """A line's end in a path, a query, a cookie or a form comes back in no header."""
    split = "%0d%0aset-cookie:%20stolen=1"
    async with paged(tmp_path) as site:
        ada = await site.person("ada", Role.OPERATOR)
        csrf = (await ada.get("/")).csrf()
        answers = [
            await ada.get(f"{path}{split}") for path in ("/", "/jobs/", "/audit?words=", "/static/", "/login?x=")
        ]
        answers += [
            await ada.post(f"/jobs/x{split}/{word}", {"csrf": csrf, "run": "\r\nset-cookie: stolen=1"})
            for word in ("approve", "refuse", "cancel")
        ]
        assert not [answer for answer in answers if "stolen" in str(answer.headers)]
        raw = await say(ada.port, f"GET / HTTP/1.1\r\nHost: {ada.host}\r\nHost: x\r\n\r\n".encode())
        assert raw.startswith(b"HTTP/1.1 400")


@pytest.mark.real_time
@pytest.mark.parametrize("sent", [b"GET /" + b"a" * 9000, b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, b"\0" * 9000])
async def test_what_is_too_long_is_cut_off_before_it_is_all_in(tmp_path: Path, sent: bytes) -> None:
    """However it is cut into pieces."""
    async with paged(tmp_path) as site:
        answer = await say(site.web.port, sent)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        for number in range(http_server.MOST_REQUEST // 1000 + 1):
            writer.write(b"X%d: " % number + b"a" * 1000 + b"\r\n")
            await asyncio.sleep(0.001)
        try:
            answer = await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
        writer.close()
