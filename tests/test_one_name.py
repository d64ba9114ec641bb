"""All that is installed is importable under `tercet`, and under no other name."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import tercet
from tests.test_rooms import PACKAGES, ROOT

LINKS = {name: f"../{name}" for name in (*PACKAGES, "docs")} | {"credit": "../examples/credit"}
FOLDERS = (*PACKAGES, "tercet", "tests", "benchmarks", "examples")
PERHAPS = re.compile(rf"\bfrom\s+(?:{'|'.join(PACKAGES)})\b|\bimport\s[^\n]*(?<!\.)\b(?:{'|'.join(PACKAGES)})\b")
IN_A_STRING = re.compile(rf"\b(?:from|import) (?:{'|'.join(PACKAGES)})\b(?=[.\w]* (?:import\b|as\b)|[.;,\n'\"])")


def other_names(source: str) -> Iterator[str]:
    """What a file imports past `tercet`, also in the programs that it holds as strings."""
    for node in ast.walk(ast.parse(source)) if PERHAPS.search(source) else ():
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.partition(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            yield f"{node.module}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from IN_A_STRING.findall(node.value)


def test_no_module_is_imported_under_a_second_name():
    """Its classes would be two, and its state too."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(__file__):
                assert [*other_names(path.read_text(encoding="utf-8"))] == [], path


def test_a_second_name_is_found_wherever_it_stands():
    for planted in (
        "import agents",
        "def f():\n    from mpc.plan import planner",
        "run('import sys; from agents import x')",
    ):
        assert [*other_names(planted)], planted
    assert not [*other_names("import tercet.agents.core\ntext = 'from agents to brokers'")]


def test_the_package_links_to_the_folders():
    """A checkout without symbolic links (git on Windows: core.symlinks) has files in their place."""
    assert {path.name: str(path.readlink()) for path in (ROOT / "tercet").iterdir() if path.is_symlink()} == LINKS
    assert all((ROOT / "tercet" / name).is_dir() for name in LINKS)


def test_the_public_face_is_loaded_when_it_is_asked_for():
    """A command does not wait for what notebooks need."""
    code = "import sys, tercet; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert all(getattr(tercet, name).__doc__ for name in tercet.__all__)


def test_the_readme_imports_nothing_but_the_public_face():
    lines = re.findall(r"^(?:from|import) tercet.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    for line in lines:
        (node,) = ast.parse(line).body
        assert isinstance(node, ast.ImportFrom)
        assert node.module == "tercet"
        assert {name.name for name in node.names} <= {*tercet.__all__}
