"""What the Dockerfile copies is all that an installation needs: its first stage, replayed without an engine.

No image is made here; docs/operations.md says how that is done where no engine is at hand.
"""

import fnmatch
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def copied() -> list[tuple[list[str], str]]:
    """The sources and the target of each COPY from the checkout, in their order."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copies = [line[1:] for line in lines if line[:1] == ["COPY"] and not line[1].startswith("--from")]
    return [(sources, target) for *sources, target in copies]


def ignored(folder: str, names: list[str]) -> set[str]:
    """What .dockerignore keeps back of a folder that it lets through."""
    patterns = [line.removeprefix("**/") for line in kept_back() if line.startswith("**/")]
    return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}


def kept_back() -> list[str]:
    return [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, filled as the Dockerfile says, made into a wheel, and the wheel unpacked elsewhere."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "installed"))
    for sources, to in copied():
        for name in sources:
            assert f"!{name}" in kept_back(), f".dockerignore keeps {name} from the engine"
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / to, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, source / to)
    subprocess.run([sys.executable, "-c", WHEEL, wheels], cwd=source, check=True, capture_output=True, text=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_all_packages_are_in_the_image_with_the_files_they_read(installed: Path):
    """Modules, pages, documents and the example's tables: nothing that the checkout has is missing."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in setup["packages"]:
        of_package = Path(setup["package-dir"].get(package, package))
        there = {path.name for path in (installed / package.replace(".", "/")).iterdir()}
        patterns = ["*.py", *setup["package-data"]["*"], *setup["package-data"].get(package, [])]
        wanted = {path.name for pattern in patterns for path in (ROOT / of_package).glob(pattern)}
        assert wanted <= there, package


def test_the_installed_program_runs_without_the_checkout(installed: Path, tmp_path: Path):
    """It reads the document on errors and the credit example from where it is installed."""
    code = (
        "import agents, runpy, sys; assert agents.__file__.startswith(sys.path[1]), agents.__file__;"
        "sys.argv = ['tercet', 'explain', 'job.expired']; from agents.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
