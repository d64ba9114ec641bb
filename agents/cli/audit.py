"""Checks and reads a party's audit log, and shows what may still be told (`tercet audit`).

It opens one file or two, also copies on another machine; no agent is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.runner import Format, FormatOption, checked, settings_of, show
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.policy.audit_log import Entry
    from tercet.agents.policy.budget_file import Spending

audits = typer.Typer(no_args_is_help=True, help="Check and read the audit log of your own party's agent.")

LogFile = Annotated[Path | None, typer.Argument(metavar="PATH", help="the log; by default that of the settings")]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", "-s", envvar="TERCET_SETTINGS", help="your party's settings file")
]


@audits.command()
def verify(
    path: LogFile = None,
    settings: SettingsOption = None,
    *,
    expect: Annotated[str | None, typer.Option(help="a hash that an earlier check printed; it must be there")] = None,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Check that no line was altered, removed, added or moved, and print the last hash.

    To find lines cut off at the end, give the hash of one of them, noted earlier: --expect.
    """
    from tercet.agents.policy.audit_log import key_named_last  # noqa: PLC0415 - cryptography
    from tercet.broker.sealing.identity import parse_public  # noqa: PLC0415

    found: list[Entry] = checked(_read, _path(path, settings))
    since = checked(_since, found, expect) if expect is not None else None
    key = parse_public(key_named_last(found))
    result: dict[str, Any] = {"entries": len(found), "last_hash": found[-1].hash, "key": str(key)}
    result["fingerprint"] = key.fingerprint
    if format is Format.JSON:
        rendering.print_json(result if since is None else result | {"entries_since": since})
        return
    typer.echo(f"OK, {result['entries']} entries. Signed with {key.text}, fingerprint {key.fingerprint}")
    if since is not None:
        typer.echo(f"The expected hash is there, and {since} entries after it.")
    typer.echo(f"Last hash: {result['last_hash']}")


@audits.command("show")
def show_(
    job: Annotated[str | None, typer.Argument(metavar="ID", help="one job; by default all")] = None,
    settings: SettingsOption = None,
    path: Annotated[Path | None, typer.Option(help="a log elsewhere")] = None,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Print the log of a job: who asked, decisions, what was told whom, and the end."""
    found: list[Entry] = checked(_read, _path(path, settings))
    wanted = [entry for entry in found if job is None or entry.job == job]
    lines = [{"seq": one.seq, **one.content, "hash": one.hash} for one in wanted]
    show(format, lines, lambda _: rendering.audit_table(wanted))


@audits.command()
def budget(settings: SettingsOption = None, *, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """Print what all jobs told each label party of each table, the bound, and the rest.

    Where no bound is shown there is none. Of bits it is what a record holds, which only a job finds out.
    """
    from tercet.agents.policy.budget import Budget  # noqa: PLC0415 - pyarrow

    if settings is None:
        raise typer.BadParameter("give --settings")
    own = settings_of(settings)
    rows = list(Budget.from_spendings(checked(_spendings, own.state)).entries(own))
    show(format, [{**one._asdict(), "left": one.left} for one in rows], lambda _: rendering.budget_table(rows))


def _spendings(state: Path) -> list[Spending]:
    """Read the spendings as the agent would count them at its next start."""
    from tercet.agents.policy.budget import audited_spendings  # noqa: PLC0415
    from tercet.agents.policy.budget_file import FILE, read  # noqa: PLC0415

    try:
        found = read(state / FILE)
    except OSError as error:
        raise Invalid(f"{state / FILE}: {error.strerror}") from None
    if found is not None:
        return found
    log = state / "audit.log"
    return list(audited_spendings(_read(log))) if log.exists() else []


def _path(path: Path | None, settings: Path | None) -> Path:
    if path is not None:
        return path
    if settings is None:
        raise typer.BadParameter("give the log's path, or --settings")
    own = settings_of(settings)
    return own.state / "audit.log"


def _read(path: Path) -> list[Entry]:
    from tercet.agents.policy.audit_log import BrokenLog, entries  # noqa: PLC0415 - cryptography

    try:
        found = list(entries(path.read_bytes()))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; give the audit.log in the state folder of an agent") from None
    except BrokenLog as broken:
        raise Invalid(f"{path}: {broken}; compare it with a copy, and keep both") from None
    if not found:
        raise Invalid(f"{path}: is empty, which an agent never leaves it; compare it with a copy")
    return found


def _since(found: list[Entry], expected: str) -> int:
    """Count the entries after the one with this hash."""
    for place, entry in enumerate(found):
        if entry.hash == expected:
            return len(found) - place - 1
    raise Invalid(
        f"no entry has the expected hash: the log was cut off or written anew since; its last hash is {found[-1].hash}"
    )
