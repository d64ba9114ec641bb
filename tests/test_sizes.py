"""Product code comes in pieces that a reader can take in: no long function, and no long class.

`tests/test_rooms.py` counts the files of a room.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.test_rooms import ROOT, sources

MOST_LINES = {"function": 60, "class": 300}


def definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str, int]]:
    """Find every class and function of a module: its name, its kind and its lines, decorators too."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                yield f"{prefix}.{node.name}", kind, (node.end_lineno or first) - first + 1


def too_long(module: str, source: str) -> dict[str, int]:
    """Find the definitions of a module that are over the limits, and their lines."""
    found = definitions(ast.parse(source).body, module)
    return {name: lines for name, kind, lines in found if lines > MOST_LINES[kind]}


def all_sources() -> dict[str, str]:
    """Read every module of the product, those of the public package too."""
    public = {f"tercet.{path.stem}": path.read_text("utf-8") for path in (ROOT / "tercet").glob("*.py")}
    return sources() | public


def test_no_function_and_no_class_is_too_long() -> None:
    assert {
        name: lines for module, text in all_sources().items() for name, lines in too_long(module, text).items()
    } == {}


@pytest.mark.parametrize("lines", [59, 60])
@pytest.mark.parametrize("head", ["def f():", "async def f():", "class C:\n    def f(self):"])
def test_a_planted_long_function_is_found(head: str, lines: int) -> None:
    """Of 60 lines it passes, of 61 it does not; `lines` are those of its body."""
    margin = "    " * (1 + head.count("    "))
    assert (too_long("m", f"{head}\n" + f"{margin}x = 1\n" * lines) == {}) == (lines == MOST_LINES["function"] - 1)


@pytest.mark.parametrize("lines", [299, 300])
def test_a_planted_long_class_is_found(lines: int) -> None:
    assert (too_long("m", "class C:\n" + "    x = 1\n" * lines) == {}) == (lines == MOST_LINES["class"] - 1)
