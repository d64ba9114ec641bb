"""`tercet demo` ends with a page to open and commands to go on with, which run as they stand."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.cli.demo import next_steps, own_command

RESULT: dict[str, Any] = {
    "reports": {"notary": "demo/notary.html", "card": "demo/card.html", "bank": "demo/bank.html"},
    "model_parts": {"card": "demo/card", "bank": "demo/bank"},
    "prediction": {"scores": {"bank": "demo/scores.csv"}},
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command in an environment of its own, run from the folder above."""
    path = tmp_path / ".venv" / "bin" / "tercet"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "demo"])
    monkeypatch.setenv("PATH", "/nowhere")
    return path


@pytest.mark.parametrize("call", [".venv/bin/tercet", "{}"])
def test_a_command_that_the_shell_does_not_find_is_named_by_its_path(
    call: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `make demo`, which changes no path of anybody's shell."""
    monkeypatch.setattr(sys, "argv", [call.format(program)])
    assert own_command() == ".venv/bin/tercet"
    assert next_steps("bank", RESULT)[-1] == ".venv/bin/tercet kit consortium.toml"


def test_a_command_on_the_path_is_named_plainly(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that runs as a module."""
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin")
    assert own_command() == "tercet"
    monkeypatch.setattr(sys, "argv", ["/somewhere/tercet/__main__.py"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert own_command() == "tercet"


def test_a_path_with_signs_of_a_shell_is_quoted(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(program.parent / "a b" / "tercet")])
    assert own_command() == "'.venv/bin/a b/tercet'"


@pytest.mark.usefixtures("program")
def test_the_end_is_short_and_names_the_label_partys_files() -> None:
    """Its report above all; the others' are theirs."""
    lines = next_steps("bank", RESULT)
    assert len(lines) <= 6
    assert "Open bank's report in a browser:[/] demo/bank.html" in lines[2]
    assert not any("card" in line or "notary" in line for line in lines)
