"""What the Dockerfile copies is all that an installation needs: its first stage, replayed without an engine.

No image is made here; docs/operations.md says how that is done where no engine is at hand.
"""

import fnmatch
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_rooms import PACKAGES, ROOT

WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def copied() -> list[tuple[list[str], str]]:
    """The sources and the target of each COPY from the checkout, in their order."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copies = [line[1:] for line in lines if line[:1] == ["COPY"] and not line[1].startswith("--from")]
    return [(sources, target) for *sources, target in copies]


def ignored(folder: str, names: list[str]) -> set[str]:
    """What .dockerignore keeps back of a folder that it lets through."""
    patterns = [line.removeprefix("**/") for line in held_back() if line.startswith("**/")]
    return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}


def held_back() -> list[str]:
    return [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, filled as the Dockerfile says, and made into a wheel."""
    source, wheels = (tmp_path_factory.mktemp(name) for name in ("source", "wheels"))
    for sources, to in copied():
        for name in sources:
            assert f"!{name}" in held_back(), f".dockerignore keeps {name} from the engine"
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / to, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, source / to)
    subprocess.run([sys.executable, "-c", WHEEL, wheels], cwd=source, check=True, capture_output=True, text=True)
    (made,) = wheels.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_all_packages_are_in_the_image_with_the_files_they_read(installed: Path):
    """Modules, pages, documents and the example's tables: nothing that the checkout has is missing."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {path.relative_to(installed) for path in installed.rglob("*")}
    wanted = {Path("tercet") / path.relative_to(ROOT) for room in PACKAGES for path in (ROOT / room).rglob("*.py")}
    wanted |= {path.relative_to(ROOT) for path in (ROOT / "tercet").glob("*.py")}
    for package, patterns in setup["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        found = [path for pattern in patterns for path in folder.glob(pattern)]
        assert len(found) >= len(patterns)
        wanted |= {path.relative_to(ROOT) for path in found}
    assert wanted - there == set()


def test_an_environment_gains_nothing_but_tercet(wheel: Path, tmp_path: Path):
    """PyTables, which is imported as `tables`, is what it was."""
    venv.create(tmp_path, with_pip=False)
    python, (site,) = str(tmp_path / "bin" / "python"), tmp_path.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-compile", str(wheel)]
    before = {path.name for path in site.iterdir()}
    subprocess.run(pip, check=True, capture_output=True, text=True)
    gained = {path.name for path in site.iterdir()} - before
    assert {name.partition("-")[0] for name in gained} == {"tercet"}
    assert len(gained) == 2
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    code = "import tercet.tables.core.table; one = __import__('tables'); print(one.__file__, one.File, tercet.__file__)"
    reported = subprocess.run([python, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert reported.endswith(f"{site / 'tercet' / '__init__.py'}\n")
    assert not reported.startswith(str(site))


def test_the_installed_program_runs_without_the_checkout(installed: Path, tmp_path: Path):
    """It reads the document on errors and the credit example from where it is installed."""
    code = (
        "import tercet, sys; assert tercet.__file__.startswith(sys.path[1]), tercet.__file__;"
        "sys.argv = ['tercet', 'explain', 'job.expired']; from tercet.agents.cli.app import main; main()"
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
