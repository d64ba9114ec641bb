"""SECURITY.md names tests that exist, one at least for each threat, and every test of attacks.

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
SECTION = "## Threats and tests"
BY = re.compile(r"^\*\*(.+)\*\*$", re.MULTILINE)  # the heading of one attacker's threats
MARKER = re.compile(r"`(tests/[\w/.]+\.py)`:?|`(\w+)`")


class Row(NamedTuple):
    """One threat of the list."""

    threat: str
    tests: str


class Named(NamedTuple):
    """A test as the document names it: after its file."""

    file: str
    name: str


def rows(text: str) -> Iterator[Row]:
    """All threats: each begins with its words in bold, and has its tests below it, by file."""
    for item in re.split(r"^(?=- \*\*)", text.partition(SECTION)[2], flags=re.MULTILINE)[1:]:
        own = BY.split(item)[0]  # without the next attacker's heading
        threat, _, tests = own.removeprefix("- **").partition(".**")
        yield Row(" ".join(threat.split()), tests.partition("\n  - ")[2])


def named(tests: str) -> Iterator[Named]:
    """The tests of one threat, in the order in which they stand there; a file without one has no name."""
    names: dict[str, list[str]] = {}
    file = ""
    for new, name in MARKER.findall(tests):
        file = new or file
        names.setdefault(file, []).extend([name] if name else [])
    yield from (Named(file, name) for file, there in names.items() for name in there or [""])


@cache
def functions(file: str) -> frozenset[str]:
    """The names of a file's functions, none if there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(row: Row) -> list[str]:
    """What a threat names and is no test."""
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
    assert len(BY.findall(TEXT.partition(SECTION)[2])) == 6  # the last has what is not tested
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
        "`tests/test_security_document.py`: `test_that_is_not_there`",
        "`tests/test_that_is_not_there.py`: `test_each_threat_has_a_test_that_exists`",
        "`tests/test_security_document.py`: `rows`",
        "`tests/test_security_document.py`: `test_each_threat_has_a_test_that_exists`, `test_gone`",
        "`test_each_threat_has_a_test_that_exists`",
    ],
)
def test_a_row_without_its_test_is_found(tests: str) -> None:
    """Whatever is wrong with it."""
    (row,) = rows(f"{SECTION}\n\n**A thief**\n\n- **Theft.** Luck.\n  - {tests}\n")
    assert missing(row) != []


def test_a_row_with_its_test_is_right() -> None:
    """Over lines that are broken where a document has them."""
    tests = "`tests/test_security_document.py`:\n    `test_each_threat_has_a_test_that_exists`\n"
    text = f"{SECTION}\n\n- **Theft\n  of all.** Luck.\n  - {tests}**Not tested**\n\n- Luck.\n"
    assert [*rows(text)] == [Row("Theft of all", tests)]
    assert missing(next(rows(text))) == []
