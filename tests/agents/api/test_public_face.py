"""What `import tercet` offers: each name is there, says what it does, and its examples are true."""

import doctest
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import structlog

import tercet
from tests.test_rooms import ROOT

EXAMPLES = [
    test
    for name in tercet.__all__
    for test in doctest.DocTestFinder(recurse=False).find(getattr(tercet, name), f"tercet.{name}", module=False)
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_of_docstrings_are_true(example: doctest.DocTest, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()  # as in a program that has not set it up
    failed = doctest.DocTestRunner().run(example).failed
    assert not failed, capsys.readouterr().out


def test_what_needs_no_agent_has_an_example() -> None:
    names = {example.name.removeprefix("tercet.") for example in EXAMPLES}
    assert {"Job", "Prediction", "simulate", "JointClassifier", "JointRegressor"} <= names


def test_each_public_name_is_listed_typed_and_loaded_late() -> None:
    """What a type checker sees is what there is, and no module is loaded before somebody asks."""
    assert sorted(tercet.__all__) == sorted(tercet._HOMES)
    assert {*tercet.__all__} <= {*dir(tercet)}
    for name, home in tercet._HOMES.items():
        source = (ROOT / "tercet" / "__init__.py").read_text(encoding="utf-8")
        assert f"from tercet.{home} import " in source, name
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        tercet.Nobody  # noqa: B018


def test_a_job_can_be_made_without_what_trains_it() -> None:
    """And the import alone loads nothing."""
    script = """
        import sys, tercet
        before = {name for name in sys.modules if name.startswith("tercet.")}
        tercet.Job, tercet.Party, tercet.TercetError
        heavy = {"numba", "scipy", "sklearn", "matplotlib"} & {*sys.modules}
        print(before, heavy)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == "set() set()"


def test_the_page_about_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the parts that need agents, which `test_party` and `test_rehearsal` run."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        if not {"tercet.Party", "tercet.Rehearsal"} & {*re.findall(r"tercet\.\w+", block)}:
            exec(compile(block, "docs/python.md", "exec"), names)
    assert "report.html" in {path.name for path in tmp_path.iterdir()}


def blocks(page: str) -> list[str]:
    """The Python of a document."""
    return [part.partition("```")[0] for part in page.split("```python\n")[1:]]
