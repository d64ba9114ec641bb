"""Imports go downward only: between packages, between rooms of a package, and between modules of a room."""

import ast
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PREFIX = "tercet."  # of every module's full name
MOST_FILES = 15  # of a room
PACKAGES = {
    "schemas": set[str](),
    "mpc": set[str](),
    "tables": {"schemas"},
    "broker": {"schemas"},
    "agents": {"schemas", "mpc", "tables", "broker"},
}
# For each room the rooms of its own package that it may import.
ROOMS: dict[str, dict[str, set[str]]] = {
    "agents": {
        "api": {"selection", "simulation", "statistics", "jobs", "runs", "reports", "alignment", "access", "scorecards",
                "models", "evaluation", "core"},
        "cli": {"selection", "simulation", "statistics", "page", "daemon", "serving", "jobs", "session", "doctor",
                "policy", "access", "scorecards", "models", "messaging", "evaluation", "kit", "core"},
        "selection": {"simulation", "reports", "statistics", "policy", "access", "models", "core"},
        "doctor": {"page", "daemon", "access"},
        "page": {"daemon", "jobs", "runs", "session", "policy", "access", "core"},
        "simulation": {"daemon", "statistics", "jobs", "runs", "roles", "scoring", "training", "alignment", "session",
                       "models", "messaging", "core"},
        "daemon": {"serving", "jobs", "runs", "attempts", "roles", "session", "policy", "access", "messaging", "core"},
        "serving": {"alignment", "policy", "access", "models", "messaging", "core"},
        "jobs": {"runs", "machine", "attempts", "session", "policy", "models", "messaging", "core"},
        "runs": {"machine", "attempts", "statistics", "reports", "roles", "alignment", "session", "policy", "access",
                 "messaging", "core"},
        "machine": {"core"},
        "attempts": {"statistics", "roles", "scoring", "protocol", "session", "policy", "messaging", "core"},
        "reports": {"statistics", "roles", "session", "policy", "scorecards", "models", "evaluation", "core"},
        "statistics": {"roles", "alignment", "protocol", "session", "policy", "core"},
        "roles": {"training", "scoring", "alignment", "protocol", "session", "policy", "models", "messaging",
                  "evaluation", "core"},
        "training": {"scoring", "protocol", "session", "messaging", "evaluation", "core"},
        "scoring": {"protocol", "session", "messaging", "core"},
        "alignment": {"session", "policy", "access", "core"},
        "protocol": {"session", "models", "messaging", "core"},
        "session": {"policy", "messaging"},
        "policy": {"models", "messaging", "core"},
        "access": {"messaging", "core"},
        "scorecards": {"models", "core"},
        "models": {"evaluation", "core"},
        "messaging": {"core"},
        "evaluation": set(),
        "kit": {"core"},
        "core": set(),
    },
    "mpc": {
        "scoring": {"blind", "dealing", "network", "linear", "interface", "randomness", "plan", "functions",
                    "arithmetic"},
        "statistics": {"interface", "randomness", "plan", "arithmetic"},
        "blind": {"dealing", "network", "linear", "interface", "randomness", "plan", "functions", "arithmetic"},
        "dealing": {"network", "linear", "interface", "randomness", "plan", "functions", "arithmetic"},
        "network": {"linear", "interface", "randomness", "plan", "arithmetic"},
        "linear": {"interface", "randomness", "plan", "functions", "arithmetic"},
        "interface": {"arithmetic"},
        "randomness": {"plan", "arithmetic"},
        "reference": {"plan", "functions", "arithmetic"},
        "plan": {"functions", "arithmetic"},
        "functions": {"arithmetic"},
        "arithmetic": set(),
    },
    "broker": {
        "rabbitmq": {"interface"},
        "memory": {"interface"},
        "sealing": set(),
        "interface": set(),
    },
    "tables": {
        "snapshot": {"encoding", "matching", "sources", "core"},
        "encoding": {"binning", "matching", "core"},
        "binning": {"core"},
        "matching": {"core"},
        "sources": {"core"},
        "core": set(),
    },
    "schemas": {
        "messages": {"files", "core"},
        "files": {"core"},
        "core": set(),
    },
}  # fmt: skip
OUTSIDE = {"tests", "benchmarks", "examples"}


def sources() -> dict[str, str]:
    """The text of every module by its name, without the prefix."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache  # the same files for every test
def imported(source: str) -> list[str]:
    """The full names of all modules, or names in modules, that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "import by the full name"
            found += [f"{node.module}.{name.name}" for name in node.names]
    return found


def edges(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Which module imports which others of ours."""
    found: dict[str, set[str]] = {}
    for module, source in modules.items():
        names = {name.removeprefix(PREFIX) for name in imported(source) if name.startswith(PREFIX)}
        found[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & {*modules}
    return found


def room_of(module: str) -> tuple[str, str]:
    """Package and room; the room of a package's own `__init__` and `__main__` is empty."""
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return package, room if room in ROOMS[package] else ""


def breaches(modules: Mapping[str, str]) -> list[str]:
    """Imports that the tables do not allow."""
    found = []
    for module, targets in edges(modules).items():
        package, room = room_of(module)
        for target in targets:
            other, its_room = room_of(target)
            allowed = other in PACKAGES[package] if other != package else not room or its_room in ROOMS[package][room]
            if not allowed and (other, its_room) != (package, room):
                found.append(f"{module} imports {target}")
    return found


def test_imports_go_downward() -> None:
    assert breaches(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("agents.core.problems", "from {}agents.cli.app import main"),
        ("agents.messaging.inbox", "import {}agents.session.context"),
        ("mpc.arithmetic.ring", "from {}mpc.plan import planner"),
        ("broker.interface.base", "from {}agents.core import problems"),
        ("schemas.core.strict", "from {}schemas.messages.kinds import Ready"),
    ],
)
def test_a_planted_import_upward_is_found(module: str, line: str) -> None:
    modules = sources()
    planted = f"{modules[module]}\n\ndef late():\n    {line.format(PREFIX)}\n"
    assert breaches(modules | {module: planted}) != []


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Nor rooms, as the tables have them."""
    graph = edges(sources())
    assert list(TopologicalSorter(graph).static_order())
    for rooms in ROOMS.values():
        assert list(TopologicalSorter(rooms).static_order())
    with pytest.raises(CycleError):
        TopologicalSorter(graph | {"mpc.arithmetic.kernels": {"mpc.arithmetic.ring"}}).prepare()


def test_every_file_is_in_a_room_and_every_room_can_be_overlooked() -> None:
    """A package's own folder has no other modules, and each room's `__init__` says what the room holds."""
    modules = sources()
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    for module, source in modules.items():
        package, room = room_of(module)
        if room and module != f"{package}.{room}":
            sizes[package, room] += 1
        else:
            assert room or module in {package, f"{package}.__main__"}, module
            assert ast.get_docstring(ast.parse(source)), module
    assert {*sizes} == {(package, room) for package, rooms in ROOMS.items() for room in rooms}
    assert {room: size for room, size in sizes.items() if size > MOST_FILES} == {}


def test_no_module_imports_tests_benchmarks_or_examples() -> None:
    for module, source in sources().items():
        assert {name.partition(".")[0] for name in imported(source)} & OUTSIDE == set(), module


def test_the_oracle_imports_nothing_of_the_protocol() -> None:
    """Or a mistake there would be its own judge."""
    graph = edges(sources())
    seen, new = set[str](), {module for module in graph if module.startswith("mpc.reference")}
    while new:
        seen |= new
        new = {target for module in new for target in graph[module]} - seen
    assert {room_of(module)[1] for module in seen} <= {"reference", "plan", "functions", "arithmetic"}


def test_the_maths_does_no_io_and_nothing_of_ours_is_pickled() -> None:
    """Threads, loops and sockets belong to agents and broker."""
    for module, source in sources().items():
        names = {name.partition(".")[0] for name in imported(source)}
        assert not names & {"pickle", "dill", "joblib"}, module
        if module.startswith("mpc."):
            assert not names & {"asyncio", "socket", "threading", "logging", "structlog"}, module


def test_the_architecture_document_lists_every_room_in_its_own_words() -> None:
    """Each room's `__init__` says what the room holds; the document repeats its first line."""
    document, modules = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), sources()
    for package, rooms in ROOMS.items():
        for room in rooms:
            says = (ast.get_docstring(ast.parse(modules[f"{package}.{room}"])) or "").partition("\n")[0]
            assert f"| `{package}/{room}/` | {says} |" in document
