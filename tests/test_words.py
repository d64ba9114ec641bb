"""Names and docstrings keep to plain words: no private names in identifiers, no docstring that begins with a question.

docs/glossary.md says what the words mean that are used instead.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["agents"]  # whose words are settled; more follow
LONGEST = 90  # characters of a docstring's first line
QUESTIONS = {"what", "who", "whose", "whom", "whether", "how", "where", "why", "which", "when"}
OLD_WORDS = {
    "anew", "called", "deaf", "desk", "drawn", "ending", "ends", "given", "greeter", "hearing", "kept", "late", "leads",
    "meant", "memory", "noted", "pace", "reception", "remembered", "room", "saver", "tallies", "told", "voice",
}  # fmt: skip
"""Identifiers, without their underscores and in small letters: participles as nouns, and metaphors."""

BORROWED = {("agents/protocol/checkpointing.py", "kept")}  # chosen by a message on the wire

Place = tuple[str, int, str]  # a file, a line and what is there


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every file of the packages, parsed."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """All names in a file, with their lines: of modules, classes, functions, arguments, attributes and locals."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node.lineno, name
            case ast.alias():
                yield node.lineno, node.asname or node.name.rpartition(".")[2]
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield node.lineno, name


def old_words(file: str, tree: ast.Module) -> list[Place]:
    """Identifiers that are in the list, and not borrowed."""
    return [
        (file, line, name)
        for line, name in identifiers(tree)
        if name.strip("_").lower() in OLD_WORDS and (file, name) not in BORROWED
    ]


def first_lines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The first line of each docstring, with its number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text.partition("\n")[0]


def questions(file: str, tree: ast.Module) -> list[Place]:
    """Docstrings whose first word asks."""
    return [
        (file, line, first)
        for line, first in first_lines(tree)
        if first.split(maxsplit=1)[0].strip(",.:;").lower() in QUESTIONS
    ]


def test_no_identifier_is_an_old_word() -> None:
    assert [place for file, tree in sources() for place in old_words(file, tree)] == []


def test_no_docstring_begins_with_a_question() -> None:
    assert [place for file, tree in sources() for place in questions(file, tree)] == []


def test_no_first_line_of_a_docstring_is_long() -> None:
    found = [(file, line, first) for file, tree in sources() for line, first in first_lines(tree)]
    assert [place for place in found if len(place[2]) > LONGEST] == []


@pytest.mark.parametrize(
    "planted",
    [
        "class Voice: ...",
        "def told(): ...",
        "def f(kept): ...",
        "self._drawn = 1",
        "f(given=1)",
        "import rendering as desk",
        "from tercet.agents import room",
        "try: ...\nexcept OSError as late: ...",
        "match x:\n  case y as ending: ...",
    ],
)
def test_a_planted_old_word_is_found(planted: str) -> None:
    assert old_words("planted.py", ast.parse(planted)) != []


@pytest.mark.parametrize(
    "planted",
    ['"""Who is to blame."""', 'class C:\n  """What: it is."""', 'async def f():\n  """Whether it is there."""'],
)
def test_a_planted_question_is_found(planted: str) -> None:
    assert questions("planted.py", ast.parse(planted)) != []
