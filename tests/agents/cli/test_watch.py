"""`tercet job watch` ends with a job, and names its report, which is written a moment after the job is done."""

from typing import Any, cast

import pytest

from tercet.agents.access.console_client import ConsoleClient
from tercet.agents.access.conversation import POLL_SECONDS, REPORT_SECONDS
from tercet.agents.cli import job
from tercet.schemas.messages.kinds import JobStatus, Status
from tests import virtual_time

FIELDS = dict.fromkeys(("job", "kind", "model", "label", "helper", "submitted"), "x")


def status(state: str, report: str | None = None) -> JobStatus:
    return JobStatus.model_validate(FIELDS | {"parties": (), "state": state, "report": report})


class Agent:
    """Answers with these states in turn, and then with the last one."""

    def __init__(self, *states: JobStatus) -> None:
        self._states = list(states)
        self.asked = 0

    async def query(self, _job: str) -> Status:
        """Give the next one."""
        self.asked += 1
        return Status(jobs=(self._states[min(self.asked, len(self._states)) - 1],))


def watched(*states: JobStatus, has_report: bool = True) -> tuple[JobStatus, int]:
    """The state that the command ends with, and how often it asked."""
    agent = Agent(*states)
    console = cast(ConsoleClient, agent)
    found: Any = virtual_time.run(job._watch(console, "a-01234567", has_report=has_report))
    return found, agent.asked


RUNNING, DONE, REPORTED = status("training"), status("done"), status("done", "state/reports/x.html")


@pytest.mark.parametrize(
    ("states", "asked"),
    [
        ((RUNNING, DONE, DONE, REPORTED), 4),
        ((RUNNING, REPORTED), 2),
        ((RUNNING, status("failed")), 2),
        ((RUNNING, status("cancelled")), 2),
        ((DONE,), 1),  # over before: it has none, and gets none
    ],
)
def test_it_waits_for_the_report_of_a_job_that_it_has_seen_run(states: tuple[JobStatus, ...], asked: int) -> None:
    assert watched(*states) == (states[-1], asked)


def test_it_does_not_wait_for_ever() -> None:
    """The page could not be written, say."""
    found, asked = watched(RUNNING, DONE)
    assert found == DONE
    assert asked == 2 + REPORT_SECONDS / POLL_SECONDS


def test_where_the_settings_want_no_report_it_waits_for_none() -> None:
    assert watched(RUNNING, DONE, REPORTED, has_report=False) == (DONE, 2)
