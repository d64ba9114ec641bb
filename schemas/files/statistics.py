"""Describes a job that counts: label by bin of each column, and how columns go together.

Nothing is trained. What each party may tell is the job's choice, and every party's own.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from tercet.schemas.core.strict import Name, Strict
from tercet.schemas.files.description import ColumnName, JobDescription, NamedColumns, OmitUnset, check_columns
from tercet.schemas.files.evaluation import Evaluation

LabelModel = Literal["logistic", "linear", "softmax", "one-vs-rest", "poisson", "gamma", "tweedie"]
Correlations = Literal["none", "pairs", "label"]
TWO_CLASSES = "logistic"
CLASSES = frozenset({"softmax", "one-vs-rest"})  # of which there are three or more


class Measures(OmitUnset):
    """Says what is counted, and who is told.

    Attributes:
        bins: of a numeric column, beside the one of missing values.
        binning: "quantile": bins with about as many rows each; "width": bins of one width. Where a party's settings
            list cuts of a column, these count.
        least: rows of each class that a bin has, or rows where the label is no class, before anybody is told of it.
        woe: whether each data party is told of its own bins' labels, hence their weight of evidence.
        correlations: to whom those of numeric columns are told: "pairs": of each two parties' to the two; "label": all
            to the label party, which tells each party its own columns' variance inflation.
    """

    bins: int = Field(default=10, ge=2, le=100)
    binning: Literal["quantile", "width"] = "quantile"
    least: int = Field(default=20, ge=1, le=1_000_000)
    woe: bool = False
    correlations: Correlations = "none"


class CountedRows(Strict):
    """Says which rows and which label a statistics job counted, as far as one party knows.

    Attributes:
        tables: for each data party, as the job named them.
        label_column: of the label party's table, where that party is this one.
        evaluation: which rows were held out, and so not counted.
    """

    tables: tuple[tuple[Name, Name], ...]
    label_column: ColumnName | None = None
    evaluation: Evaluation = Evaluation()


class StatisticsJob(JobDescription):
    """Asks for counts of the label by bin of every party's columns, and for correlations.

    Attributes:
        model: what kind of label there is, by the model that would be trained on it.
        evaluation: which rows are held out, and so not counted; nothing is told of them.
        columns: as in a training.
    """

    added = JobDescription.added | {"columns"}

    kind: Literal["statistics"]
    model: LabelModel = "logistic"
    statistics: Measures = Measures()
    evaluation: Evaluation = Evaluation()
    columns: NamedColumns = ()

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        check_columns(self, self.columns)
        return self

    @model_validator(mode="after")
    def _scores_nothing(self) -> Self:
        said = self.evaluation
        rows = {name: getattr(said, name) for name in ("holdout", "split", "holdout_column", "holdout_from")}
        if said != Evaluation(**rows):
            raise ValueError(
                "held-out rows are left out of statistics, and nothing is told of them: under [evaluation] write "
                "holdout, split, holdout_column or holdout_from alone"
            )
        return self

    @property
    def link(self) -> str:
        """The link between such a label and a score: the model's name."""
        return self.model

    @property
    def counts_classes(self) -> bool:
        """Tell whether the label is a class, so that a bin has a count of each."""
        return self.model == TWO_CLASSES or self.model in CLASSES

    def columns_of(self, party: str) -> tuple[str, ...] | None:
        """Return a party's columns as the job names them."""
        return dict(self.columns).get(party)

    def holdout_column_of(self, party: str) -> str | None:
        """Return the column of a party that says which rows are held out."""
        return self.evaluation.holdout_column if party == self.label else None
