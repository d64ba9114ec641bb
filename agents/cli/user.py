"""Adds, lists and removes the persons who may use a party's page (`tercet user`).

A password is asked for, and is never an argument. It reads settings and writes one file of the state folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.job import SettingsOption
from tercet.agents.cli.runner import Format, FormatOption, checked, settings_of, show

if TYPE_CHECKING:
    from pathlib import Path

    from tercet.agents.page.users import UserFile

ROLES = "viewer: looks; approver: approves and refuses, too; operator: cancels, too"

users = typer.Typer(no_args_is_help=True, help="Say who may use the page of your own party's agent.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="of the person, as the audit log will have it")]


@users.command()
def add(name: Name, settings: SettingsOption, role: Annotated[str, typer.Option(help=ROLES)]) -> None:
    """Add a person; asks for the password."""
    from tercet.agents.page.users import Role  # noqa: PLC0415 - cryptography

    if role not in [*Role]:
        raise typer.BadParameter(f"{role!r} is no role; {ROLES}")
    file = _file(settings)
    password = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    checked(file.add, name, Role(role), password)
    rendering.err.print(rendering.fit(f"{name} may log in as {role}."))


@users.command("list")
def list_(settings: SettingsOption, format: FormatOption = Format.TEXT) -> None:  # noqa: A002
    """List names and roles."""
    found = {name: str(user.role) for name, user in sorted(checked(_file(settings).users).items())}
    show(format, found, rendering.user_table)


@users.command()
def remove(name: Name, settings: SettingsOption) -> None:
    """Remove a person, who is logged out at once."""
    checked(_file(settings).remove, name)
    rendering.err.print(rendering.fit(f"{name} may not log in any more."))


def _file(settings: Path) -> UserFile:
    from tercet.agents.page.users import UserFile  # noqa: PLC0415

    return UserFile(settings_of(settings).state)
