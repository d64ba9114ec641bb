"""`tercet job watch` ends with a job, and names its report, which is written a moment after the job is done."""

from typing import Any, cast

import pytest

from tercet.agents.access.console_client import ConsoleClient
from tercet.agents.cli import job
from tercet.schemas.messages.kinds import JobStatus, Status
from tests import virtual_time
from tests.agents.cli.test_bar import status


class Agent:
    """Answers with these states in turn, and then with the last one."""

    def __init__(self, *states: JobStatus) -> None:
        self._states = list(states)
        self.asked = 0

    async def query(self, _job: str) -> Status:
        """Give the next one."""
        self.asked += 1
        return Status(jobs=(self._states[min(self.asked, len(self._states)) - 1],))


def watched(*states: JobStatus) -> tuple[JobStatus, int]:
    """The state that the command ends with, and how often it asked."""
    agent = Agent(*states)
    console = cast(ConsoleClient, agent)
    found: Any = virtual_time.run(job._watch(console, "a-01234567"))
    return found, agent.asked


RUNNING, FAILED, CANCELLED, UNREPORTED = (status(state=state) for state in ("training", "failed", "cancelled", "done"))
WRITING, DONE = status(state="done", report_due=True), status(state="done", report="x.html")


@pytest.mark.parametrize(
    ("states", "asked"),
    [
        ((RUNNING, WRITING, WRITING, DONE), 4),
        ((WRITING, DONE), 2),
        ((RUNNING, UNREPORTED), 2),  # the settings want no report, or it could not be written
        ((RUNNING, FAILED), 2),
        ((RUNNING, CANCELLED), 2),
        ((DONE,), 1),
    ],
)
def test_it_waits_for_the_report_that_is_being_written(states: tuple[JobStatus, ...], asked: int) -> None:
    assert watched(*states) == (states[-1], asked)
