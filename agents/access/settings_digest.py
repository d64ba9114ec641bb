"""Compares two readings of the settings by field, and tells which changes need no restart.

A field is told by its name and a digest, so that values need not travel; no settings hold a secret.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from tercet.schemas.files.settings import Settings, TableSettings

RELOADED: Final = ("tables", "partners", "policy")  # what an agent takes over while it runs
NAMED: Final = ("tables", "partners")  # sections of the reader's own names, each of which counts as one field
SQLITE: Final = "sqlite:///"


def settings_digests(settings: Settings) -> dict[str, str]:
    """Make a digest of each field, by its name with its section."""
    return {name: hashlib.sha256(_plain(value).encode()).hexdigest()[:16] for name, value in _fields(settings)}


def differing_fields(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """List the fields that are not the same, by name."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def is_reloadable(name: str) -> bool:
    """Tell whether a running agent takes over this field when it reads its settings again."""
    return name.partition(".")[0] in RELOADED


def _fields(settings: Settings) -> Iterator[tuple[str, Any]]:
    for section in type(settings).model_fields:
        value = getattr(settings, section)
        if section in NAMED:
            yield from ((f"{section}.{name}", one) for name, one in value.items())
        elif isinstance(value, BaseModel):
            yield from ((f"{section}.{name}", getattr(value, name)) for name in type(value).model_fields)
        else:
            yield section, value


def _plain(value: Any) -> str:
    """Convert a value to text; a path counts as the place it names, wherever the file lies."""
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    if isinstance(value, TableSettings) and value.database is not None and value.database.startswith(SQLITE):
        plain["database"] = Path(value.database.removeprefix(SQLITE))
    return json.dumps(plain, default=_absolute, sort_keys=True)


def _absolute(value: Any) -> str:
    return str(value.absolute()) if isinstance(value, Path) else repr(value)
