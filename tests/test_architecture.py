"""The documents show the code as it is: the picture of the rooms, and every path that they name."""

import ast
import re
from pathlib import Path

import pytest

from tests.rooms_picture import FILE, layers, svg
from tests.test_documents import DOCUMENTS
from tests.test_rooms import PACKAGES, ROOMS, ROOT

# What has changed is told under the names of its day.
OF_TODAY = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
FOLDERS = "|".join([*PACKAGES, "tests", "docs", "deploy/systemd", "deploy/broker", "benchmarks", "examples"])
PATH = re.compile(rf"(?<![\w./~-])(?:\.\./)*((?:{FOLDERS})/[\w./@*-]*)")


def named(text: str) -> set[str]:
    """Find the paths that a document names, in links, code and sentences."""
    return {path.rstrip(".") for path in PATH.findall(text)}


@pytest.mark.parametrize("document", OF_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    """A pattern such as `mpc/*.py` has a file that fits."""
    missing = [path for path in named(document.read_text(encoding="utf-8")) if not [*ROOT.glob(path.rstrip("/"))]]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("see [it](../agents/runs/gone.py) there", "agents/runs/gone.py"),
        ("a line in `schemas/*_gone.py`.", "schemas/*_gone.py"),
        ("the folder `mpc/gone/`", "mpc/gone/"),
        ("It is in tests/gone.py.", "tests/gone.py"),
    ],
)
def test_a_planted_path_is_found(text: str, path: str) -> None:
    assert named(text) == {path}
    assert not [*ROOT.glob(path.rstrip("/"))]


def test_the_picture_of_the_rooms_is_that_of_the_tables() -> None:
    """After a change of the tables, `python -m tests.rooms_picture` draws it anew."""
    assert FILE.read_text(encoding="utf-8") == svg()
    assert FILE.name in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ROOMS)
def test_the_picture_has_each_room_above_all_that_it_imports(package: str) -> None:
    level = {room: number for number, rooms in enumerate(layers(ROOMS[package])) for room in rooms}
    assert level.keys() == ROOMS[package].keys()
    assert all(level[room] < level[below] for room, others in ROOMS[package].items() for below in others)


def test_contributing_answers_ten_questions_by_files_that_exist() -> None:
    """A name without a folder, such as `check.py`, is of a folder that the answer names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## Where to find what")[2].partition("\n## ")[0]
    answers = re.split(r"^\d+\. +", section, flags=re.MULTILINE)[1:]
    assert len(answers) == 10
    for answer in answers:
        question, _, rest = answer.partition("?**")
        assert question.startswith("**")
        assert named(rest), question
        bare = re.findall(r"`([a-z_]+\.py)`", rest)
        folders = [ROOT / path for path in named(rest) if path.endswith("/")]
        assert all(any((folder / name).exists() for folder in folders) for name in bare), question


def assertions(source: str) -> list[int]:
    """The lines on which a module asserts something."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]


def test_no_agent_asserts_that_a_value_is_there() -> None:
    """A phase returns what the next one needs, so that nobody has to say that it was filled in."""
    found = {str(path): assertions(path.read_text(encoding="utf-8")) for path in (ROOT / "agents").rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert assertions("def f(x):\n    if x:\n        assert x.plan is not None") == [3]
