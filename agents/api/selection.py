"""Selects columns from Python, by the same file and the same rules as `tercet select`.

It writes trail and page to a folder, and goes on by them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.agents.api.logs import quieten_logs
from tercet.agents.core.event_loop import background_loop
from tercet.agents.selection.jobs import RunJob, by_simulation
from tercet.agents.selection.parties import STATES, default_folder, simulated_parties
from tercet.agents.selection.select import ColumnSelection
from tercet.agents.selection.selection_file import SelectionFile, read_selection
from tercet.agents.selection.trail import Trail
from tercet.schemas.files.invalid import Invalid


@dataclass(frozen=True, slots=True)
class SelectedColumns:
    """Holds what a selection has chosen.

    Attributes:
        columns: by party.
        job: the id of the job over these columns.
        loss: of its held-out rows; None where it is no better than a constant.
        trail: every job and every step, as `trail.json` has them.
        folder: with trail and page.
    """

    columns: dict[str, tuple[str, ...]]
    job: str
    loss: float | None
    trail: dict[str, Any] = field(repr=False)
    folder: Path = field(repr=False)

    @classmethod
    def of(cls, trail: Trail, folder: Path) -> "SelectedColumns":
        """Read a trail that has come to its end.

        Raises:
            Invalid: it has not.
        """
        final, selected = trail.final, trail.selected
        if final is None or selected is None:
            raise Invalid(f"{folder}: the selection is not at its end; repeat it")
        parties = dict.fromkeys(party for party, _ in selected)
        columns = {party: tuple(name for one, name in selected if one == party) for party in parties}
        return cls(columns, final.job, final.loss, trail.model_dump(mode="json"), folder)


def select(path: Path | str, *, simulate: Path | str, out: Path | str | None = None) -> SelectedColumns:
    """Select columns with all parties in this process.

    `Party.select` does so by a running agent.

    Args:
        path: of FILE.toml; docs/selection.md explains it.
        simulate: a folder with each party's settings.
        out: folder of trail and page; by default it is named after the file.

    Raises:
        Invalid: a file is wrong, or the selection may cost more than is allowed.
        TercetError: a job has failed; a repeated call goes on.
    """
    file, folder = open_selection(path, out)
    parties = simulated_parties(file, Path(simulate), folder)
    selection = ColumnSelection.prepare(file, [*parties.values()], folder)
    return run_selection(selection, by_simulation(parties, folder / STATES))


def open_selection(path: Path | str, out: Path | str | None) -> tuple[SelectionFile, Path]:
    """Read the file, and name the folder of trail and page."""
    quieten_logs()
    return read_selection(Path(path)), default_folder(Path(path)) if out is None else Path(out)


def run_selection(selection: ColumnSelection, run_job: RunJob) -> SelectedColumns:
    """Run a selection to its end, in a script or in a notebook."""
    with background_loop() as run:
        return SelectedColumns.of(run(selection.run(run_job)), selection.folder)
