"""A quiet run of the tests prints one page, however many tests there are."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import DOTS, PASSED, SESSION, pytest_report_teststatus


def printed(tests: int, verbosity: int = -1, **report: Any) -> str:
    """What that many tests print that end alike: all that is not the terminal's own to say."""
    stash = pytest.Stash()
    session: Any = SimpleNamespace(testscollected=tests)
    stash[PASSED], stash[SESSION] = 0, session
    config: Any = SimpleNamespace(stash=stash, get_verbosity=lambda: verbosity)
    outcome: Any = SimpleNamespace(**({"when": "call", "passed": True} | report))
    said = [pytest_report_teststatus(outcome, config) for _ in range(tests)]
    return "".join("?" if one is None else one[1] for one in said)


@pytest.mark.parametrize("tests", [1, 59, 60, 61, 4000])
def test_a_quiet_run_has_one_line_of_dots(tests: int):
    """The last one tells that all have passed."""
    assert printed(tests) == "." * DOTS


@pytest.mark.parametrize(
    "others", [{"verbosity": 0}, {"passed": False}, {"when": "setup"}, {"wasxfail": "a known fault"}]
)
def test_all_else_is_said_as_ever(others: dict[str, Any]):
    """Each failure, skip and error has its letter, and each test in a run that is not quiet."""
    assert printed(100, **others) == "?" * 100
