"""The rooms' imports go one way: what is said and what is computed know nothing of how it travels and who decides."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "mpc": set(),
    "tables": {"schemas"},
    "broker": {"schemas"},
    "agents": {"schemas", "mpc", "tables", "broker"},
}


def imported(path: Path) -> set[str]:
    """The full names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    """And no room imports tests, benchmarks or examples."""
    ours = {*MAY_IMPORT, "tests", "benchmarks", "examples"} - {room} - MAY_IMPORT[room]
    for path in sorted((ROOT / room).rglob("*.py")):
        assert {name.partition(".")[0] for name in imported(path)} & ours == set(), path


def test_the_oracle_imports_nothing_of_the_protocol() -> None:
    """Or a mistake there would be its own judge."""
    protocol = {"linear", "masks", "order", "data_party", "helper", "loss", "scoring", "rows"}
    seen, new = set(), {"reference"}
    while new:
        seen |= new
        names = {name for module in new for name in imported(ROOT / "mpc" / f"{module}.py")}
        new = {name.split(".")[1] for name in names if name.startswith("mpc.")} - seen
    assert seen & protocol == set()


def test_the_maths_does_no_io_and_nothing_of_ours_is_pickled() -> None:
    """Threads, loops and sockets belong to agents and broker."""
    for path in sorted((ROOT / "mpc").glob("*.py")):
        assert imported(path).isdisjoint({"asyncio", "socket", "threading", "logging", "structlog"}), path
    for room in MAY_IMPORT:
        for path in sorted((ROOT / room).rglob("*.py")):
            assert not {name for name in imported(path) if name.partition(".")[0] in {"pickle", "dill", "joblib"}}, path
