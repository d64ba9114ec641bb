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
MULTIPLY = """
import json, sys
import numpy as np
from tercet.mpc.arithmetic import ring
ring.warm_up()
a, b = np.arange(600, dtype=np.uint64).reshape(20, 30), np.arange(300, dtype=np.uint64).reshape(30, 10)
from tercet.mpc.arithmetic import kernels
stats = kernels.multiply.stats
told = {"path": stats.cache_path, "hits": len(stats.cache_hits), "misses": len(stats.cache_misses)}
json.dump(told | {"right": bool((ring.product(a, b) == np.matmul(a, b)).all())}, sys.stdout)
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


def python(code: str, folder: Path, **environment: str) -> str:
    """What a new process prints that has this folder's packages."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    command = [sys.executable, "-W", "error", "-c", code]
    around = keep | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.run(command, cwd=folder, env=around, check=True, capture_output=True, text=True).stdout


def multiplied(folder: Path, **environment: str) -> dict[str, Any]:
    """Where a new process has found its compiled code."""
    reported: dict[str, Any] = json.loads(python(MULTIPLY, folder, **environment))
    assert reported["right"]
    return reported


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """An installed package whose folder takes no cache; a file in its place keeps out the superuser, too.

    Its one kernel is three plain loops: each of the real ones takes a second to compile.
    """
    folder = tmp_path / "installed"
    shutil.copytree(ROOT / "mpc", folder / "tercet" / "mpc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tercet" / "__init__.py", folder / "tercet")
    arithmetic = folder / "tercet" / "mpc" / "arithmetic"
    needed, _, _ = (arithmetic / "kernels.py").read_text().partition("\n\n@njit\n")
    (arithmetic / "kernels.py").write_text(needed + PLAIN)
    (arithmetic / "series_kernels.py").write_text("")
    (arithmetic / "__pycache__").touch()
    return folder


def test_no_command_waits_for_the_compiled_code_before_there_is_something_to_multiply() -> None:
    """Neither the command line nor the mathematics loads numba when imported, nor does a small product."""
    code = """
import sys
import tercet.agents.cli.app, tercet.agents.daemon.agent
import tercet.mpc.linear.data_party, tercet.mpc.linear.helper
import tercet.mpc.arithmetic.ring
import numpy as np
tercet.mpc.arithmetic.ring.product(np.ones((9, 9), np.uint64), np.ones((9, 9), np.uint64))
print("numba" in sys.modules)
tercet.mpc.arithmetic.ring.product(np.ones((512, 100), np.uint64), np.ones((100, 100), np.uint64))
print("numba" in sys.modules)
"""
    assert python(code, ROOT).split() == ["False", "True"]


def test_a_second_start_loads_what_the_first_one_has_compiled(unwritable: Path, tmp_path: Path) -> None:
    """Counted by numba; at home, for a user without rights to the package that an administrator has installed."""
    home = str(tmp_path / "home")
    reported = [multiplied(unwritable, HOME=home) for _ in range(2)]
    assert [(one["hits"], one["misses"]) for one in reported] == [(0, 1), (1, 0)]
    assert Path(reported[0]["path"]).is_relative_to(home)


def test_where_nothing_can_be_written_every_start_compiles(unwritable: Path) -> None:
    """A container with neither a home nor a writable package: slower at the start, and right."""
    assert multiplied(unwritable, HOME="/dev/null")["path"] is None
