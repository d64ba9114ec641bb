"""`tercet job list` shows the jobs that are asked for, a page at a time, and says what it leaves out."""

import io
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from tercet.agents.cli import job, rendering
from tercet.agents.cli.app import app
from tercet.schemas.messages.kinds import JobStatus, Status

STATES = ("done", "failed", "training")
MODELS = ("logistic", "mlp")


def status(number: int) -> JobStatus:
    """The latest is number 0; one more for each day before."""
    fields: dict[str, Any] = {"job": f"job-{number:08}", "state": STATES[number % 3], "model": MODELS[number % 2]}
    fields |= {"kind": "prediction" if number % 5 == 0 else "training", "label": "bank", "helper": "notary"}
    day = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp() - 86400 * number
    fields["submitted"] = datetime.fromtimestamp(day, UTC).isoformat(timespec="seconds")
    members = () if number == 5 else ("bank", "card", f"shop-{number % 4}", "notary")  # by an earlier release
    return JobStatus.model_validate(fields | {"parties": (), "members": members})


JOBS = tuple(map(status, range(50)))


@pytest.fixture(autouse=True)
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows fifty jobs."""
    monkeypatch.setattr(job, "ask_or_recall", lambda _settings: (Status(jobs=JOBS), ""))


@pytest.fixture
def zone() -> Iterator[None]:
    """A machine whose clock is nine hours ahead."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["job", "list", "--settings", "unused.toml", *arguments], env={"COLUMNS": "100"})


def listed(*arguments: str) -> list[int]:
    """The numbers of the jobs that a script gets."""
    return [int(one["job"].removeprefix("job-")) for one in json.loads(run("--format", "json", *arguments).stdout)]


def test_a_person_gets_a_page_and_a_script_everything() -> None:
    """Unless it asks for less."""
    first = run()
    assert [f"job-{number:08}" in first.stdout for number in range(50)] == [True] * 20 + [False] * 30
    assert "page 1: 20 of 50 jobs" in first.stderr
    third = run("--page", "3")
    assert [f"job-{number:08}" in third.stdout for number in range(50)] == [False] * 40 + [True] * 10
    assert "page 3: 10 of 50 jobs" in third.stderr
    assert run("--limit", "50").stderr == ""
    assert listed() == [*range(50)]
    assert listed("--limit", "7", "--page", "2") == [*range(7, 14)]
    assert listed("--page", "9", "--limit", "20") == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--state", "done"], lambda number: number % 3 == 0),
        (["--state", "done", "--state", "failed"], lambda number: number % 3 < 2),
        (["--model", "mlp"], lambda number: number % 2 == 1),
        (["--kind", "prediction"], lambda number: number % 5 == 0),
        (["--kind", "training", "--model", "mlp", "--state", "failed"], lambda n: n % 5 and n % 2 and n % 3 == 1),
        (["--partner", "shop-1"], lambda number: number % 4 == 1 and number != 5),
        (["--partner", "shop-1", "--partner", "shop-3", "--state", "done"], lambda n: n % 2 == 1 and n % 3 == 0),
        (["--partner", "notary"], lambda _: True),
        (["--partner", "shop"], lambda _: False),
        (["--model", "unheard-of"], lambda _: False),
    ],
)
def test_what_is_named_is_shown_alone(arguments: list[str], wanted: Any) -> None:
    assert listed(*arguments) == [number for number in range(50) if wanted(number)]


@pytest.mark.usefixtures("zone")
def test_since_is_by_the_clock_of_this_machine() -> None:
    """Noon in Greenwich is nine in the evening there."""
    assert listed("--since", "2026-11-27") == [0, 1, 2]
    assert listed("--since", "2026-11-27T21:00:00") == [0, 1, 2]
    assert listed("--since", "2026-11-27T21:00:01") == [0, 1]


@pytest.mark.parametrize("wrong", [["--state", "gone"], ["--limit", "0"], ["--page", "0"], ["--since", "soon"]])
def test_what_no_job_could_be_is_wrong_usage(wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2


def test_an_id_is_whole_in_a_narrow_terminal(tmp_path: Path) -> None:
    """Or it could not be copied into the next command."""
    assert "job-00000000" in CliRunner().invoke(app, ["job", "list", "-s", "s.toml"], env={"COLUMNS": "60"}).stdout


@pytest.mark.parametrize("width", [60, 80])
def test_nothing_of_a_job_is_cut(width: int) -> None:
    """Not for the longest id, nor for long names of those whom it waits for."""
    waits = ("insurer-with-the-longest-name-of", "another-insurer-of-a-long-name-1")
    name = "a-job-with-the-longest-name-that-there-0a1b2c3d"
    long = JOBS[2].model_copy(update={"job": name, "step": 7, "steps": 10**6, "waits_for": waits})
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(rendering.job_table([long]))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    first = next(number for number, line in enumerate(lines) if line.startswith(name))
    cell = "".join(line[len(name) :].strip() for line in lines[first:])
    assert "".join(f"training, step 7 of 1000000, waits for {' and '.join(waits)}".split()) in "".join(cell.split())
    assert "…" not in file.getvalue()
