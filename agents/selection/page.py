"""Writes the page about a selection: what was left out, each step, and the model's columns.

It shows the label party's own view, and is for that party alone.
"""

from pathlib import Path
from typing import Any, Final

from tercet.agents.core.private_file import replace
from tercet.agents.core.report_files import selection_file
from tercet.agents.reports.report import template
from tercet.agents.selection.trail import Trail
from tercet.schemas.core.visible import escape_invisible

FILE: Final = "selection.html"
METHODS: Final = {
    "forward": "added column by column",
    "backward": "dropped column by column",
    "refit": "dropped by the size of their weights",
    "none": "filtered",
}


def write_page(trail: Trail, folder: Path) -> Path:
    """Write the page beside the trail, for this user only.

    Raises:
        OSError: the disk does not take it.
    """
    path = folder / FILE
    replace(path, render_page(trail).encode())
    return path


def lay_beside(trail: Trail, state: Path) -> None:
    """Write the page of a finished selection beside the report of its last job.

    There the agent's page finds it.

    Raises:
        OSError: the disk does not take it.
    """
    if trail.final is None:
        return
    path = selection_file(state, trail.final.job)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(path, render_page(trail).encode())


def render_page(trail: Trail) -> str:
    """Render the page; the same trail gives the same text."""
    losses = [one.loss for one in trail.steps if one.loss is not None]
    page = template("selection").render(
        t=trail,
        way=METHODS[trail.method],
        trials={one.job: one for one in trail.trials},
        worst=max(losses, default=0.0),
        selected=_by_party(trail.selected or ()),
        changed={one.number: _changes(trail, one) for one in trail.steps},
    )
    return escape_invisible(page, keep="\n") + "\n"


def _changes(trail: Trail, step: Any) -> list[tuple[str, str, float | None]]:
    """List a step's jobs with what each changes, the lowest loss first."""
    found = []
    for job, changed in zip(step.tried, step.changed, strict=True):
        trial = trail.trial(job)
        names = ", ".join(f"{party}/{column}" for party, column in changed)
        found.append((names, job, None if trial is None else trial.loss))
    return sorted(found, key=lambda one: (one[2] is None, one[2] or 0.0))


def _by_party(columns: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for party, column in columns:
        found.setdefault(party, []).append(column)
    return found
