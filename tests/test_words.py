"""Names and docstrings keep to plain words: no private names in identifiers, no docstring that begins with a question.

docs/glossary.md says what the words mean that are used instead.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.test_rooms import ROOT, sources

LONGEST = 90  # characters of a docstring's first line
QUESTIONS = {"what", "who", "whose", "whom", "whether", "how", "where", "why", "which", "when"}
OLD_WORDS = {
    "allowance", "anew", "buried", "bury", "called", "deaf", "desk", "doubts", "drawn", "given", "greeter", "grown",
    "hearing", "kept", "losing", "meant", "noted", "office", "parcel", "reception", "remembered", "saver", "spelt",
    "summed", "taken", "tallies", "tally", "telling", "thinned", "told", "upwards", "voice", "wider",
}  # fmt: skip
"""Participles as nouns, and metaphors, in small letters: no part of an identifier."""

VAGUE = {"ending", "ends", "give", "late", "leads", "mark", "memory", "need", "pace", "room", "take"}
"""No identifier alone; beside another word they are plain: `take_snapshot`."""

BORROWED = {
    ("schemas.messages.recovery", "kept"),  # a field on the wire: another name needs another protocol version
    ("broker.memory", "memory"),  # the room beside `rabbitmq`
}
OF_ROOMS = {
    "rooms_picture", "test_architecture", "test_error_codes", "test_glossary", "test_image", "test_rooms",
    "test_vectors",
}  # fmt: skip
"""Modules of tests that deal with rooms of packages, and may call each one a room."""
OF_BENCHMARKS = {("benchmarks.memory", "memory"), ("benchmarks.__main__", "memory")}  # what that one measures

Place = tuple[str, int, str]  # a module, a line and what is there


def parsed(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules of another folder, parsed."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield module, ast.parse(path.read_text(encoding="utf-8"))


@cache
def modules() -> list[tuple[str, ast.Module]]:
    """Every module of the packages, parsed."""
    return [(module, ast.parse(source)) for module, source in sources().items()]


@cache
def identifiers(module: str, tree: ast.AST) -> list[tuple[int, str]]:
    """A module's own name and all that it binds, with their lines; what it only uses is bound elsewhere, or foreign."""
    found = [(1, module.rpartition(".")[2])]
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.append((node.lineno, name))
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.append((node.lineno, name))
            case ast.arg(arg=name):
                found.append((node.lineno, name))
            case ast.alias():
                found.append((node.lineno, node.asname or node.name.rpartition(".")[2]))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.append((node.lineno, name))
    return found


@cache
def is_old(name: str) -> bool:
    """Whether a word of an identifier, or all of it, is in the lists."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    return bool(words & OLD_WORDS) or name.strip("_").lower() in VAGUE


def old_words(module: str, tree: ast.Module) -> list[Place]:
    """Identifiers that are in the lists, and not borrowed."""
    return [
        (module, line, name)
        for line, name in identifiers(module, tree)
        if is_old(name) and (module, name) not in BORROWED
    ]


def old_words_of_tests(module: str, tree: ast.Module) -> list[Place]:
    """The same of a module of tests; a test's name is a sentence, where they are verbs, and `given` is Hypothesis's."""
    own = {"room"} if module.rpartition(".")[2] in OF_ROOMS else set()
    found = [place for place in old_words(module, tree) if not place[2].startswith("test_") and place[2] not in own]
    aliases = (node for node in ast.walk(tree) if isinstance(node, ast.alias)) if found else ()
    imported = [node.lineno for node in aliases if node.name == "given"]
    return [place for place in found if place[2] != "given" or place[1] not in imported]


@cache
def first_lines(tree: ast.Module) -> list[tuple[int, str]]:
    """The first line of each docstring, with its number."""
    places = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, places) and ast.get_docstring(node)]
    return [(node.body[0].lineno, str(ast.get_docstring(node)).partition("\n")[0]) for node in documented]


def questions(module: str, tree: ast.Module) -> list[Place]:
    """Docstrings whose first word asks."""
    return [
        (module, line, first)
        for line, first in first_lines(tree)
        if first.split(maxsplit=1)[0].strip(",.:;").lower() in QUESTIONS
    ]


def test_no_identifier_is_an_old_word() -> None:
    assert [place for module, tree in modules() for place in old_words(module, tree)] == []


def test_no_identifier_of_the_benchmarks_is_an_old_word() -> None:
    found = [place for module, tree in parsed("benchmarks") for place in old_words(module, tree)]
    assert {(module, name) for module, _, name in found} == OF_BENCHMARKS


def test_no_identifier_of_the_tests_is_an_old_word() -> None:
    assert [place for module, tree in parsed("tests") for place in old_words_of_tests(module, tree)] == []


@pytest.mark.parametrize("planted", ["told = 1", "def check_kept(): ...", "given = 1", "room = 1"])
def test_a_planted_old_word_of_tests_is_found(planted: str) -> None:
    assert old_words_of_tests("tests.planted", ast.parse(planted)) != []


@pytest.mark.parametrize(
    ("module", "plain"),
    [
        ("tests.plain", "def test_what_is_told_is_kept(): ..."),
        ("tests.plain", "from hypothesis import given"),
        ("tests.test_rooms", "room = 1"),
    ],
)
def test_sentences_and_foreign_names_of_tests_are_left_alone(module: str, plain: str) -> None:
    assert old_words_of_tests(module, ast.parse(plain)) == []


def test_no_docstring_begins_with_a_question() -> None:
    assert [place for module, tree in modules() for place in questions(module, tree)] == []


def test_no_first_line_of_a_docstring_is_long() -> None:
    found = [(module, line, first) for module, tree in modules() for line, first in first_lines(tree)]
    assert [place for place in found if len(place[2]) > LONGEST] == []


@pytest.mark.parametrize(
    "planted",
    [
        "class Voice: ...",
        "def told(): ...",
        "def f(kept): ...",
        "self._drawn = 1",
        "class C:\n  given: int",
        "def take(): ...",
        "def is_spelt(): ...",
        "KEPT_STEPS = 1",
        "class OfficeSettings: ...",
        "import rendering as desk",
        "from tercet.agents import room",
        "try: ...\nexcept OSError as late: ...",
        "match x:\n  case y as ending: ...",
        "match x:\n  case [*taken]: ...",
    ],
)
def test_a_planted_old_word_is_found(planted: str) -> None:
    assert old_words("planted", ast.parse(planted)) != []


def test_a_module_of_an_old_word_is_found() -> None:
    assert old_words("agents.core.desk", ast.parse("")) != []


@pytest.mark.parametrize("plain", ["ids.take(rows)", "print(f(kept=1))", "def take_snapshot(): ...", "stalled = 1"])
def test_foreign_names_and_parts_of_a_word_are_left_alone(plain: str) -> None:
    assert old_words("plain", ast.parse(plain)) == []


def test_each_borrowed_name_is_still_there() -> None:
    found = {(module, name) for module, tree in modules() for _, name in identifiers(module, tree)}
    assert found >= BORROWED


@pytest.mark.parametrize(
    "planted",
    ['"""Who is to blame."""', 'class C:\n  """What: it is."""', 'async def f():\n  """Whether it is there."""'],
)
def test_a_planted_question_is_found(planted: str) -> None:
    assert questions("planted", ast.parse(planted)) != []
