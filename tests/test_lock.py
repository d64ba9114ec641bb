"""The lock holds all that is asked for, on every Python, and names nobody's registry."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "constraints.txt").read_text().splitlines()
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def locked(python: str) -> dict[str, Version]:
    """The version of each package, by its name, for Linux and one Python."""
    machine = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    found: dict[str, Version] = {}
    for line in (Requirement(line) for line in LOCK if not line.startswith("#")):
        if line.marker is None or line.marker.evaluate(machine):
            (only,) = line.specifier
            assert only.operator == "==", line
            assert found.setdefault(line.name, Version(only.version)) == Version(only.version), line
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_the_program_and_its_tests_ask_for_is_locked(python: str):
    """A dependency that is new, or asked for anew, needs `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = locked(python)
    for asked in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["test"]]):
        assert asked.name in versions, f"make lock: {asked}"
        assert versions[asked.name] in asked.specifier, f"make lock: {asked}"


def test_the_lock_names_versions_alone():
    """No address or folder of the machine that wrote it, and the command that writes it anew."""
    assert not [line for line in LOCK if re.search("://|@|^-|/", line)]
    assert any("make lock" in line for line in LOCK[:3])
