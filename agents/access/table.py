"""Reads a party's own table as a job would, and describes its columns (`tercet table`).

Nothing is sent, and nothing of it stays on the disk.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.agents.access.broker import read_credentials
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Kind
from tercet.tables.snapshot.hints import hints
from tercet.tables.snapshot.snapshot import Snapshot, describe, take_snapshot


def database_login(settings: TableSettings) -> tuple[str, str] | None:
    """Read user name and password of the database, if the settings name a file of them.

    Raises:
        Invalid, KeyProblem: it cannot be read.
    """
    if settings.credentials is None:
        return None
    login = read_credentials(settings.credentials)
    return login.username, login.password


def read_snapshot(
    name: str,
    settings: TableSettings,
    folder: Path,
    *,
    with_label: bool,
    label_kind: Kind | None = "numeric",
    expected: Mapping[str, Kind] | None = None,
    own_ids: bool = False,
    interrupt: Interrupt | None = None,
) -> Snapshot:
    """Take a snapshot of a table in `folder`, with the login that its settings name.

    Raises:
        TableProblem: the table cannot be used.
        Invalid, KeyProblem: the login cannot be read.
    """
    return take_snapshot(
        name,
        settings,
        folder,
        with_label=with_label,
        label_kind=label_kind,
        login=database_login(settings),
        expected=expected,
        own_ids=own_ids,
        interrupt=interrupt,
    )


def describe_tables(tables: Mapping[str, TableSettings]) -> tuple[dict[str, Any], dict[str, str]]:
    """Describe the tables that can be used, and say of the others what is wrong."""
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, settings in tables.items():
        try:
            found[name] = describe_table(name, settings)
        except (TableProblem, Invalid, KeyProblem) as problem:
            wrong[name] = str(problem)
    return found, wrong


def describe_table(name: str, settings: TableSettings) -> dict[str, Any]:
    """Describe a table: rows, each column's kind, missing values and hints, and oddities.

    Raises:
        TableProblem, Invalid, KeyProblem: as for `read_snapshot`.
    """
    with tempfile.TemporaryDirectory() as folder:
        snapshot = read_snapshot(name, settings, Path(folder), with_label=settings.label is not None, label_kind=None)
        with snapshot:
            found = hints(snapshot, settings)
            columns = [entry | {"hint": found.get(entry["column"])} for entry in describe(snapshot)]
            return {"rows": snapshot.rows, "columns": columns, "warnings": list(snapshot.notes)}
