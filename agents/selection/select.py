"""Selects columns: filters, counts the cost, searches job by job, and keeps the trail.

Whoever calls it says how a job is run. It goes on where an earlier call has stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tercet.agents.selection.cost import check_costs, check_jobs, costs
from tercet.agents.selection.filters import LeftOut, filter_columns, find_unjudged
from tercet.agents.selection.jobs import RunJob
from tercet.agents.selection.measures import read_measures
from tercet.agents.selection.page import lay_beside, write_page
from tercet.agents.selection.search import most_jobs, walk
from tercet.agents.selection.selection_file import SelectionFile
from tercet.agents.selection.space import Candidate, Columns, SearchSpace, candidates_of, trial_job, with_columns
from tercet.agents.selection.trail import Reasons, Trail, Trial, pairs, read_trail
from tercet.agents.statistics.result import statistics_file
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.settings import Settings

Progress = Callable[[Trail, TrainingJob], None]


@dataclass(slots=True)
class ColumnSelection:
    """Runs one selection.

    Attributes:
        file: what is asked for.
        folder: of trail and page.
        space: what the filters leave.
        trail: as far as it has come.
        state: of the label party, whose page leads to the selection.
    """

    file: SelectionFile
    folder: Path
    space: SearchSpace
    trail: Trail
    state: Path
    _known: dict[str, Trial] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take over the trials of earlier calls."""
        self._known = {one.asked or one.job: one for one in self.trail.trials}

    @classmethod
    def prepare(cls, file: SelectionFile, parties: Sequence[Settings], folder: Path) -> Self:
        """Filter columns, count the cost and check it; no job is run, and nothing is written.

        Args:
            file: what is asked for.
            parties: those whose settings are here, each with its state; the label party is among them.
            folder: of trail and page; an earlier call's trail is taken up.

        Raises:
            Invalid: the file of the statistics job or the trail cannot be used, no column is left, or the selection
                may cost more than is allowed.
        """
        label = next(own for own in parties if own.party == file.job.label)
        candidates, left_out, unjudged = _filtered(file, label.state)
        space = SearchSpace.of(file, candidates)
        _check_left(file, space)
        most = most_jobs(space, file.search)
        check_jobs(most, file, space)
        earlier = read_trail(folder, file.digest)
        if earlier is None or earlier.final is None:
            begun = 0 if earlier is None else len(earlier.trials) + 1  # one more may be under way, and is counted
            check_costs(file, parties, most - begun)
        trail = Trail(
            selection=file.digest,
            name=file.job.name,
            party=file.job.label,
            method=file.search.method,
            most_jobs=most,
            costs=costs(file, label, most),
            candidates=pairs(tuple(candidates)),
            left_out=left_out,
            unjudged=unjudged,
            trials=() if earlier is None else earlier.trials,
        )
        return cls(file, folder, space, trail, label.state)

    async def run(self, run_job: RunJob, progress: Progress = lambda *_: None) -> Trail:
        """Run all jobs that are not over, and write trail and page after each.

        Raises:
            SelectionStopped: a job has failed.
            OSError: the disk does not take it.
        """
        search, trial = walk(self.space, self.file.search, self._note), trial_job(self.file)
        try:
            asked = next(search)
            while True:
                trials = [await self._try(with_columns(trial, self.file, one), run_job, progress) for one in asked]
                asked = search.send(trials)
        except StopIteration as over:
            selected: Columns = over.value
        final = with_columns(self.file.job, self.file, selected)
        found = await self._try(final, run_job, progress)
        self._update(selected=pairs(selected), final=found)
        lay_beside(self.trail, self.state)
        return self.trail

    async def _try(self, job: TrainingJob, run_job: RunJob, progress: Progress) -> Trial:
        if job.id not in self._known:
            progress(self.trail, job)
            self._known[job.id] = await run_job(job)
            self._update(trials=tuple(self._known.values()))
        return self._known[job.id]

    def _note(self, step: object) -> None:
        self._update(steps=(*self.trail.steps, step))

    def _update(self, **changes: object) -> None:
        self.trail = self.trail.model_copy(update=changes)
        self.trail.save(self.folder)
        write_page(self.trail, self.folder)


def _filtered(file: SelectionFile, state: Path) -> tuple[list[Candidate], Reasons, Reasons]:
    """Filter candidates; return what is left, what is left out, and what stays unjudged."""
    candidates = candidates_of(file)
    if file.filter is None:
        return candidates, (), ()
    measures = read_measures(statistics_file(state, file.filter.statistics))
    always = SearchSpace.of(file, candidates).always
    unjudged = find_unjudged(candidates, always, measures, file.filter)
    rest, gone = filter_columns(candidates, always, measures, file.filter)
    left = {one.column for one in gone}
    return rest, _reasons(gone), _reasons([one for one in unjudged if one.column not in left])


def _reasons(columns: Sequence[LeftOut]) -> Reasons:
    return tuple((one.column.party, one.column.column, one.why) for one in columns)


def _check_left(file: SelectionFile, space: SearchSpace) -> None:
    """Check that each partner has a column left."""
    left = {one.party for one in space.candidates}
    bare = [party for party in file.columns if party != file.job.label and party not in left]
    if bare:
        raise Invalid(f"the filters leave no column of {bare[0]}, which needs one: loosen them, or write [always]")
