"""Submits, watches, lists, approves, resumes and cancels jobs through a party's own agent.

Nothing here is needed for a job to go on: killing any of these commands changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.agents.access.conversation import cancel_job, check_answer, follow_job, own_account
from tercet.agents.cli import rendering
from tercet.agents.cli.own_agent import ask_or_recall, talk_to_agent
from tercet.agents.cli.runner import (
    CANNOT_REACH,
    JOB_FAILED,
    WORTHLESS,
    Format,
    FormatOption,
    checked,
    job_of,
    show,
)
from tercet.agents.cli.timeline import timeline
from tercet.agents.core.states import State
from tercet.agents.jobs.job_filter import PAGE, JobFilter, page_of
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.access.console_client import ConsoleClient
    from tercet.schemas.core.trace import StepTrace
    from tercet.schemas.files.job import PredictionJob
    from tercet.schemas.messages.kinds import JobStatus, Pruned, Status

ONE_STATE = f"jobs in this state alone ({', '.join(State)}); may be repeated"
SINCE = "jobs submitted then or later: 2026-11-30, or 2026-11-30T08:00:00"
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]  # as `--since` takes them, by the clock of this machine

jobs = typer.Typer(no_args_is_help=True, help="Submit, watch, approve and cancel jobs through your own party's agent.")

SettingsOption = Annotated[
    Path, typer.Option("--settings", "-s", envvar="TERCET_SETTINGS", help="your party's settings file")
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="the job's id, as `submit` and `list` print it")]


class Kind(StrEnum):
    """Names the kinds of jobs."""

    TRAINING = "training"
    PREDICTION = "prediction"
    STATISTICS = "statistics"


@jobs.command()
def submit(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="the job description")],
    settings: SettingsOption,
    *,
    again: Annotated[bool, typer.Option(help="a new run of a job that was run before")] = False,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Ask every party of the job to run it. A job that is known already is only looked up."""
    description = job_of(job)
    if again:
        description = description.with_new_id()
    status = _ask(settings, lambda console: console.submit(description, own_account()))
    if status.note is not None:
        rendering.remark(status.note)
    show(format, status.jobs[0], rendering.job_details)


@jobs.command()
def watch(job: JobId, settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Follow a job to its end: epoch, step, steps per second, and whom it waits for."""
    last = talk_to_agent(settings, lambda console: _watch(console, job))
    show(format, last, rendering.job_details)
    if last.state != State.DONE:
        raise typer.Exit(JOB_FAILED)
    if last.worthless:
        raise typer.Exit(WORTHLESS)


@jobs.command("list")
def list_(
    settings: SettingsOption,
    *,
    state: Annotated[list[State] | None, typer.Option(metavar="STATE", help=ONE_STATE)] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="jobs of this model, such as mlp; may be repeated")
    ] = None,
    kind: Annotated[list[Kind] | None, typer.Option(metavar="KIND", help="training, prediction or statistics")] = None,
    partner: Annotated[
        list[str] | None, typer.Option(metavar="PARTY", help="jobs with this party; may be repeated")
    ] = None,
    since: Annotated[datetime | None, typer.Option(metavar="TIME", help=SINCE, formats=TIMES)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help=f"jobs on a page; by default {PAGE}, in JSON all")] = None,
    page: Annotated[int, typer.Option(min=1, help="which page")] = 1,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """List the jobs that the agent knows, the latest first."""
    status, why = ask_or_recall(settings)
    found = JobFilter(state or (), model or (), kind or (), partner or (), since).choose(status.jobs)
    shown = page_of(found, page, limit or (PAGE if format is Format.TEXT else None))
    show(format, shown, rendering.job_table)
    if len(shown) < len(found):
        rendering.remark(f"page {page}: {len(shown)} of {len(found)} jobs; see --page and --limit")
    _end(why)


@jobs.command()
def status(job: JobId, settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Show a job's state at every party, and how it ended."""
    status, why = ask_or_recall(settings, job)
    show(format, checked(check_answer, status).jobs[0], rendering.job_details)
    _end(why)


@jobs.command()
def trace(job: JobId, settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Show a median step at this party: the one of median whom."""
    found: StepTrace = checked(_trace_of, _ask(settings, lambda console: console.trace(job)), job)
    show(format, found, timeline)


@jobs.command()
def cancel(job: JobId, settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """End a job at every party."""
    show(format, talk_to_agent(settings, lambda console: cancel_job(console, job)), rendering.job_details)


@jobs.command()
def resume(job: JobId, settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Take up a failed job again at every party, from the last checkpoint that all have."""
    show(format, _ask(settings, lambda console: console.resume(job)).jobs[0], rendering.job_details)


@jobs.command("show")
def show_(job: JobId, settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Show a job's purpose and who learns what from it."""
    found = _ask(settings, lambda console: console.reveals(job)).reveals
    show(format, {"job": job, "reveals": found}, lambda _: rendering.reveals_table(job, found))


@jobs.command()
def approve(
    job: JobId,
    settings: SettingsOption,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not show what the job tells whom, and do not ask")] = False,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Approve a job that waits for it here, as [policy] approval in the settings wants."""
    if not yes:
        found = _ask(settings, lambda console: console.reveals(job)).reveals
        rendering.err.print(rendering.reveals_table(job, found))
        typer.confirm("Let this job in?", abort=True, err=True)
    show(format, _decide(settings, job, approve=True), rendering.job_details)


@jobs.command()
def refuse(
    job: JobId,
    settings: SettingsOption,
    why: Annotated[str, typer.Option(help="the reason; every party of the job is told")] = "",
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Refuse a job that waits for an approval. It ends at every party."""
    show(format, _decide(settings, job, why, approve=False), rendering.job_details)


@jobs.command()
def prune(
    settings: SettingsOption,
    days: Annotated[float, typer.Option("--older-than", metavar="DAYS", help="jobs that ended so many days ago")],
    *,
    models: Annotated[bool, typer.Option("--models", help="model parts too; nobody can make them again")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Show old jobs, ask, and remove their records, checkpoints, reports and scores."""
    if not yes:
        found = _prune(settings, days, models, remove=False)
        rendering.err.print(rendering.pruned_table(found))
        if not found:
            raise typer.Exit
        typer.confirm("Remove all this?", abort=True, err=True)
    gone = _prune(settings, days, models, remove=True)
    show(format, gone, rendering.pruned_table)


def _prune(settings: Path, days: float, models: bool, *, remove: bool) -> tuple[Pruned, ...]:  # noqa: FBT001
    who = own_account()
    return _ask(settings, lambda console: console.prune(days, models=models, remove=remove, who=who)).pruned


def _decide(settings: Path, job: str, why: str = "", *, approve: bool) -> JobStatus:
    who = own_account()
    return _ask(settings, lambda console: console.decide(job, approve=approve, who=who, why=why[:1000])).jobs[0]


def _ask(settings: Path, ask: Callable[[ConsoleClient], Awaitable[Status]]) -> Status:
    """Ask the agent; what cannot be is told, with an exit code."""
    answer: Status = checked(check_answer, talk_to_agent(settings, ask))
    return answer


async def _watch(console: ConsoleClient, job: str) -> JobStatus:
    with rendering.Bar(job) as bar:
        async for found in follow_job(console, job):
            bar.show(found)
    return found


def run_prediction(description: PredictionJob, settings: Path) -> JobStatus:
    """Run a prediction through the party's own agent; always a new run, as tables change."""
    return talk_to_agent(settings, lambda console: _submit_and_watch(console, description.with_new_id()))


async def _submit_and_watch(console: ConsoleClient, description: PredictionJob) -> JobStatus:
    (submitted,) = check_answer(await console.submit(description, own_account())).jobs
    return await _watch(console, submitted.job)


def _end(why: str) -> None:
    """End with the exit code for a state that no agent has told, and that may be old."""
    if why:
        rendering.remark(why)
        raise typer.Exit(CANNOT_REACH)


def _trace_of(status: Status, job: str) -> StepTrace:
    if status.trace is None:
        raise Invalid(f"{job} has no trace here: no second step is done, or the agent has ended many jobs since")
    return status.trace
