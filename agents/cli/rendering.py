"""Prints tables and progress for people, and JSON for scripts.

Data goes to standard output, everything about the way there to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from tercet.agents.core.problems import UNDECIDED
from tercet.agents.core.states import APPROVAL, TERMINAL, State
from tercet.schemas.core.visible import escape_invisible

if TYPE_CHECKING:
    from tercet.agents.policy.audit_log import Entry
    from tercet.agents.policy.budget import BudgetEntry
    from tercet.schemas.messages.kinds import JobStatus, PartyStatus, Pruned

BAR_WIDTH = 24  # characters
FILES = {"model_parts": "model part of", "scores": "scores at", "statistics": "statistics of", "reports": "report of"}

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON value on standard output; models may be in it."""
    sys.stdout.write(json.dumps(value, indent=2, default=lambda one: one.model_dump(mode="json")) + "\n")


def complain(text: str) -> None:
    """Print an error on standard error."""
    err.print(f"[bold red]error[/]: {fit_lines(text)}", soft_wrap=True)


def remark(text: str) -> None:
    """Print a remark on standard error."""
    err.print(f"[yellow]note[/]: {fit_lines(text)}", soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error; the command goes on."""
    err.print(f"[bold yellow]warning[/]: {fit_lines(text)}", soft_wrap=True)


def fit(text: str) -> str:
    """Make another party's words safe for a terminal: no cursor moves, no forged lines."""
    return escape(escape_invisible(text))


def fit_lines(text: str) -> str:
    """Make text of our own, of several lines, fit for a terminal."""
    return "\n".join(map(fit, text.split("\n")))


class Bar:
    """Shows live progress of one job on standard error: bar, count and time, and its state.

    The state is a line of its own, cut where the terminal ends, so the first line is always whole.
    """

    def __init__(self, what: str) -> None:
        from rich.live import Live  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        whole = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("[bold]{task.description}", table_column=Column(overflow="ellipsis")),
            BarColumn(BAR_WIDTH, table_column=whole),
            MofNCompleteColumn(table_column=whole),
            TimeRemainingColumn(table_column=whole),
        )
        self._task = self._progress.add_task(what, total=None)
        self._note = ""
        self._live = Live(get_renderable=self._draw, console=err, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if not err.is_interactive:
            err.print()  # ends the last line, which a terminal's cursor has left already

    def show(self, status: JobStatus) -> None:
        """Draw where the job is."""
        self._progress.update(self._task, completed=status.step, total=status.steps or None)
        self._note = escape_invisible(_note(status))

    def _draw(self) -> Group:
        line = self._progress.make_tasks_table(self._progress.tasks)
        return Group(line, Text(self._note, no_wrap=True, overflow="ellipsis"))


def _note(status: JobStatus) -> str:
    parts = [status.state if status.attempt == 1 else f"{status.state} (attempt {status.attempt})"]
    if status.waits_for:  # first of all, as it may be long, and others matter less
        parts.append(f"waits for {' and '.join(status.waits_for)}")
    if status.steps and not status.failure:
        parts.append(f"epoch {status.epoch + 1}")
    if status.seconds_per_step:
        parts.append(f"{1 / status.seconds_per_step:.0f} steps/s")
    if status.warnings:
        parts.append(f"{len(status.warnings)} warning{'s' * (len(status.warnings) > 1)}")
    return ", ".join(parts)


def job_table(jobs: Iterable[JobStatus]) -> Table:
    """Tabulate jobs: when each was submitted, by this machine's clock, and where it is."""
    # an id that is cut short cannot be copied into the next command
    table = Table(Column("job", no_wrap=True), Column("submitted, state", overflow="fold"), box=None, pad_edge=False)
    for job in jobs:
        submitted = datetime.fromisoformat(job.submitted).astimezone()
        table.add_row(job.job, fit(f"{submitted:%Y-%m-%d %H:%M} {_brief(job)}"))
    return table


def _brief(job: JobStatus) -> str:
    parts = [_state(job)]
    if job.failure is not None:
        parts.append(job.failure.code + _cause(job.failure.culprit))
    if job.step and job.state not in TERMINAL:
        parts.append(f"step {_steps(job)}")
    if job.waits_for:
        parts.append(f"waits for {' and '.join(job.waits_for)}")
    return ", ".join(parts)


def job_details(job: JobStatus) -> Table:
    """Tabulate all about one job."""
    table = Table(Column(), Column(overflow="fold"), show_header=False, title=job.job, title_justify="left")
    rows: list[tuple[str, str]] = [
        ("state", _state(job)),
        ("approval", _approval(job)),
        (job.kind, f"{job.model}, label at {job.label}, helper {job.helper}"),
        ("our table", f"{job.table_rows:,} rows" if job.table_rows else ""),
        ("rows in common", _rows(job)),
        ("step", _steps(job)),
        ("attempt", _attempt(job)),
        ("training loss", f"{job.loss:.4f}" if job.loss is not None else ""),
        ("held-out loss", f"{job.held_out_loss:.4f}" if job.held_out_loss is not None else ""),
        *_metrics(job.metrics, job.intervals, job.deviations),
        *_folds(job.folds),
        ("seconds a step", f"{job.seconds_per_step:.4f}" if job.seconds_per_step else ""),
        ("sent", f"{sum(job.sent_bytes.values()) / 1e6:.1f} MB" if job.sent_bytes else ""),
        *((party.party, _party(party)) for party in job.parties),
        *(("warning", warning) for warning in job.warnings),
        ("release", job.release),
        ("model part", job.model_part or ""),
        ("scores", job.scores or ""),
        ("statistics", f"{job.statistics}; tercet statistics {job.job} shows them" if job.statistics else ""),
        ("report", job.report or ""),
    ]
    if job.failure is not None:
        rows.append(("failure", f"{job.failure.code} ({job.failure.stage}){_cause(job.failure.culprit)}"))
        rows.append(("reason", job.failure.reason))
        rows.append(("our detail", job.detail or ""))
    if job.state in {State.FAILED, State.CANCELLED}:
        rows.append(("report", "none: only a finished job has one. What is known of this job stands here"))
    for name, value in rows:
        if value:
            table.add_row(name, fit(value))
    return table


def _metrics(
    values: Mapping[str, float], intervals: Mapping[str, Sequence[float]], deviations: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        deviation = f" ± {deviations[name]:.4f}" if name in deviations else ""
        yield name, metric(value, intervals.get(name)) + deviation


def _folds(folds: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    for number, found in enumerate(folds, start=1):
        yield f"fold {number}", ", ".join(f"{name} {value:.4f}" for name, value in found.items())


def metric(value: float, interval: Sequence[float] | None) -> str:
    """Write a metric, and its interval if it has one."""
    return f"{value:.4f}" + ("" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})")


def comparison_table(found: Mapping[str, Any]) -> Table:
    """Tabulate a comparison of jobs, a column for each."""
    from tercet.agents.evaluation.comparison import rows_of  # noqa: PLC0415 - numpy

    table = Table(Column(), *(Column(job, overflow="fold") for job in found["jobs"]))
    for name, cells in rows_of(found):
        table.add_row(name, *map(fit_lines, cells))
    return table


def pruned_table(pruned: Iterable[Pruned]) -> Table:
    """Tabulate the files of jobs that ended long ago."""
    table = Table(Column("job", no_wrap=True), "state", *(Column(name, justify="right") for name in ("days ago", "MB")))
    for one in pruned:
        table.add_row(one.job, one.state, f"{one.days:,.0f}", f"{one.bytes / 1e6:,.1f}")
    return table


def reveals_table(job: str, reveals: Iterable[str]) -> Table:
    """List a job's purpose and who learns what, a line each."""
    table = Table(Column(overflow="fold"), show_header=False, title=f"{job} would tell", title_justify="left")
    for one in reveals:
        table.add_row(fit(one))
    return table


def row_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate rows with the same keys; a column that is empty in all is left out."""
    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    table = Table(*names, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(fit(_cell(row[name])) for name in names))
    return table


def user_table(roles: Mapping[str, str]) -> Table:
    """Tabulate the persons who may use the page."""
    table = Table("name", "role")
    for name, role in roles.items():
        table.add_row(fit(name), role)
    return table


def audit_table(entries: Iterable[Entry]) -> Table:
    """Lines of an audit log; a field of several lines has each on its own."""
    table = Table("no.", "time", Column("job", no_wrap=True), "event", Column("what", overflow="fold"))
    for entry in entries:
        fields = {name: value for name, value in entry.fields.items() if name != "revelations"}
        what = [", ".join(f"{name} {value}" for name, value in fields.items())]
        what += [f"to {one['to']}: {one['what']}" for one in entry.fields.get("revelations", ())]
        table.add_row(str(entry.seq), entry.time, entry.job, entry.event, "\n".join(map(fit, what)))
    return table


def budget_table(rows: Iterable[BudgetEntry]) -> Table:
    """Tabulate the label parties' use of each table's budget."""
    numbers = (Column(name, justify="right") for name in ("so far", "of", "left"))
    table = Table("table", "label party", "count", *numbers, Column("setting", no_wrap=True))
    for one in rows:
        cells = ("" if number is None else f"{number:,.10g}" for number in (one.spent, one.bound, one.left))
        table.add_row(fit(one.table), fit(one.label), one.name, *cells, one.setting)
    return table


def _state(job: JobStatus) -> str:
    if job.worthless:
        return f"{job.state}, but {job.worthless}"
    return f"{job.state} by {job.cancelled_by}" if job.cancelled_by else job.state


def _rows(job: JobStatus) -> str:
    if not job.rows:
        return ""
    held_out = f", {job.held_out:,} of them held out" if job.held_out else ""
    return f"{job.rows + job.held_out:,}{held_out}; {job.columns} columns of our own"


def _cause(culprit: str) -> str:
    """Say whose fault a failure is, where that is known."""
    return "" if culprit == UNDECIDED else f", caused by {culprit}"


def _approval(job: JobStatus) -> str:
    if job.approval == APPROVAL:
        count = f" ({len(job.approvals)} of {job.approvals_needed} have approved)" if job.approvals_needed > 1 else ""
        return f"waits for a person here: tercet job approve {job.job}{count}"
    return f"by {job.approval}" if job.approval else ""


def _attempt(job: JobStatus) -> str:
    if job.attempt == 1 or job.fault is None:
        return f"{job.attempt}" if job.attempt > 1 else ""
    return f"{job.attempt}, after {job.fault.code} by {job.fault.culprit}: {job.fault.reason}"


def _steps(job: JobStatus) -> str:
    return f"{job.step} of {job.steps}" + (f", without fold {job.fold}" if job.fold else "") if job.steps else ""


def _party(party: PartyStatus) -> str:
    waits = f", waits for {' and '.join(party.waits_for)} ({party.stage})" if party.waits_for else ""
    if party.stage == APPROVAL:
        waits = ", asks its operator for approval"
    return f"{party.state}, step {party.step}{waits}, heard {party.heard:.0f} s ago"


def column_table(name: str, found: dict[str, Any]) -> Table:
    """Tabulate the columns of one of a party's own tables."""
    columns = [{key: value for key, value in column.items() if key != "hint"} for column in found["columns"]]
    table = Table(*columns[0], title=f"{name}: {found['rows']:,} rows", title_justify="left")
    for column in columns:
        table.add_row(*(fit(_cell(value)) for value in column.values()))
    return table


def card_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate the rows of scorecards."""
    names, numbers = ("party", "column", "value", "points", "rounded"), {"points", "rounded"}
    headers = (Column(name, justify="right" if name in numbers else "left", overflow="fold") for name in names)
    table = Table(*headers, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(fit(_cell(row[name])) for name in names))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    return "" if value is None else str(value)


def hints(found: dict[str, Any]) -> list[str]:
    """Write down what its owner may want to look at, a line for each column."""
    return [fit(f"{column['column']}: {column['hint']}") for column in found["columns"] if column["hint"]]


def print_summary(result: dict[str, Any]) -> None:
    """Print the results of a simulation, and each file's path on a line of its own."""
    out.print(_summary_table(result))
    for kind, what in FILES.items():
        for party, path in result.get(kind, {}).items():
            out.print(fit(f"{what} {party}: {path}"), soft_wrap=True)


def _summary_table(result: dict[str, Any]) -> Table:
    """Tabulate the results of a simulation."""
    table = Table(Column(), Column(overflow="fold"), show_header=False, title=result["job"], title_justify="left")
    seconds = result["seconds_per_step"]
    failure = result["failure"]
    rows = [
        ("state", result["state"] + (f", but {result['worthless']}" if result["worthless"] else "")),
        ("failure", f"{failure['code']}{_cause(failure['culprit'])}: {failure['reason']}" if failure else ""),
        *((f"detail at {party}", detail) for party, detail in result["details"].items()),
        ("rows in common", f"{result['rows'] + result['held_out']:,}" if result["rows"] else ""),
        ("held out", f"{result['held_out']:,}" if result["held_out"] else ""),
        ("columns", ", ".join(f"{party} {count}" for party, count in result["columns"].items())),
        ("steps", f"{result['steps']}, {1000 * seconds:.1f} ms each" if seconds else ""),
        ("sent", f"{sum(result['bytes'].values()) / 1e6:.1f} MB in {sum(result['messages'].values())} messages"),
        *_metrics(result["metrics"], result["intervals"], result["deviations"]),
        *_folds(result["folds"]),
        ("training loss", "" if result["loss"] is None else f"{result['loss']:.4f}"),
        ("held-out loss", "" if result["held_out_loss"] is None else f"{result['held_out_loss']:.4f}"),
        ("equals plaintext", {True: "bit for bit", False: "no", None: ""}[result["bit_exact"]]),
        *(("warning", warning) for warning in result["warnings"]),
    ]
    for name, value in rows:
        if value:
            table.add_row(name, fit(str(value)))
    return table
