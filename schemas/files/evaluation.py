"""Says which rows a job holds out, and what is told of them."""

from datetime import date
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tercet.schemas.core.strict import Name
from tercet.schemas.files.description import ColumnName, OmitUnset


class Evaluation(OmitUnset):
    """Says what the label party learns of the model's quality before a release.

    Attributes:
        holdout: the part of the aligned rows that is not trained on, chosen by a keyed hash of the id.
        folds: instead of `holdout`: so many folds of the rows, by a keyed hash of the id. For each a model of the other
            rows is trained, scores the fold and is dropped; the model of all rows comes last.
        split: a name for the choice: every job of the same data parties that names it holds out the same rows.
        holdout_column: instead of `holdout`: the label party's column that says which rows are held out. Its settings
            list it under `holdouts`; no such column is trained on.
        holdout_from: the first day, like "2026-06-01", or number in it that is held out; without it the column is a
            flag, which is true or 1 where a row is held out.
        metrics: when the held-out rows are scored, if at all; each time the label party learns their scores.
        every: with "epoch": after every so many epochs, and after the last.
        loss: whether the mean training loss of each epoch is opened: one number, nothing for each row.
        held_out_loss: whether the mean loss of the held-out rows is opened after each epoch: likewise.
        loss_to: to whom the two are.
        held_out_scores: whether the label party gets the last scores of the held-out rows as a file, with their ids.
    """

    added = frozenset({"held_out_loss", "every", "split", "holdout_column", "holdout_from", "held_out_scores", "folds"})

    holdout: float = Field(default=0.0, ge=0, le=0.9)
    folds: int = Field(default=0, ge=0, le=20)
    split: Name | None = None
    holdout_column: ColumnName | None = None
    holdout_from: float | str | None = None
    metrics: Literal["none", "end", "epoch"] = "end"
    every: int = Field(default=1, ge=1, le=100_000)
    loss: bool = False
    held_out_loss: bool = False
    loss_to: Literal["label", "all"] = "label"
    held_out_scores: bool = False

    @field_validator("holdout_from", mode="before")
    @classmethod
    def _day_as_text(cls, start: Any) -> Any:
        """Turn a day into text: TOML has dates too."""
        return start.isoformat() if type(start) is date else start

    @field_validator("holdout_from")
    @classmethod
    def _is_a_day(cls, start: float | str | None) -> float | str | None:
        if isinstance(start, str):
            try:
                date.fromisoformat(start)
            except ValueError:
                raise ValueError('write a day like "2026-06-01", or a number') from None
        return start

    @property
    def holds_out(self) -> bool:
        """Tell whether any row is held out."""
        return self.holdout > 0 or self.folds > 0 or self.holdout_column is not None

    @property
    def choice(self) -> str:
        """The setting that says which rows are held out."""
        column = self.holdout_column
        by_chance = f"folds = {self.folds}" if self.folds else f"holdout = {self.holdout:g}"
        return by_chance if column is None else f'holdout_column = "{column}"'

    @property
    def chosen_rows(self) -> tuple[float | str | None, ...]:
        """All that says which rows are held out.

        Jobs of the same data parties that agree in it hold out the same, if `is_lasting`.
        """
        return self.holdout, self.folds, self.split, self.holdout_column, self.holdout_from

    @property
    def is_lasting(self) -> bool:
        """Tell whether each job of the same data parties holds out the same rows."""
        return self.split is not None or self.holdout_column is not None

    @model_validator(mode="after")
    def _one_choice_of_rows(self) -> Self:
        if self.holdout_column is not None and (self.holdout > 0 or self.split is not None):
            raise ValueError("write holdout_column to hold rows out by a column, or holdout by chance; one of them")
        if self.holdout_from is not None and self.holdout_column is None:
            raise ValueError("holdout_from is a value of a column: write holdout_column too")
        return self

    @model_validator(mode="after")
    def _folds_are_scored_once(self) -> Self:
        if not self.folds:
            return self
        if self.folds == 1:
            raise ValueError("folds are at least 2: each is scored by a model of the others' rows")
        if self.holdout > 0 or self.holdout_column is not None:
            raise ValueError("write folds, or hold rows out by holdout or holdout_column; one of them")
        if self.metrics != "end" or self.held_out_loss or self.held_out_scores:
            raise ValueError(
                'each of the folds is scored once, when its model is trained: leave metrics at "end", and leave out '
                "held_out_loss and held_out_scores"
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_held_out_row(self) -> Self:
        if self.held_out_loss and not self.holds_out:
            raise ValueError("held_out_loss needs rows that are held out: write holdout = 0.2, say")
        if self.held_out_scores and (not self.holds_out or self.metrics == "none"):
            raise ValueError("held_out_scores needs rows that are held out and scored: write holdout = 0.2, say")
        if self.split is not None and self.holdout == 0 and not self.folds:
            raise ValueError("split names which rows are held out: write holdout = 0.2, say, beside it")
        if self.every > 1 and self.metrics != "epoch":
            raise ValueError('every counts epochs between two scorings: write metrics = "epoch" too, or leave it out')
        return self
