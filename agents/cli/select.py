"""Selects the columns of a model by a sequence of jobs (`tercet select`).

The jobs run by the label party's agent, or with all parties in this process. What was run before is not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.own_agent import talk_to_agent
from tercet.agents.cli.runner import JOB_FAILED, Format, FormatOption, checked, run, settings_of
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.access.console_client import ConsoleClient
    from tercet.agents.selection.select import ColumnSelection
    from tercet.agents.selection.selection_file import SelectionFile
    from tercet.agents.selection.trail import Trail
    from tercet.schemas.files.job import TrainingJob
    from tercet.schemas.files.settings import Settings


def select(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="the training, its candidates, and the search")],
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", envvar="TERCET_SETTINGS", help="the label party's settings file")
    ] = None,
    simulate: Annotated[
        Path | None, typer.Option(help="instead: a folder with each party's PARTY.toml; all run in this process")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of trail and page; by default named after FILE")] = None,
    *,
    plan: Annotated[bool, typer.Option("--plan", help="filter, count jobs and budgets, and run nothing")] = False,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Select columns: filter by statistics, then step by step by the held-out loss."""
    from tercet.agents.core import logs  # noqa: PLC0415 - structlog
    from tercet.agents.selection.jobs import SelectionStopped  # noqa: PLC0415 - numpy and all of an agent
    from tercet.agents.selection.parties import default_folder  # noqa: PLC0415
    from tercet.agents.selection.select import ColumnSelection  # noqa: PLC0415
    from tercet.agents.selection.selection_file import read_selection  # noqa: PLC0415 - pydantic models

    logs.configure("error")
    wanted: SelectionFile = checked(read_selection, file)
    folder = out or default_folder(file)
    parties = checked(_parties, wanted, settings, simulate, folder)
    selection: ColumnSelection = checked(ColumnSelection.prepare, wanted, [*parties.values()], folder)
    _announce(selection)
    if not plan:
        try:
            trail = _run(selection, parties, None if simulate else settings)
        except SelectionStopped as stopped:
            rendering.complain(str(stopped))
            raise typer.Exit(JOB_FAILED) from None
    else:
        trail = selection.trail
    if format is Format.JSON:
        rendering.print_json(trail.model_dump(mode="json"))
    else:
        _show(trail, folder, planned=plan)


def _parties(
    wanted: SelectionFile, settings: Path | None, simulate: Path | None, folder: Path
) -> Mapping[str, Settings]:
    """Read the settings that are here: the label party's, or in a simulation everybody's."""
    from tercet.agents.selection.parties import label_settings, simulated_parties  # noqa: PLC0415

    if simulate is not None:
        return simulated_parties(wanted, simulate, folder)
    if settings is None:
        raise Invalid("give the label party's settings by --settings, or a folder with all parties' by --simulate")
    return {wanted.job.label: label_settings(wanted, settings_of(settings))}


def _run(selection: ColumnSelection, parties: Mapping[str, Settings], settings: Path | None) -> Trail:
    from tercet.agents.selection.jobs import by_agent, by_simulation  # noqa: PLC0415
    from tercet.agents.selection.parties import STATES  # noqa: PLC0415

    label = selection.file.job.label
    if settings is None:
        return run(selection.run(by_simulation(parties, selection.folder / STATES), _progress))

    async def converse(console: ConsoleClient) -> Trail:
        return await selection.run(by_agent(console, label), _progress)

    return talk_to_agent(settings, converse)


def _announce(selection: ColumnSelection) -> None:
    trail = selection.trail
    counts = ", ".join(f"{name} {amount:g}" for name, amount in trail.costs.items())
    rendering.remark(
        f"{len(trail.candidates)} candidates, {len(trail.left_out)} left out by filters; at most {trail.most_jobs} "
        f"jobs, {len(trail.trials)} of them done. All together may tell of {trail.party}'s table: {counts}"
    )


def _progress(trail: Trail, job: TrainingJob) -> None:
    number = sum(len(names) for _, names in job.columns)
    rendering.remark(f"job {len(trail.trials) + 1} of at most {trail.most_jobs}: {job.id}, {number} columns")


def _show(trail: Trail, folder: Path, *, planned: bool) -> None:
    for party, column, why in trail.left_out:
        rendering.out.print(rendering.fit(f"left out: {column} of {party}: {why}"), soft_wrap=True)
    unjudged: dict[tuple[str, str], list[str]] = {}
    for party, column, limits in trail.unjudged:
        unjudged.setdefault((party, limits), []).append(column)
    for (party, limits), columns in unjudged.items():
        line = f"not wholly judged by {limits}: {', '.join(columns)} of {party}"
        rendering.out.print(rendering.fit(line), soft_wrap=True)
    if planned:
        return
    for step in trail.steps:
        loss = "no use" if step.loss is None else f"{step.loss:.6g}"
        line = f"step {step.number}: {step.decision}: held-out loss {loss}, {len(step.columns)} columns: {step.why}"
        rendering.out.print(rendering.fit(line), soft_wrap=True)
    if trail.final is not None:
        rendering.out.print(rendering.fit(f"model: {trail.final.job}"), soft_wrap=True)
    rendering.out.print(rendering.fit(f"trail and page: {folder}"), soft_wrap=True)
