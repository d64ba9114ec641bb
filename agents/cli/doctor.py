"""`tercet doctor` and `tercet explain`: what is wrong here, and what an error code means.

Both only look and tell; nothing is mended by them.
"""

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tercet.agents.cli import rendering
from tercet.agents.cli.job import SettingsOption
from tercet.agents.cli.runner import UNUSABLE_FILE, Format, FormatOption, checked, run
from tercet.agents.core import error_codes
from tercet.agents.doctor.finding import Finding, Outcome

COLOURS = {Outcome.OK: "green", Outcome.WARN: "yellow", Outcome.FAIL: "bold red"}


def doctor(settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Check settings, key, tables, page, broker, rights, clocks and partners; say how to mend."""
    from tercet.agents.core import logs  # noqa: PLC0415 - structlog

    logs.configure("error")
    found = run(_examine(settings, format))
    if format is Format.JSON:
        rendering.print_json([asdict(finding) for finding in found])
    if any(finding.outcome is Outcome.FAIL for finding in found):
        raise typer.Exit(UNUSABLE_FILE)


async def _examine(settings: Path, format: Format) -> list[Finding]:  # noqa: A002
    from tercet.agents.doctor.run import examine  # noqa: PLC0415 - pyarrow

    found = []
    findings: AsyncIterator[Finding] = examine(settings)
    async for finding in findings:
        found.append(finding)
        if format is Format.TEXT:
            _print(finding)
    return found


def _print(finding: Finding) -> None:
    colour = COLOURS[finding.outcome]
    check, said = rendering.fit(finding.check), rendering.fit_lines(finding.said)
    rendering.out.print(f"[{colour}]{finding.outcome:<4}[/] [bold]{check}[/]: {said}", soft_wrap=True)
    if finding.hint:
        rendering.out.print(f"     do: {rendering.fit_lines(finding.hint)}", soft_wrap=True)


def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="as `tercet job status` shows it: table.unusable")],
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Say what the code of a failed job means, what to do, and which party can do it."""
    found: error_codes.Code = checked(error_codes.explain_code, code)
    if format is Format.JSON:
        rendering.print_json({"code": found.code, "cause": found.cause, "remedy": found.remedy, "mender": found.mender})
        return
    for name, text in (("cause", found.cause), ("remedy", found.remedy), ("who can mend it", found.mender)):
        rendering.out.print(f"[bold]{name}[/]: {escape(text)}", soft_wrap=True)
