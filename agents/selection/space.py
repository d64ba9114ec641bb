"""Holds the columns that a selection chooses from, and makes the jobs that try some of them.

It runs none of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from tercet.agents.selection.selection_file import SelectionFile
from tercet.schemas.files.job import TrainingJob


class Candidate(NamedTuple):
    """Names a column of a party."""

    party: str
    column: str

    def __str__(self) -> str:
        return f"{self.column} of {self.party}"


Columns = frozenset[Candidate]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Holds what may be in a job, what is in each, and what is in the first.

    Attributes:
        candidates: in the order in which ties are decided.
        always: of these.
        label: the label party, which alone may have no column.
    """

    candidates: tuple[Candidate, ...]
    always: Columns
    label: str

    @classmethod
    def of(cls, selection: SelectionFile, candidates: Iterable[Candidate]) -> Self:
        """Make the space of these candidates of a selection."""
        always = (Candidate(party, name) for party, names in selection.always.items() for name in names)
        return cls(tuple(candidates), frozenset(always), selection.job.label)

    @property
    def first(self) -> Columns:
        """The columns of a forward search's first job.

        These are `always`, and of each partner without one its first candidate.
        """
        found = set(self.always)
        for one in self.candidates:
            if one.party != self.label and not any(other.party == one.party for other in found):
                found.add(one)
        return frozenset(found)

    def removable(self, columns: Columns) -> list[Candidate]:
        """List the columns that a job can do without: no partner can be without any."""
        counts = {party: sum(one.party == party for one in columns) for party in {one.party for one in columns}}
        return [
            one
            for one in self.candidates
            if one in columns - self.always and (one.party == self.label or counts[one.party] > 1)
        ]


def candidates_of(selection: SelectionFile) -> list[Candidate]:
    """List all candidates in the file's order."""
    return [Candidate(party, name) for party, names in selection.columns.items() for name in names]


def with_columns(job: TrainingJob, selection: SelectionFile, columns: Columns) -> TrainingJob:
    """Give a job over some of the candidates."""
    chosen = tuple(
        (party, tuple(name for name in names if (party, name) in columns)) for party, names in selection.columns.items()
    )
    return job.model_copy(update={"columns": chosen})


def trial_job(selection: SelectionFile) -> TrainingJob:
    """Give the job that tries columns.

    It scores no row, and releases weights only where a search reads them.
    """
    job = selection.job
    stops_by_loss = job.early_stopping is not None and job.early_stopping.on == "loss"
    evaluation = job.evaluation.model_copy(
        update={"metrics": "none", "every": 1, "loss": stops_by_loss, "held_out_scores": False}
    )
    release = job.release if selection.search.method == "refit" else "shared"
    return job.model_copy(update={"evaluation": evaluation, "release": release})
