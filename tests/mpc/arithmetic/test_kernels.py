"""The compiled code: loaded when it is needed and not before, and kept on disk where there is a place for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
STARTS = """
import json, os, sys
import numpy as np
a, b = np.arange(51200, dtype=np.uint64).reshape(512, 100), np.arange(10000, dtype=np.uint64).reshape(100, 100)
starts = []
for home in sys.argv[1:]:
    os.environ["HOME"] = home
    for name in [name for name in sys.modules if name.partition(".")[0] == "tercet"]:
        del sys.modules[name]
    from tercet.mpc.arithmetic import ring
    ring.product(a[:9], b)
    early = "tercet.mpc.arithmetic.kernels" in sys.modules
    right = bool((ring.product(a, b) == np.matmul(a, b)).all())
    stats = sys.modules["tercet.mpc.arithmetic.kernels"].multiply.stats
    counts = {"hits": len(stats.cache_hits), "misses": len(stats.cache_misses)}
    starts.append(counts | {"path": stats.cache_path, "early": early, "right": right})
json.dump(starts, sys.stdout)
"""
PLAIN = """
@compiled(READ, READ, WRITE)
def multiply(a: Words, b: Words, out: Words) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = 0
            for k in range(a.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
"""


def python(code: str, folder: Path, *arguments: str) -> str:
    """What a new process prints that has this folder's packages."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    around = keep | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=around, check=True, capture_output=True, text=True).stdout


def unwritable(parent: Path) -> Path:
    """An installed package whose folder takes no cache; a file in its place keeps out the superuser, too.

    Its one kernel is three plain loops: each of the real ones takes a second to compile.
    """
    folder = parent / "installed"
    shutil.copytree(ROOT / "mpc", folder / "tercet" / "mpc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tercet" / "__init__.py", folder / "tercet")
    arithmetic = folder / "tercet" / "mpc" / "arithmetic"
    needed, _, _ = (arithmetic / "kernels.py").read_text().partition("\n\n@njit\n")
    (arithmetic / "kernels.py").write_text(needed + PLAIN)
    (arithmetic / "series_kernels.py").write_text("")
    (arithmetic / "__pycache__").touch()
    return folder


def test_no_command_waits_for_the_compiled_code_before_there_is_something_to_multiply() -> None:
    """Neither the command line nor the mathematics loads numba when imported; a small product, see below."""
    code = """
import sys
import tercet.agents.cli.app, tercet.agents.daemon.agent
import tercet.mpc.linear.data_party, tercet.mpc.linear.helper
import tercet.mpc.arithmetic.ring
print("numba" in sys.modules)
"""
    assert python(code, ROOT).split() == ["False"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a user who begins twice."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def starts(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Where Tercet has found its compiled code: twice at home, and where there is none.

    It is imported anew each time, in one process: to load numba takes longer than all the rest.
    """
    folder = unwritable(tmp_path_factory.mktemp("package"))
    found: list[dict[str, Any]] = json.loads(python(STARTS, folder, str(home), str(home), "/dev/null"))
    assert all(one["right"] for one in found)
    return found


def test_a_second_start_loads_what_the_first_one_has_compiled(starts: list[dict[str, Any]], home: Path) -> None:
    """Counted by numba; at home, for a user without rights to the package that an administrator has installed."""
    assert [(one["hits"], one["misses"]) for one in starts[:2]] == [(0, 1), (1, 0)]
    assert Path(starts[0]["path"]).is_relative_to(home)


def test_where_nothing_can_be_written_every_start_compiles(starts: list[dict[str, Any]]) -> None:
    """A container with neither a home nor a writable package: slower at the start, and right."""
    assert starts[2]["path"] is None


def test_a_small_product_does_not_wait_for_the_compiled_code(starts: list[dict[str, Any]]) -> None:
    """A large one has loaded it."""
    assert not any(one["early"] for one in starts)
