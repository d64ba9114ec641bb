"""Names the pages about jobs in a party's state folder."""

from pathlib import Path
from typing import Final

FOLDER: Final = "reports"


def report_file(state: Path, job: str) -> Path:
    """Name the report of a job."""
    return state / FOLDER / f"{job}.html"


def selection_file(state: Path, job: str) -> Path:
    """Name the page of the selection that chose a job's columns."""
    return state / FOLDER / f"{job}-selection.html"
