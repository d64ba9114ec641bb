"""Defines a finding of `tercet doctor`: one line for each check, and the remedy.

No finding holds a key, a password or a value of a table.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Names the results of a check."""

    OK = "ok"
    WARN = "warn"  # it works, and should be mended all the same
    FAIL = "fail"  # jobs cannot run like this


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds the result of one check; only a good one needs no hint."""

    check: str
    outcome: Outcome
    said: str
    hint: str = ""

    def __post_init__(self) -> None:
        if self.outcome is not Outcome.OK and not self.hint:
            raise ValueError(f"{self.check}: a finding that is not ok says what to do")


def ok(check: str, said: str) -> Finding:
    """Make a finding that needs nothing done."""
    return Finding(check, Outcome.OK, said)


def warn(check: str, said: str, hint: str) -> Finding:
    """Make a finding to be mended some day."""
    return Finding(check, Outcome.WARN, said, hint)


def fail(check: str, said: str, hint: str) -> Finding:
    """Make a finding to be mended before a job can run."""
    return Finding(check, Outcome.FAIL, said, hint)
