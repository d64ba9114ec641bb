"""`tercet serve` begins when there can be scores, and says why where there cannot be any."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.core.problems import JobProblem
from tercet.agents.models.scorer import load
from tercet.agents.serving import server
from tercet.agents.serving.server import wait_until_ready
from tercet.agents.serving.sources import WholeModel
from tercet.agents.serving.web import RequestRefused
from tercet.schemas.files.invalid import Invalid
from tests.agents.http_client import exchange
from tests.agents.roles.test_prediction import newcomers, trained
from tests.agents.serving.stage import TWO
from tests.agents.world import PERSON

WHOLE = replace(TWO, release="label")
SETTINGS = 'party = "bank"\nidentity = "none.key"\nstate = "."\n'
TABLE = '[tables.{0}]\npath = "{0}.csv"\nid = "id"\n'


def serve(folder: Path, *arguments: str, settings: str = SETTINGS) -> tuple[int, str]:
    """The exit code of a command that does not begin, and what it says."""
    (folder / "bank.toml").write_text(settings)
    done = CliRunner().invoke(app, ["serve", *arguments, "--settings", str(folder / "bank.toml")])
    return done.exit_code, " ".join(done.stderr.split())


def test_the_table_is_named_where_there_are_several(tmp_path: Path) -> None:
    """One that the settings list."""
    two = SETTINGS + TABLE.format("people") + TABLE.format("firms")
    for arguments in (["a-01234567"], ["a-01234567", "--table", "other"]):
        code, reported = serve(tmp_path, *arguments, settings=two)
        assert code == 3
        assert "the settings list people, firms" in reported


def test_others_than_this_machine_need_a_token(tmp_path: Path) -> None:
    """Of some length, in a file that nobody else may read."""
    code, reported = serve(tmp_path, "a-01234567", "--address", "0.0.0.0")
    assert (code, "--token-file" in reported) == (3, True)
    token = tmp_path / "token"
    token.write_text("a-token-of-sixteen-letters")
    token.chmod(0o644)
    code, reported = serve(tmp_path, "a-01234567", "--token-file", str(token))
    assert (code, "others may read" in reported) == (3, True)
    token.chmod(0o600)
    token.write_text("short")
    code, reported = serve(tmp_path, "a-01234567", "--token-file", str(token))
    assert (code, "16 ASCII characters" in reported) == (3, True)
    assert "short" not in reported.replace("--", "")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The label party's part of a model that it holds."""
    folder = tmp_path_factory.mktemp("whole")
    trained(WHOLE, folder)
    return folder / "bank" / "models" / WHOLE.description().id


def raw_rows(count: int) -> list[dict[str, Any]]:
    """Rows with all parties' columns, as JSON has them; some cells are missing."""
    tables = newcomers(WHOLE)
    ids = [one for one in tables["bank"][PERSON] if one in tables["card"][PERSON]][:count]
    rows: list[dict[str, Any]] = [{} for _ in ids]
    for table in tables.values():
        for name, values in table.items():
            if name != PERSON:
                for one, row in zip(ids, rows, strict=True):
                    text = values[table[PERSON].index(one)]
                    row[name] = (text if "housing" in name else float(text)) if text else None
    return rows


@pytest.mark.filterwarnings("ignore::tercet.agents.models.scorer.UnseenCategories")  # of `tercet.load`
async def test_a_whole_model_scores_raw_columns_without_a_partner(whole: Path) -> None:
    """As `tercet.load` does; what is no row is refused with what is wrong in it."""
    source, rows = WholeModel(load(whole)), raw_rows(20)
    found = (await source.score({"rows": rows}))["scores"]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert np.allclose([one["score"] for one in found], load(whole).scores(columns)[:, 0], rtol=0, atol=1e-12)
    assert (await source.score({"rows": rows[3:4]}))["scores"] == found[3:4]
    assert await source.score({"rows": []}) == {"scores": []}
    lacking = {name: value for name, value in rows[0].items() if name != "card_quantity_0"}
    for wrong, words in (
        ({"ids": ["a"]}, '"rows"'),
        ({"rows": ["a"]}, "objects"),
        ({"rows": [rows[0]] * 101}, "100 at most"),
        ({"rows": [lacking]}, "card_quantity_0"),
        ({"rows": [rows[0] | {"card_quantity_0": "x"}]}, "card_quantity_0"),
        ({"rows": [rows[0] | {"card_quantity_0": {}}]}, ""),
        ({"rows": [rows[0] | {"card_quantity_0": 10**400}]}, ""),
        ({"rows": [rows[0], rows[1] | {"card_quantity_0": "x"}]}, ""),
    ):
        with pytest.raises(RequestRefused) as caught:
            await source.score(wrong)
        assert caught.value.status == 400
        assert words in caught.value.reason


@pytest.mark.real_time
async def test_the_command_serves_until_it_is_told_to_stop(whole: Path, tmp_path: Path) -> None:
    """A model that the party holds needs no agent; SIGTERM is an orderly end."""
    (tmp_path / "bank.toml").write_text(SETTINGS)
    command = [sys.executable, "-m", "tercet", "serve", str(whole), "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, "--settings", str(tmp_path / "bank.toml"), stdout=PIPE, stderr=PIPE
    )
    assert process.stderr is not None
    reported = (await process.stderr.readuntil(b"/scores")).decode()
    port = int(reported.removesuffix("/scores").rpartition(":")[2])
    body = json.dumps({"rows": raw_rows(1)}).encode()
    head = f"POST /scores HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    answer = json.loads((await exchange(port, head.encode() + b"\r\n\r\n" + body)).body)
    assert 0 < answer["scores"][0]["probability"] < 1
    process.terminate()
    assert await process.wait() == 0


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """By its name."""
    code, reported = serve(tmp_path, str(tmp_path / "bank.toml"), settings=SETTINGS + TABLE.format("people"))
    assert code == 3
    assert "bank.toml" in reported


class Waking:
    """Scores that are there after some problems."""

    def __init__(self, *codes: str) -> None:
        self.problems = [JobProblem(code, "card", f"card has {code}") for code in codes]

    async def score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Score nothing."""
        return {}

    async def check(self) -> None:
        """Raise the next problem."""
        if self.problems:
            raise self.problems.pop(0)


async def test_it_waits_for_tables_and_goes_on_without_a_partner_that_is_away() -> None:
    """What a person has to mend ends it, and so does a table that is never read."""
    said: list[str] = []
    await wait_until_ready(Waking("serving.reading", "serving.reading"), 10, said.append)
    assert said == ["Tables are being read."]
    for code in server.NOT_YET:
        await wait_until_ready(Waking("serving.reading", code), 10, said.append)
        assert said[-1] == f"card has {code}. Until then there are no scores."
    for code in ("policy.serving", "serving.shared", "model.missing"):
        with pytest.raises(Invalid, match=code):
            await wait_until_ready(Waking(code), 10, said.append)
    with pytest.raises(Invalid, match="ready"):
        await wait_until_ready(Waking(*["serving.reading"] * 99), 10, said.append)
