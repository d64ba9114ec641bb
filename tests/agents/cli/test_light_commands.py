"""What starts loads no library that it needs later, or never: each of those takes up to two seconds."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from tercet.agents.access.console_client import Request
from tercet.agents.daemon.console_socket import ConsoleSocket
from tercet.schemas.files.settings import read_settings
from tercet.schemas.messages.kinds import Query, Status

pytestmark = pytest.mark.real_time

HEAVY = {"numba", "scipy", "sklearn", "matplotlib", "pyarrow", "adbc_driver_manager", "onnx", "rbcl", "jinja2"}
FOR_MESSAGES = {"numpy", "cryptography", "aio_pika", "prometheus_client", "safetensors"}
FOR_RESULTS = {"numba", "scipy", "sklearn", "matplotlib", "onnx", "pandas"}  # of a job's steps, metrics and report
FOR_AGENTS = {"asyncio", "rich.progress"}  # what talks to an agent, and shows a job's progress
FOR_JOBS = {f"tercet.schemas.messages.{module}" for module in ("kinds", "step", "blind", "network", "alignment")}
MODELS = {"tercet.schemas.core.strict"}  # the base of all messages and files
SETTINGS = 'party = "bank"\nrole = "helper"\nidentity = "none.key"\nstate = "."\n'
THEN_MODULES = """
import atexit, json, sys
from tercet.agents.cli.app import main
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
main()
"""


async def loaded(*arguments: str) -> tuple[int | None, set[str]]:
    """The exit code of a command in a process of its own, and the packages and modules that it has loaded."""
    command = [sys.executable, "-c", THEN_MODULES, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
    _, reported = await process.communicate()
    modules = json.loads(reported.splitlines()[-1])
    return process.returncode, {*modules, *(name.partition(".")[0] for name in modules)}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], set()),
        (["keygen", "bank.key"], {"cryptography"}),
        (["explain", "table.unusable"], set()),
        (["kit", "--example"], set()),
    ],
)
async def test_a_command_without_an_agent_loads_no_messages_either(
    arguments: list[str], needed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what speaks to a broker."""
    monkeypatch.chdir(tmp_path)
    code, packages = await loaded(*arguments)
    assert (code, packages & (HEAVY | FOR_MESSAGES | FOR_AGENTS | MODELS)) == (0, needed)


async def test_a_question_to_the_agent_of_this_machine_loads_its_messages_alone(tmp_path: Path) -> None:
    """Nothing that they are sealed with, and no arrays, which no question and no answer has."""
    (tmp_path / "bank.toml").write_text(SETTINGS)

    async def answer(request: Request) -> Status:
        assert isinstance(request, Query)
        return Status(problem="no such job")

    async with ConsoleSocket(read_settings(tmp_path / "bank.toml"), answer):
        code, packages = await loaded("job", "status", "a-01234567", "--settings", str(tmp_path / "bank.toml"))
    assert (code, packages & (HEAVY | FOR_MESSAGES | FOR_JOBS)) == (3, set())


async def test_a_command_builds_the_readers_of_its_own_messages_alone(tmp_path: Path) -> None:
    """To build those of all eighty messages took a third of its time."""
    script = """
from tercet.schemas.messages.kinds import Message
print(sum(message.__pydantic_complete__ for message in Message.__subclasses__()))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=PIPE)
    printed, _ = await process.communicate()
    assert int(printed) == 0


async def test_an_agent_starts_without_what_its_jobs_need_later() -> None:
    """These took more than half of its start."""
    script = "import json, sys, tercet.agents.daemon.service; print(json.dumps(sorted(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=PIPE)
    printed, _ = await process.communicate()
    assert {name.partition(".")[0] for name in json.loads(printed)} & FOR_RESULTS == set()
