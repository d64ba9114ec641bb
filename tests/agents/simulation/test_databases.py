"""A whole job whose tables are in databases, and what becomes of one whose login is refused."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as postgresql
import pytest

from tercet.schemas.files.settings import TableSettings
from tests.agents.scenes import BANK, CARD, ROWS, Scene, job, nothing_left, off, prediction, scene, three
from tests.postgres_node import Node

QUERY = "SELECT * FROM card_customers"
PASSWORD = "not-the-password"


def rows_of(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of a CSV file."""
    with path.open(encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    return names, rows


def fill(connection: Any, path: Path) -> None:
    """Copy a CSV file of an id and numbers into a new table."""
    names, rows = rows_of(path)
    columns = ", ".join(f'"{name}" {"TEXT" if name == "id" else "DOUBLE PRECISION"}' for name in names)
    values = ", ".join("(" + ", ".join([f"'{row[0]}'", *row[1:]]) + ")" for row in rows)
    with closing(connection.cursor()) as cursor:
        cursor.execute("DROP TABLE IF EXISTS card_customers")
        cursor.execute(f"CREATE TABLE card_customers ({columns})")
        cursor.execute(f"INSERT INTO card_customers VALUES {values}")
    connection.commit()


def read_from(stage: Scene, **source: Any) -> None:
    """Let the card processor read its table from a database."""
    stage.change(CARD, tables={"customers": TableSettings(**source, query=QUERY, id="id")})


def login(path: Path, username: str, password: str) -> Path:
    """A credentials file."""
    path.touch(0o600)
    path.write_text(f'username = "{username}"\npassword = "{password}"\n')
    return path


async def all_is_done(stage: Scene) -> None:
    """Train and predict, and see that the rows of the database are in both."""
    trained = await stage.run(job())
    assert {(status.state, status.rows) for status in trained.values()} == {("done", ROWS)}
    scored = await stage.run(prediction(trained[BANK].job))
    assert {(status.state, status.rows) for status in scored.values()} == {("done", ROWS)}


async def test_a_table_may_be_the_answer_of_a_sqlite_file(tmp_path: Path) -> None:
    """In training and prediction."""
    settings = three(tmp_path)
    with closing(sqlite3.connect(tmp_path / "card.db")) as connection:
        fill(connection, tmp_path / "card.csv")
    async with scene(settings, tmp_path) as stage:
        read_from(stage, database=f"sqlite:///{tmp_path / 'card.db'}")
        await all_is_done(stage)


async def test_a_table_may_be_the_answer_of_a_postgresql_server(tmp_path: Path, postgres_url: str) -> None:
    """As at any server that tests may use."""
    settings = three(tmp_path)
    with closing(postgresql.connect(postgres_url)) as connection:
        fill(connection, tmp_path / "card.csv")
    async with scene(settings, tmp_path) as stage:
        read_from(stage, database=postgres_url)
        await all_is_done(stage)


@pytest.fixture
def filled(tmp_path: Path, postgres: Node) -> Node:
    """The run's own server, which asks for a password, with the card processor's table."""
    three(tmp_path)
    with closing(postgresql.connect(postgres.url)) as connection:
        fill(connection, tmp_path / "card.csv")
    return postgres


async def test_the_login_to_a_database_comes_from_a_file(tmp_path: Path, filled: Node) -> None:
    """It is in no setting, and in nothing that the agent keeps or says."""
    async with scene(three(tmp_path), tmp_path) as stage:
        credentials = login(tmp_path / "login.toml", *filled.login)
        read_from(stage, database=filled.address, credentials=credentials)
        await all_is_done(stage)
    stored = b"".join(path.read_bytes() for path in (tmp_path / CARD).rglob("*") if path.is_file())
    assert filled.password.encode() not in stored


async def test_a_wrong_password_is_told_to_its_owner_and_quoted_to_nobody(
    tmp_path: Path, filled: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others learn that the table cannot be read; neither server nor login is their business."""
    async with scene(three(tmp_path), tmp_path) as stage:
        credentials = login(tmp_path / "login.toml", filled.login[0], PASSWORD)
        read_from(stage, database=filled.address, credentials=credentials)
        ended = await stage.run(job())
        reason = off(ended, "table.unusable", CARD)
        assert not {word for word in ("login", "postgresql", "127.0.0.1", filled.login[0]) if word in reason}
        assert "credentials" in (ended[CARD].detail or "")
        nothing_left(stage)
        said = "".join(status.model_dump_json() for status in ended.values()) + "".join(capsys.readouterr())
        assert "job failed" in said
        assert PASSWORD not in said


@pytest.mark.parametrize(("mode", "content"), [(0o644, None), (0o600, 'username = "me"\npasswort = "hush, hush"\n')])
async def test_a_credentials_file_that_cannot_be_used_is_not_quoted(
    tmp_path: Path, mode: int, content: str | None
) -> None:
    """One that others may read, and one with a field that is none; the database is not asked."""
    async with scene(three(tmp_path), tmp_path) as stage:
        credentials = login(tmp_path / "login.toml", "me", "hush, hush")
        credentials.chmod(mode)
        if content is not None:
            credentials.write_text(content)
        read_from(stage, database="postgresql://127.0.0.1:1/nowhere", credentials=credentials)
        ended = await stage.run(job())
        reason = off(ended, "table.unusable", CARD)
        assert "login" in reason
        detail = ended[CARD].detail or ""
        assert "login.toml" in detail
        assert "hush" not in reason + detail
        nothing_left(stage)
