"""docs/glossary.md: terms in alphabetical order, and below them an index of classes and message kinds from the code.

`python -m tests.test_glossary` (or `make glossary`) writes the index anew.
"""

import ast
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator

from tercet.schemas.messages.kinds import Message
from tests.test_rooms import ROOMS, ROOT, room_of, sources

GLOSSARY = ROOT / "docs" / "glossary.md"
MARKER = "<!-- `make glossary` writes what follows. -->\n"
WIDTH = 100


def item(text: str) -> str:
    """A line of a list, wrapped as the documents are."""
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def classes(source: str) -> Iterator[tuple[str, str]]:
    """Public classes of a module, by name, with the first line of their docstrings."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, (ast.get_docstring(node) or "").partition("\n")[0]


def index() -> str:
    """The part of the glossary that follows from the code."""
    lines = ["", "## Classes by room", ""]
    found = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
    for module, source in sources().items():
        found[room_of(module)] += classes(source)
    for package, rooms in ROOMS.items():
        for room in rooms:
            if there := sorted(found[package, room]):
                lines += [f"### {package}/{room}", "", *(item(f"`{name}`: {says}") for name, says in there), ""]
    kinds = defaultdict[str, list[str]](list)
    for model in Message.__subclasses__():
        kinds[model.kind].append(f"`{model.__name__}`")
    lines += ["## Kinds of messages", ""]
    lines += [item(f"{kind}: {', '.join(sorted(models))}") for kind, models in sorted(kinds.items())]
    return "\n".join(lines) + "\n"


def terms() -> list[str]:
    """The terms that are explained, in the order of the document."""
    return re.findall(r"^- \*\*(.+?)\*\*: ", GLOSSARY.read_text(encoding="utf-8").partition(MARKER)[0], re.MULTILINE)


def test_terms_are_in_alphabetical_order_and_each_is_there_once() -> None:
    assert terms() == sorted({*terms()}, key=str.lower)
    assert len(terms()) >= 50


def test_the_index_has_every_public_class_and_every_kind_of_message() -> None:
    """After a change of either, run `make glossary`."""
    assert GLOSSARY.read_text(encoding="utf-8").partition(MARKER)[2] == index()


def test_a_class_without_underscore_is_public() -> None:
    source = 'class Public:\n    """First line.\n\n    More."""\nclass _Private: ...\n'
    assert [*classes(source)] == [("Public", "First line.")]


if __name__ == "__main__":
    written = GLOSSARY.read_text(encoding="utf-8").partition(MARKER)[0]
    GLOSSARY.write_text(written + MARKER + index(), encoding="utf-8")
