"""Describes a selection of columns as a person writes it: `tercet select FILE.toml`.

It holds one training job without its columns, the columns that may be in it, and how they are chosen.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tercet.schemas.core.strict import JobId, Name, TomlModel
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import ColumnName, TrainingJob, canonical_digest, parse_job, read_toml
from tercet.schemas.files.mistakes import explain

Named = dict[Name, tuple[ColumnName, ...]]  # columns by data party


class ColumnFilter(TomlModel):
    """Says which columns a statistics job's result leaves out, before anything is trained.

    Attributes:
        statistics: the id of that job, whose result lies at this party.
        min_iv: an information value below it leaves a column out.
        max_correlation: of two columns that correlate more, in size, the one of lower information value goes.
        max_vif: while any variance inflation factor is above it, the column with the largest goes.
    """

    statistics: JobId
    min_iv: float | None = Field(default=None, ge=0)
    max_correlation: float | None = Field(default=None, gt=0, le=1)
    max_vif: float | None = Field(default=None, ge=1)


class Search(TomlModel):
    """Says how columns are chosen by the held-out losses of a sequence of jobs.

    Attributes:
        method: "forward" adds the best column of all in each step; "backward" drops the least useful; "refit" drops
            own columns of the smallest weights and trains again; "none" trains what the filters leave.
        min_gain: of the held-out loss; less is no gain.
        max_steps: at most so many steps.
        max_jobs: a selection that may take more is refused before its first.
        share: of "refit": the part of own columns that goes in each step, and at least one.
    """

    method: Literal["forward", "backward", "refit", "none"] = "forward"
    min_gain: float = Field(default=0.0, ge=0)
    max_steps: int = Field(default=20, ge=1, le=1000)
    max_jobs: int = Field(default=100, ge=1, le=10_000)
    share: float = Field(default=0.2, gt=0, lt=1)


class SelectionFile(TomlModel):
    """Describes one selection.

    Attributes:
        job: the training, with held-out rows that are the same in each job.
        columns: by party the candidates. Parties that are not named use all that their settings allow, in each job.
        always: by party those of its candidates that are in each job.
    """

    job: Annotated[TrainingJob, Field(strict=True)]
    columns: Named = Field(min_length=1)
    always: Named = {}
    filter: ColumnFilter | None = None
    search: Search = Search()

    @model_validator(mode="after")
    def _jobs_can_be_compared(self) -> Self:
        evaluation, stopping = self.job.evaluation, self.job.early_stopping
        if not evaluation.held_out_loss:
            raise ValueError("columns are chosen by held-out loss: write held_out_loss = true under [job.evaluation]")
        if evaluation.split is None and evaluation.holdout_column is None:
            raise ValueError("all jobs hold out the same rows: name a split or holdout_column under [job.evaluation]")
        if stopping is not None and stopping.on not in {"held_out_loss", "loss"}:
            raise ValueError('jobs of a selection score no rows: stop early on = "held_out_loss", or not at all')
        if self.search.method == "refit" and self.job.release == "shared":
            raise ValueError('"refit" goes by weights, and release = "shared" receives none: use another of the two')
        if self.job.columns or self.job.start is not None:
            raise ValueError("a selection chooses the columns: leave [job.columns] and start out")
        return self

    @model_validator(mode="after")
    def _columns_are_of_the_job(self) -> Self:
        for section, named in (("columns", self.columns), ("always", self.always)):
            if unknown := named.keys() - {*self.job.data_parties}:
                raise ValueError(f"[{section}] names {min(unknown)}, which has no entry in [job.tables]")
            if wrong := [party for party, names in named.items() if len({*names}) != len(names)]:
                raise ValueError(f"[{section}] names a column of {wrong[0]} twice")
        for party, names in self.always.items():
            if not {*names} <= {*self.columns.get(party, ())}:
                raise ValueError(f"[always] names a column of {party} that is not among its [columns]")
        bare = [party for party, names in self.columns.items() if not names and party != self.job.label]
        if bare:
            raise ValueError(f"{bare[0]} needs a column in each job: name some under [columns], or leave it out there")
        return self

    @property
    def digest(self) -> str:
        """The same for the same selection, by which a trail belongs to it."""
        return canonical_digest("tercet selection", [self.job.canonical(), self.model_dump(exclude={"job"})]).hex()


def read_selection(path: Path) -> SelectionFile:
    """Read FILE.toml.

    Raises:
        Invalid: the file is missing, is not TOML or has a field that is wrong; the text names it.
    """
    content: dict[str, Any] = read_toml(path)
    described = content.get("job")
    if not isinstance(described, dict):
        raise Invalid(f"{path}: it needs the training under [job], as JOB.toml has it")
    job = parse_job(described, f"{path}: [job]")
    if not isinstance(job, TrainingJob):
        raise Invalid(f"{path}: [job] trains a model: leave kind out")
    written = content | {"job": job}
    try:
        return SelectionFile.model_validate(written)
    except ValidationError as error:
        raise Invalid(explain(path, error, SelectionFile, content=content)) from None
