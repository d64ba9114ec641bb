"""Speaks to a party's running agent from Python: submits, watches, approves, reads results.

It says what the command line says, by the same ways. Each call is a conversation of its own.
"""

import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tercet.agents.access.console_client import ConsoleClient
from tercet.agents.access.conversation import (
    cancel_job,
    check_answer,
    follow_job,
    is_over,
    open_conversation,
    own_account,
)
from tercet.agents.api.errors import WorthlessModel, raise_if_failed
from tercet.agents.api.jobs import Job, Prediction, Statistics
from tercet.agents.api.logs import quieten_logs
from tercet.agents.core.event_loop import background_loop
from tercet.schemas.files.settings import Settings, read_settings
from tercet.schemas.messages.console import JobStatus, Status

if TYPE_CHECKING:
    from tercet.agents.api.result import Result
    from tercet.agents.api.selection import SelectedColumns

T = TypeVar("T")


class Party:
    """Speaks for one party to its running agent.

    It does so over the agent's socket, or else through the broker.
    A job is an id, or the handle that `submit` returns. Everywhere a name of the person's account goes along for the
    agent's audit log.

        shop = tercet.Party("shop.toml")
        running = shop.submit(tercet.Job.from_toml("job.toml"))
        for status in running.watch():
            print(status.state, status.epoch, status.step)
        running.result().metrics

    Everything here may raise:

        Invalid: the settings are wrong, or the agent says that it cannot be; the text says why.
        NoAgent: the agent does not answer.
        TercetError: the key cannot be used, or the broker is not there.
    """

    def __init__(self, settings: Path | str, *, read: Callable[[Path], Settings] = read_settings) -> None:
        """`settings` is the party's settings file, which its agent has, too.

        `read` is for rehearsals.
        """
        self._path = Path(settings)
        self._settings = read(self._path)

    @property
    def name(self) -> str:
        """The party's name."""
        return self._settings.party

    def submit(self, job: Job | Prediction | Statistics, *, again: bool = False) -> "JobHandle":
        """Ask every party of the job to run it.

        A job that is known already is only looked up, and a warning says so; `again` makes a new run of it.
        """
        description = job.description.with_new_id() if again else job.description
        answer = self._ask(lambda console: console.submit(description, own_account()))
        if answer.note is not None:
            warnings.warn(f"{answer.note}, and so does submit(job, again=True)", stacklevel=2)
        return JobHandle(answer.jobs[0].job, self)

    def list(self) -> tuple[JobStatus, ...]:
        """List all jobs that the agent knows, the latest first, without their histories."""
        return self._ask(lambda console: console.query()).jobs

    def status(self, job: "str | JobHandle") -> JobStatus:
        """Tell a job's state at every party, and how it ended."""
        return self._ask(lambda console: console.query(_id(job))).jobs[0]

    def watch(self, job: "str | JobHandle") -> "Watch":
        """Follow a job to its end, by `for` or by `async for`.

        There is a status twice a second, and the last one; where the settings ask for a page, it is there then.
        """
        return Watch(self._settings, _id(job))

    def reveals(self, job: "str | JobHandle") -> tuple[str, ...]:
        """Tell who learns what from a job."""
        return self._ask(lambda console: console.reveals(_id(job))).reveals

    def approve(self, job: "str | JobHandle") -> JobStatus:
        """Approve a job that waits for it here; `reveals` tells what it discloses."""
        return self._decide(job, approve=True)

    def refuse(self, job: "str | JobHandle", why: str = "") -> JobStatus:
        """Refuse a job that waits for an approval; every party is told why."""
        return self._decide(job, why, approve=False)

    def cancel(self, job: "str | JobHandle") -> JobStatus:
        """End a job at every party, and wait for that."""
        return self._run(lambda console: cancel_job(console, _id(job)))

    def resume(self, job: "str | JobHandle") -> JobStatus:
        """Take up a failed job again at every party, from the last checkpoint that all have."""
        return self._ask(lambda console: console.resume(_id(job))).jobs[0]

    def results(self, job: "str | JobHandle") -> "Result":
        """Wait for a job's end, and return what it gave this party.

        A model that is no better than a constant is warned of.

        Raises:
            JobFailed: it failed, or was cancelled.
        """
        from tercet.agents.api.result import result_of_status  # noqa: PLC0415 - scikit-learn, which takes a second

        status = self.status(job)
        if not is_over(status):
            *_, status = self.watch(job)
        raise_if_failed(status)
        if status.worthless:
            warnings.warn(status.worthless, WorthlessModel, stacklevel=2)
        return result_of_status(status, self._settings.state)

    def select(self, path: Path | str, *, out: Path | str | None = None) -> "SelectedColumns":
        """Select columns by FILE.toml, job by job through the agent; docs/selection.md explains it.

        `out` is the folder of trail and page, by default named after the file. A repeated call goes on.
        """
        from tercet.agents.api.selection import SelectedColumns, open_selection  # noqa: PLC0415 - all of an agent
        from tercet.agents.selection.jobs import by_agent  # noqa: PLC0415
        from tercet.agents.selection.parties import label_settings  # noqa: PLC0415
        from tercet.agents.selection.select import ColumnSelection  # noqa: PLC0415

        file, folder = open_selection(path, out)
        own = label_settings(file, self._settings)
        selection = ColumnSelection.prepare(file, [own], folder)
        trail = self._run(lambda console: selection.run(by_agent(console, own.party)))
        return SelectedColumns.of(trail, folder)

    def __repr__(self) -> str:
        return f"Party({self.name!r}, settings {str(self._path)!r})"

    def _decide(self, job: "str | JobHandle", why: str = "", *, approve: bool) -> JobStatus:
        who = own_account()
        return self._ask(lambda console: console.decide(_id(job), approve=approve, who=who, why=why[:1000])).jobs[0]

    def _ask(self, ask: Callable[[ConsoleClient], Awaitable[Status]]) -> Status:
        return check_answer(self._run(ask))

    def _run(self, say: Callable[[ConsoleClient], Awaitable[T]]) -> T:
        async def converse() -> T:
            async with _conversation(self._settings) as console:
                return await say(console)

        with background_loop() as run:
            return run(converse())


@dataclass(frozen=True, slots=True)
class JobHandle:
    """Stands for a job that a party has submitted."""

    id: str
    party: Party = field(repr=False)

    def status(self) -> JobStatus:
        """See `Party.status`."""
        return self.party.status(self)

    def watch(self) -> "Watch":
        """See `Party.watch`."""
        return self.party.watch(self)

    def cancel(self) -> JobStatus:
        """See `Party.cancel`."""
        return self.party.cancel(self)

    def result(self) -> "Result":
        """See `Party.results`."""
        return self.party.results(self)


class Watch:
    """Iterates over a job's status to its end, by `for` and by `async for`, each time anew."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings, self._job = settings, job

    async def __aiter__(self) -> AsyncIterator[JobStatus]:
        async with _conversation(self._settings) as console:
            async for status in follow_job(console, self._job):
                yield status

    def __iter__(self) -> Iterator[JobStatus]:
        statuses = self.__aiter__()

        async def following() -> JobStatus | None:
            return await anext(statuses, None)

        with background_loop() as run:
            while (status := run(following())) is not None:
                yield status

    def __repr__(self) -> str:
        return f"Watch({self._job!r})"


def _id(job: "str | JobHandle") -> str:
    return job if isinstance(job, str) else job.id


def _conversation(settings: Settings) -> AbstractAsyncContextManager[ConsoleClient]:
    """Open one; key and login stay in the environment, which is the caller's."""
    return open_conversation(settings, environment=dict(os.environ), before_broker=quieten_logs)
