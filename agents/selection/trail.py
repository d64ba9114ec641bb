"""Keeps the trail of a selection: each job, each step, what was decided and why.

The file is this party's own: it holds names of columns and losses. A selection that was interrupted goes on by it.
"""

from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from tercet.agents.selection.space import Candidate
from tercet.schemas.core.strict import JobId, Strict
from tercet.schemas.files.invalid import Invalid
from tercet.tables.core.durable import write_durably

FILE: Final = "trail.json"
FORMAT: Final = 1

Pair = tuple[str, str]  # a party and its column
Reasons = tuple[tuple[str, str, str], ...]  # with why


class Trial(Strict):
    """One job of a selection that is over.

    Attributes:
        columns: the candidates in it.
        asked: the job that the search asks for, where that was cancelled and this ran in its place.
        loss: of the held-out rows under the released model; None where no epoch was better than a constant.
        weights: of "refit": the size of each own column's standardised weights.
    """

    job: JobId
    asked: JobId | None = None
    columns: tuple[Pair, ...]
    loss: float | None
    weights: dict[str, float] = {}

    @property
    def rank(self) -> float:
        """The loss, by which trials are compared."""
        return float("inf") if self.loss is None else self.loss


class TrailStep(Strict):
    """One step.

    Attributes:
        tried: in the order of the candidates.
        changed: the columns that each job adds or drops, in the same order.
        decision: what became of the step.
        columns: which columns are in the model after it.
        job: whose model has these.
    """

    number: int
    tried: tuple[JobId, ...]
    changed: tuple[tuple[Pair, ...], ...] = ()
    decision: Literal["begin", "added", "dropped", "stopped", "done"]
    chosen: tuple[Pair, ...] = ()
    why: str
    columns: tuple[Pair, ...]
    job: JobId
    loss: float | None
    gain: float | None = None


class Trail(Strict):
    """A whole selection, as far as it has come.

    Attributes:
        selection: the digest of its file.
        party: whose view this is.
        most_jobs: that it may take.
        costs: by count of a party's budget, what all of them may take.
        trials: all jobs that are over.
        left_out: by filters: party, column and why.
        unjudged: what stays and of whom the statistics told too little: party, column, and the limits that do not
            judge it.
        final: the job over the selected columns, with the release that the file asks for.
    """

    format: Literal[1] = FORMAT
    selection: str
    name: str
    party: str
    method: str
    most_jobs: int
    costs: dict[str, float] = {}
    candidates: tuple[Pair, ...]
    left_out: Reasons = ()
    unjudged: Reasons = ()
    trials: tuple[Trial, ...] = ()
    steps: tuple[TrailStep, ...] = ()
    selected: tuple[Pair, ...] | None = None
    final: Trial | None = None

    def trial(self, job: str) -> Trial | None:
        """Find a job that is over."""
        return next((one for one in self.trials if one.job == job), None)

    def save(self, folder: Path) -> None:
        """Write the file for this user only.

        Raises:
            OSError: the disk does not take it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(folder / FILE, self.model_dump_json(indent=1).encode() + b"\n", ".unfinished")


def read_trail(folder: Path, selection: str) -> Trail | None:
    """Read the trail of this selection; None where there is none.

    Raises:
        Invalid: it is damaged, or of another selection.
    """
    path = folder / FILE
    try:
        found = Trail.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise Invalid(f"{path}: not a trail that this release writes; restore it, or give another folder") from None
    if found.selection != selection:
        raise Invalid(f"{path}: the trail of another selection, or of another state of this one; give another folder")
    return found


def pairs(columns: frozenset[Candidate] | tuple[Candidate, ...]) -> tuple[Pair, ...]:
    """Write columns as a trail has them, in order."""
    ordered = columns if isinstance(columns, tuple) else sorted(columns)
    return tuple((one.party, one.column) for one in ordered)
