"""SECURITY.md names tests that exist, one at least for each threat, and every file of attacks.

It reads files and runs none of these tests; whether a test shows what its row says is for people to judge.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
MARK = re.compile(r"`(tests/[\w/.]+\.py)?(?:::(\w+))?`")
HEADER = "| threat |"


class Row(NamedTuple):
    """One line of a table of threats."""

    threat: str
    stops: str
    tests: str


class Named(NamedTuple):
    """A test as the document names it: in its file, which stands before the first of several."""

    file: str
    name: str


def rows(text: str) -> Iterator[Row]:
    """The lines of all tables of threats."""
    for table in text.split(HEADER)[1:]:
        for line in table.splitlines()[2:]:
            if not line.startswith("|"):
                break
            yield Row(*(cell.strip() for cell in line.strip("|").split(" | ")))


def named(tests: str) -> Iterator[Named]:
    """The tests of one row, in the order in which they stand there."""
    file = ""
    for found in MARK.finditer(tests):
        file, name = found[1] or file, found[2] or ""
        if found[0] != "``":
            yield Named(file, name)


@cache
def functions(file: str) -> frozenset[str]:
    """The names of a file's functions, none if there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(row: Row) -> list[str]:
    """What a row names and is no test."""
    tests = list(named(row.tests))
    wrong = [f"{t.file}::{t.name}" for t in tests if not t.name.startswith("test_") or t.name not in functions(t.file)]
    return wrong if tests else ["no test at all"]


ROWS = list(rows(TEXT))


@pytest.mark.parametrize("row", ROWS, ids=[row.threat[:60] for row in ROWS])
def test_each_threat_has_a_test_that_exists(row: Row) -> None:
    """In the file that it is said to be in."""
    assert missing(row) == []


def test_there_are_threats_by_everybody() -> None:
    """Curious parties, the broker, a party with a login, a partner that lies, and one's own machine."""
    assert TEXT.count(HEADER) == 5
    assert len(ROWS) > 40


def test_every_attack_is_in_the_document() -> None:
    """A test that is added to the attackers' suite gets a row, or joins one."""
    wanted = {
        Named(str(path.relative_to(ROOT)), name)
        for path in ROOT.glob("tests/attacks/test_*.py")
        for name in functions(str(path.relative_to(ROOT)))
        if name.startswith("test_")
    }
    assert wanted
    assert wanted <= {test for row in ROWS for test in named(row.tests)}


@pytest.mark.parametrize(
    "tests",
    [
        "by hand",
        "`tests/test_security_document.py`",
        "`tests/test_security_document.py::test_that_is_not_there`",
        "`tests/test_that_is_not_there.py::test_each_threat_has_a_test_that_exists`",
        "`tests/test_security_document.py::rows`",
        "`tests/test_security_document.py::test_each_threat_has_a_test_that_exists`, `::test_gone`",
    ],
)
def test_a_row_without_its_test_is_found(tests: str) -> None:
    """Whatever is wrong with it."""
    (row,) = rows(f"{HEADER} what stops it | tests |\n|---|---|---|\n| theft | luck | {tests} |\n")
    assert missing(row) != []
