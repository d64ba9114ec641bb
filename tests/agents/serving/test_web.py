"""The server speaks JSON to programs of this machine, within bounds, and to no page of a browser."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.core.problems import JobProblem
from tercet.agents.daemon.console_socket import ConsoleSocket
from tercet.agents.daemon.http_server import Listening, WebServer
from tercet.agents.models import model_part
from tercet.agents.scorecards.card import cards_of_part
from tercet.agents.serving import web
from tercet.agents.serving.server import MOST_REQUEST, choose_scores
from tercet.agents.serving.sources import AgentScores
from tercet.agents.serving.web import LOOPBACK, ScoreApp, Scores
from tercet.schemas.files.job import Scorecard
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.numeric import NumericColumn
from tests.agents.http_client import exchange
from tests.agents.recording import Tables
from tests.agents.scorecards.made_up import read_card
from tests.agents.serving.stage import THREE, TWO, copy_of, ids_of, known_ids, scores, serving
from tests.agents.world import PERSON, Sample

POINTS = Scorecard(pdo=40.0, base_points=500.0, base_odds=20.0)
CARDED = Sample(columns=(4, 3), scorecard=POINTS)
pytestmark = pytest.mark.real_time

JSON = "Content-Type: application/json"
BODY = b'{"ids": ["a"]}'


class Echo:
    """Scores by the length of an id; or fails as it is told."""

    def __init__(self, problem: JobProblem | None = None) -> None:
        self.problem = problem
        self.going = asyncio.Event()
        self.going.set()

    async def score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Score, or fail."""
        await self.going.wait()
        await self.check()
        return {"scores": {one: {"score": len(one)} for one in asked["ids"]}, "unknown": []}

    async def check(self) -> None:
        """Fail, perhaps."""
        if self.problem is not None:
            raise self.problem


@asynccontextmanager
async def listening(source: Scores, **more: Any) -> AsyncIterator[WebServer]:
    """A server at any port."""
    app = ScoreApp(source, **more).build()
    async with WebServer(app, Listening("tercet serve", "127.0.0.1", 0, most_request=MOST_REQUEST)) as server:
        yield server


def post(body: bytes = BODY, *headers: str, host: str = "localhost:8080", path: str = "/scores") -> bytes:
    """A request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *(headers or (JSON,))]
    return "\r\n".join((*lines, "", "")).encode() + body


async def ask(server: WebServer, request: bytes) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    status, _, body = await exchange(server.port, request)
    return status, json.loads(body) if body else None


async def test_scores_come_as_json_and_no_cache_keeps_them() -> None:
    """By any of loopback's names."""
    async with listening(Echo()) as server:
        for host in ("localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"):
            status, headers, body = await exchange(server.port, post(host=host))
            assert (status, json.loads(body)) == (200, {"scores": {"a": {"score": 1}}, "unknown": []})
            assert headers["content-type"] == "application/json"
            assert headers["cache-control"] == "no-store"
        assert await ask(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") == (200, {"state": "ready"})


FOREIGN = {
    "a form": (post(BODY, "Content-Type: text/plain"), 415),
    "no type": (post(BODY, "X: y"), 415),
    "a page": (post(BODY, JSON, "Origin: http://evil.example"), 403),
    "a page without a name": (post(BODY, JSON, "Origin: null"), 403),
    "a page of this server's name": (post(BODY, JSON, "Origin: http://localhost:8080"), 403),
    "a name that points here": (post(host="evil.example:8080"), 421),
    "no name": (b"POST /scores HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 421),
    "its health by another name": (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "a question for leave": (b"OPTIONS /scores HTTP/1.1\r\nHost: localhost\r\nOrigin: http://e\r\n\r\n", 405),
    "another path": (post(path="/scores/../../etc/passwd"), 404),
    "another method": (b"GET /scores HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "no JSON": (post(b'{"ids": '), 400),
    "no text": (post(b'{"ids": ["\\ud800 evil"]}'), 400),
    "no text in a column's name": (post(b'{"rows": [{"\\udc00": 1}]}'), 400),
    "no object": (post(b'["a"]'), 400),
    "a depth": (post(b"[" * 60_000), 400),
    "a large body": (post(b" " * (web.MOST_BODY + 1)), 413),
}


@pytest.mark.parametrize(("request_", "status"), FOREIGN.values(), ids=FOREIGN)
async def test_what_is_no_question_of_a_program_is_refused_with_a_code(request_: bytes, status: int) -> None:
    """A page cannot send JSON without asking, and is not let; nothing that came is in the answer."""
    async with listening(Echo()) as server:
        found, headers, body = await exchange(server.port, request_)
        assert found == status
        assert "access-control-allow-origin" not in headers
        assert json.loads(body)["error"]["code"] == "serving.request"
        assert b"evil" not in body
        assert b"passwd" not in body


async def test_more_than_a_request_may_have_is_not_read_to_its_end() -> None:
    """Headers without end, or a body of another length than it says."""
    async with listening(Echo()) as server:
        many = b"".join(b"X-%d: y\r\n" % number for number in range(20_000))
        status, _, _ = await exchange(server.port, b"POST /scores HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")
        assert status in {0, 400, 431}  # reset while it sends
        chunked = (
            b"POST /scores HTTP/1.1\r\nHost: localhost\r\n" + JSON.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        status, _, _ = await exchange(
            server.port, chunked + b"8000\r\n" + b" " * 0x8000 + b"\r\n" + b"8001\r\n" + b" " * 0x8001
        )
        assert status in {0, 413, 431}
        assert (await ask(server, post()))[0] == 200


async def test_a_slow_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it does not take another's place."""
    monkeypatch.setattr(web, "BODY_SECONDS", 0.2)
    monkeypatch.setattr("tercet.agents.daemon.http_server.SECONDS", 0.5)
    async with listening(Echo()) as server:
        slow = f"POST /scores HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 9\r\n\r\n".encode()
        status, body = await ask(server, slow)
        assert (status, body["error"]["code"]) == (408, "serving.request")
        assert await ask(server, b"POST /sc") == (0, None)


async def test_a_token_is_asked_for_where_there_is_one() -> None:
    """Whoever has another, or none, is told no more than that."""
    async with listening(Echo(), token="a-token-of-sixteen-letters") as server:
        for header in ("X: y", "Authorization: Bearer other", "Authorization: Basic a-token-of-sixteen-letters"):
            status, body = await ask(server, post(BODY, JSON, header))
            assert (status, body["error"]["code"]) == (401, "serving.token")
        assert (await ask(server, post(BODY, JSON, "Authorization: Bearer a-token-of-sixteen-letters")))[0] == 200
    async with listening(Echo(), hosts=LOOPBACK | {"scores.bank.example"}) as server:
        assert (await ask(server, post(host="scores.bank.example")))[0] == 200


async def test_so_many_requests_are_answered_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are told so, and may come again."""
    monkeypatch.setattr(web, "MOST_AT_ONCE", 2)
    source = Echo()
    source.going.clear()
    async with listening(source) as server:
        waiting = [asyncio.ensure_future(ask(server, post())) for _ in range(2)]
        await asyncio.sleep(0.3)
        status, headers, body = await exchange(server.port, post())
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["error"]["code"] == "serving.busy"
        source.going.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("serving.deadline", 503), ("serving.reading", 503), ("serving.unreachable", 503), ("serving.busy", 503),
        ("serving.agent", 503), ("serving.answer", 502), ("serving.shared", 409), ("policy.serving", 403),
        ("policy.exposure", 429), ("model.missing", 404), ("disk.write", 500),
    ],
)  # fmt: skip
async def test_a_failure_has_its_code_and_a_status(code: str, status: int) -> None:
    """And names whose fault it is."""
    async with listening(Echo(JobProblem(code, "card", "card is away", "a secret"))) as server:
        expected = {"error": {"code": code, "culprit": "card", "reason": "card is away"}}
        assert await ask(server, post()) == (status, expected)
        assert await ask(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") == (status, expected)


async def test_a_bug_is_told_as_such_without_its_text() -> None:
    """And the server goes on."""

    class Broken(Echo):
        async def score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
            raise ValueError("a secret")

    async with listening(Broken()) as server:
        for _ in range(2):
            status, _, body = await exchange(server.port, post())
            assert status == 500
            assert b"secret" not in body


async def test_scores_come_from_the_agent_of_this_machine(tmp_path: Path) -> None:
    """Over its socket; what is no list of ids is refused, and nobody knows an id that nobody has."""
    ids = known_ids(THREE, tmp_path)[:3]
    async with serving(THREE, tmp_path) as stage:
        expected = await scores(stage, THREE, ids)
        own = stage.parties["bank"][0]
        source = AgentScores(own, THREE.description().id, "people", "")
        async with ConsoleSocket(own, stage.agents["bank"].answer_local), listening(source) as server:
            status, found = await ask(server, post(json.dumps({"ids": [*ids, "nobody", 7]}).encode()))
            assert status == 200
            assert found["unknown"] == ["nobody", "7"]
            assert {one: score["score"] for one, score in found["scores"].items()} == {
                one: score[0] for one, score in expected.items()
            }
            assert all(0 < score["probability"] < 1 for score in found["scores"].values())
            assert await ask(server, post(b'{"ids": []}')) == (200, {"scores": {}, "unknown": []})
            assert (await ask(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 200
            bodies: list[dict[str, Any]] = [
                {"ids": "a"}, {"ids": [None]}, {"ids": [""]}, {"ids": [True]}, {"ids": ["a"] * 101},
                {"ids": [], "more": 1}, {"rows": []}, {"ids": ["x" * 1001]},
            ]  # fmt: skip
            for wrong in bodies:
                status, found = await ask(server, post(json.dumps(wrong).encode()))
                assert (status, found["error"]["code"]) == (400, "serving.request")
        async with listening(source) as server:  # the socket has gone with the agent
            status, found = await ask(server, post())
            assert (status, found["error"]["code"]) == (503, "serving.agent")


@pytest.fixture
def carded(tmp_path: Path) -> Tables:
    """Tables of new rows beside a model with a scorecard, which is trained before there is a loop."""
    return copy_of(CARDED, tmp_path)


async def test_points_of_an_answer_are_the_sum_of_all_parties_cards(carded: Tables, tmp_path: Path) -> None:
    """Each party reads its own card, as with a pencil; what is served is that sum, rounded."""
    ids, model = ids_of(carded, *CARDED.parties), CARDED.description().id
    async with serving(CARDED, tmp_path) as stage:
        await scores(stage, CARDED, ids[:1])  # once tables are read
        own = stage.parties["bank"][0]
        source = choose_scores(own, model, None, "")
        async with ConsoleSocket(own, stage.agents["bank"].answer_local), listening(source) as server:
            status, found = await ask(server, post(json.dumps({"ids": ids}).encode()))
    assert status == 200
    sums = np.zeros(len(ids))
    for party in CARDED.parties:
        part, arrays = model_part.load(tmp_path / party / "models" / model)
        (card,) = cards_of_part(part, arrays, POINTS).cards
        sums += read_card(card, part.encoding, typed(carded[party], part.encoding, ids))
    served = np.array([found["scores"][one]["points"] for one in ids])
    assert np.ptp(served) > 20
    assert np.abs(served - sums).max() <= 0.5 + 0.01  # scores have 2^-14


def typed(texts: Mapping[str, Sequence[str]], encoding: Encoding, ids: Sequence[str]) -> Table:
    """These rows of a table as it is read: numbers, and texts, some missing."""
    rows = [texts[PERSON].index(one) for one in ids]
    cells = {column.name: [texts[column.name][row] for row in rows] for column in encoding.columns}
    numbers = {column.name for column in encoding.columns if isinstance(column, NumericColumn)}
    return Table(
        name="people",
        rows=len(rows),
        columns=tuple(cells),
        numeric={name: np.array([float(one or "nan") for one in cells[name]]) for name in cells if name in numbers},
        categorical={
            name: np.array([one or None for one in cells[name]], np.object_) for name in cells if name not in numbers
        },
    )


async def test_a_partner_that_is_away_makes_a_503_with_its_name(tmp_path: Path) -> None:
    """And says for how long."""
    (one,) = known_ids(TWO, tmp_path)[:1]
    async with serving(TWO, tmp_path) as stage:
        await scores(stage, TWO, [one])
        await stage.stop("card")
        own = stage.parties["bank"][0]
        source = AgentScores(own, TWO.description().id, "people", "")
        async with ConsoleSocket(own, stage.agents["bank"].answer_local), listening(source) as server:
            status, found = await ask(server, post(json.dumps({"ids": [one]}).encode()))
        assert (status, found["error"]["code"], found["error"]["culprit"]) == (503, "serving.deadline", "card")
        assert "card has not answered bank for 2 s" in found["error"]["reason"]
