"""Reads the settings of parties whose jobs all run in this process."""

from collections.abc import Iterable
from pathlib import Path

from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings, read_settings


def settings_of_all(parties: Iterable[str], folder: Path) -> dict[str, Settings]:
    """Read each party's settings, `PARTY.toml` or `PARTY/settings.toml` of a folder.

    Raises:
        Invalid: one cannot be read, or is another party's.
    """
    found = {}
    for party in parties:
        kit = folder / party / "settings.toml"  # as `tercet kit` lays them out
        path = kit if kit.exists() else folder / f"{party}.toml"
        found[party] = read_settings(path)
        if found[party].party != party:
            raise Invalid(f"{path}: its party is {found[party].party!r}; name it after its party")
    return found
