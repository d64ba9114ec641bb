"""Writes start-up kits for all parties of a consortium (`tercet kit`).

Passwords go into files that only their owner may read; none is printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.runner import checked
from tercet.agents.core.shipped_files import shipped


def kit(
    consortium: Annotated[
        Path | None, typer.Argument(metavar="CONSORTIUM.toml", help="the parties, their roles and their broker")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="a new folder; by default the consortium's name")] = None,
    *,
    example: Annotated[bool, typer.Option("--example", help="print a CONSORTIUM.toml to begin with")] = False,
) -> None:
    """Write a start-up kit for each party: settings, login at the broker, and next steps."""
    if example == (consortium is not None):
        raise typer.BadParameter("give CONSORTIUM.toml, or --example", param_hint="CONSORTIUM.toml")
    if consortium is None:
        typer.echo((shipped("agents") / "kit/templates/consortium.toml").read_text("utf-8"), nl=False)
        return
    from tercet.agents.kit.contents import BROKER, ROLES, STEPS  # noqa: PLC0415 - jinja2
    from tercet.agents.kit.folders import write_kits  # noqa: PLC0415
    from tercet.schemas.files.consortium import read_consortium  # noqa: PLC0415 - pydantic models

    found = checked(read_consortium, consortium)
    folder = out or Path(found.name)
    checked(write_kits, found, folder)
    lines = [
        *(f"{folder / party}: for {party}, {ROLES[member.role]}" for party, member in found.parties.items()),
        f"{folder / BROKER}: for whoever runs RabbitMQ",
        f"Give each its folder, in a way that nobody else reads, and keep no copy. Each goes on by its {STEPS}.",
        "With everybody's tables at hand, try the first job in one process:",
        f"tercet simulate {folder / found.label / 'job.toml'} --settings {folder}",
    ]
    for line in lines:
        rendering.err.print(rendering.fit(line), soft_wrap=True)
