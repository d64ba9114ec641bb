"""Every code that the source has is in docs/errors.md with cause, remedy and who can mend it, and no other is."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.core import error_codes
from tercet.agents.core.shipped_files import shipped
from tercet.schemas.files.invalid import Invalid
from tests.test_rooms import PACKAGES, ROOT

CODE = re.compile(r"[a-z]+(\.[a-z-]+)+")
MAKERS = {"JobProblem": ""}  # what is called with a code first, and what it puts before it
OF_POLICY = {"_refusal": "policy."}  # beside them, in agents/policy/job.py
PASSED_ON = re.compile(r"(problem|self|failure|found)\.code|code")  # of an error that was made elsewhere


def calls(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """Every expression that is a code, and the prefix that its maker gives it."""
    makers = MAKERS | (OF_POLICY if path.parts[-2:] == ("policy", "job.py") else {})
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        yield from (("", keyword.value) for keyword in node.keywords if keyword.arg == "code")
        if name in makers and node.args:
            yield makers[name], node.args[0]


def codes_in(path: Path) -> Iterator[str]:
    """The codes of a file; one that cannot be read off the source is told as a failure."""
    for prefix, code in calls(path):
        found = [
            node.value for node in ast.walk(code) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        if isinstance(code, ast.JoinedStr) and found == ["policy."]:
            continue  # `_refusal` itself
        assert found or PASSED_ON.fullmatch(ast.unparse(code)), f"{path}: write codes as they are: {ast.unparse(code)}"
        yield from (prefix + text for text in found)


def used() -> set[str]:
    """Every code of the source."""
    return {code for package in PACKAGES for path in (ROOT / package).rglob("*.py") for code in codes_in(path)}


def test_the_document_has_the_codes_of_the_source_and_no_others() -> None:
    """A code without an entry tells nobody what to do; an entry without a code tells of what cannot happen."""
    found = used()
    assert all(CODE.fullmatch(code) for code in found)
    assert sorted(found - error_codes.all_codes().keys()) == []
    assert sorted(error_codes.all_codes().keys() - found) == []


def test_every_entry_says_cause_remedy_and_who_can_mend_it() -> None:
    """In alphabetical order, each code once."""
    rows = error_codes.read((shipped("docs") / "errors.md").read_text(encoding="utf-8"))
    assert [row.code for row in rows] == sorted({row.code for row in rows})
    assert not [row.code for row in rows if not (row.cause and row.remedy and row.mender)]


def test_an_entry_is_read_over_its_line_ends_and_without_a_part_it_has_an_empty_text() -> None:
    """Or `test_every_entry_says_cause_remedy_and_who_can_mend_it` could not fail."""
    text = (
        "### `made.up`\n\n- **Cause:** one\n  - two.\n- **Who can mend it:** all.\n\n## Else\n\n- **Remedy:** none.\n"
    )
    assert error_codes.read(text) == [error_codes.Code("made.up", "one - two", "", "all")]


def test_a_code_that_is_made_up_is_found(tmp_path: Path) -> None:
    """By name, by keyword, in a choice; and one that hides in a variable is told."""
    path = tmp_path / "made_up.py"
    path.write_text("JobProblem('made.up', me, 'x')\nFailure(code='made.too' if x else 'made.also')\n")
    assert set(codes_in(path)) == {"made.up", "made.too", "made.also"}
    path.write_text("JobProblem(somewhere[0], me, 'x')")
    with pytest.raises(AssertionError, match="write codes as they are"):
        list(codes_in(path))


def test_explain_prints_the_row_of_a_code() -> None:
    """For people and for scripts."""
    done = CliRunner().invoke(app, ["explain", "table.unusable"])
    assert done.exit_code == 0
    for line in ("cause: the culprit's table", "remedy: the detail", "who can mend it: the culprit"):
        assert line in done.output
    done = CliRunner().invoke(app, ["explain", "table.unusable", "--format", "json"])
    assert json.loads(done.output)["code"] == "table.unusable"


def test_explain_of_an_unknown_code_names_those_that_are_like_it() -> None:
    """So that a slip of the pen is soon mended."""
    done = CliRunner().invoke(app, ["explain", "table.unusual"])
    assert done.exit_code == 3
    assert "table.unusable" in done.output
    with pytest.raises(Invalid, match=r"agent\.busy"):
        error_codes.explain_code("nothing")
