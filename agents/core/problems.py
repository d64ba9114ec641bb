"""Defines the problems that end a job early, each with its culprit.

`reason` is for every party of the job and holds no data; `detail` is for this party's own log and console.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from tercet.schemas.messages.kinds import Failure

P = ParamSpec("P")

BROKER = "broker"  # the culprit when nobody is: something was lost between two parties that both wait
UNDECIDED = "undecided"  # the culprit is one of several parties, and nothing tells which; the reason names them
NO_PARTIES = frozenset({BROKER, UNDECIDED})  # that a failure may name beside the parties of a job


@dataclass
class JobProblem(Exception):
    """Ends a job, with code, culprit and reason."""

    code: str
    culprit: str
    reason: str
    detail: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.culprit}: {self.reason}"

    def failure(self, stage: str, *, verdict: bool) -> "Failure":
        """Make the message that tells the other parties."""
        from tercet.schemas.messages.kinds import Failure  # noqa: PLC0415 - all of pydantic, which few commands need

        return Failure(code=self.code, stage=stage, culprit=self.culprit, reason=self.reason[:2000], verdict=verdict)


@dataclass
class DeadlinePassed(Exception):
    """Says that a named deadline has passed while waiting for these parties."""

    deadline: str
    stage: str  # what it was waiting for
    waits_for: tuple[str, ...]


def collect_problem(check: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> list[JobProblem]:
    """Run a check, and return the problem that it raises, if any."""
    try:
        check(*args, **kwargs)
    except JobProblem as problem:
        return [problem]
    return []


def join_problems(problems: Sequence[JobProblem]) -> JobProblem:
    """Join one or more problems, under the first one's code and culprit."""
    problem = problems[0]
    reasons, details = [
        "; also: ".join(dict.fromkeys(filter(None, said)))
        for said in ((one.reason for one in problems), (one.detail for one in problems))
    ]
    return JobProblem(problem.code, problem.culprit, reasons, details or None)
