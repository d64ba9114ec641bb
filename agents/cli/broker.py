"""Writes RabbitMQ definitions for a set of parties; shows dead letters (`tercet broker`).

Passwords go to files that only their owner may read, and into the definitions as salted hashes; none is ever printed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table
from rich.text import Text

from tercet.agents.cli import rendering
from tercet.agents.cli.job import SettingsOption
from tercet.agents.cli.runner import Format, FormatOption, checked, run, settings_of, show
from tercet.agents.kit.logins import credentials_text, hash_passwords, make_passwords
from tercet.broker.interface.base import CONNECT_SECONDS
from tercet.broker.rabbitmq.definitions import NoName, check_name, definitions
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.broker.interface.dead_letters import DeadLetter
    from tercet.schemas.files.settings import Settings

brokers = typer.Typer(
    no_args_is_help=True, help="Set up RabbitMQ for a set of parties, and see what an agent has refused."
)


@brokers.command("definitions")
def definitions_(  # noqa: PLR0917 - typer reads options from it
    parties: Annotated[list[str], typer.Argument(metavar="PARTY...", help="every party, data party or helper")],
    out: Annotated[Path, typer.Option(help="the definitions, for rabbitmqctl import_definitions")] = Path(
        "definitions.json"
    ),
    credentials: Annotated[
        Path | None, typer.Option(help="folder for each party's PARTY.credentials.toml; by default that of --out")
    ] = None,
    vhost: Annotated[str, typer.Option(help="the virtual host that the parties share with nobody else")] = "tercet",
    earlier: Annotated[
        Path | None, typer.Option("--from", help="earlier definitions; parties listed there keep their login")
    ] = None,
    operator: Annotated[str | None, typer.Option(help="also a user of the management page who may do it all")] = None,
    *,
    certificates: Annotated[
        bool, typer.Option("--certificates", help="no passwords: parties log in by certificates that name them")
    ] = False,
) -> None:
    """Write RabbitMQ's definitions with the least rights for each party, and a login for each."""
    checked(_check, parties, operator)
    known: dict[str, str] = {} if earlier is None else checked(_earlier, earlier)
    users = [*parties, *([] if operator is None else [operator])]
    passwords = make_passwords(user for user in users if user not in known and (user == operator or not certificates))
    hashes = hash_passwords(users, passwords) | {user: known[user] for user in users if user in known}
    files: list[Path] = checked(_write_credentials, credentials or out.parent, passwords)
    operators = {} if operator is None else {operator: hashes.pop(operator)}
    checked(_write, out, definitions(hashes, vhost, operators=operators))
    _print_summary(out, vhost, files, sorted(known.keys() - set(users)))


def _check(parties: list[str], operator: str | None) -> None:
    try:
        for party in parties:
            check_name(party)
        if operator is not None:
            check_name(operator)
    except NoName as error:
        raise Invalid(str(error)) from None
    if operator in parties or len(set(parties)) < len(parties):
        raise Invalid("give each party once, and the operator a name that is no party's")


def _earlier(path: Path) -> dict[str, str]:
    """Read the users' hashes from definitions that were written before."""
    try:
        content: Any = json.loads(path.read_bytes())
        return {str(user["name"]): str(user["password_hash"]) for user in content["users"]}
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; leave --from out where there is nothing to keep") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Invalid(f"{path}: no definitions; give a file that `tercet broker definitions` wrote") from None


def _write_credentials(folder: Path, passwords: Mapping[str, str]) -> list[Path]:
    """Write a file for each user, none of which is there yet."""
    paths = {user: folder / f"{user}.credentials.toml" for user in passwords}
    there = [path for path in paths.values() if path.exists()]
    if there:
        raise Invalid(f"{there[0]} exists; give the earlier definitions as --from to keep its login, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for user, path in paths.items():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(credentials_text(user, passwords[user]))
    except OSError as error:
        raise Invalid(f"{folder}: {error.strerror}; give a folder for the logins that can be written") from None
    return list(paths.values())


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; give a file that can be written") from None


def _print_summary(out: Path, vhost: str, files: list[Path], gone: list[str]) -> None:
    rendering.err.print(f"{out}: load it with `rabbitmqctl import_definitions {out}`.", soft_wrap=True)
    end = "" if vhost == "/" else quote(vhost, safe="")
    url = f'Each party writes url = "amqps://HOST/{end}" under [broker], with the name of your broker for HOST.'
    rendering.err.print(rendering.fit(url), soft_wrap=True)
    for path in files:
        rendering.err.print(f"{path}: for that user alone, as its broker credentials; keep no copy.", soft_wrap=True)
    for user in gone:
        rendering.err.print(
            f"{user} is left out; RabbitMQ forgets it by `rabbitmqctl delete_user {user}`.", soft_wrap=True
        )


@brokers.command("dead-letters")
def dead_letters(
    settings: SettingsOption,
    limit: Annotated[int, typer.Option(min=1, help="so many, the oldest first")] = 100,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="remove those that are shown")] = False,
    format: FormatOption = Format.TEXT,  # noqa: A002 - the option's name
) -> None:
    """Show what this party's agent has refused, and why. Anybody with a login may have sent it."""
    letters, more = run(read_letters(settings_of(settings), limit, remove=remove))
    show(format, letters, _table)
    if more:
        rendering.err.print(f"{more} more; see --limit.")


async def read_letters(
    settings: Settings, limit: int, *, remove: bool = False, seconds: float = CONNECT_SECONDS
) -> tuple[list[DeadLetter], int]:
    """Read dead letters by a connection of their own, to be had within so many seconds."""
    from tercet.agents.access.broker import connect  # noqa: PLC0415
    from tercet.broker.rabbitmq.dead_letters import read_dead_letters  # noqa: PLC0415 - aio-pika

    connection = await connect(settings, "dead letters", seconds=seconds)
    try:
        return await read_dead_letters(connection, settings.party, limit, remove=remove)
    finally:
        await connection.close()


def _table(letters: list[DeadLetter]) -> Table:
    table = Table("refused at", "why", "came through", "kind", "address", "bytes")
    for letter in letters:
        why = letter.reason + (f" (and {letter.withheld} more before it)" if letter.withheld else "")
        cells = (letter.time, why, letter.exchange, letter.kind, letter.address, str(letter.size))
        table.add_row(*map(Text, cells))  # brackets in a text are no markup
    return table
