"""Reads the settings of the parties whose jobs a selection runs.

With a running agent these are the label party's, in a simulation everybody's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tercet.agents.selection.selection_file import SelectionFile
from tercet.agents.simulation.parties import settings_of_all
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings

STATES: Final = "parties"  # in the folder of a simulated selection


def default_folder(path: Path) -> Path:
    """Name the folder of a selection's trail and page."""
    return path.with_name(f"{path.stem}-selection")


def label_settings(file: SelectionFile, own: Settings) -> Settings:
    """Check that these settings are the label party's.

    Raises:
        Invalid: they are another party's.
    """
    if own.party != file.job.label:
        raise Invalid(f"columns are selected at the label party, {file.job.label}, which learns the losses")
    return own


def simulated_parties(file: SelectionFile, folder: Path, out: Path) -> Mapping[str, Settings]:
    """Read all parties' settings; their states go under `out`.

    Raises:
        Invalid: as `settings_of_all`.
    """
    found = settings_of_all(file.job.parties, folder)
    return {party: own.model_copy(update={"state": out / STATES / party}) for party, own in found.items()}
