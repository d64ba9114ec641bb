"""Holds what one party has learnt in a statistics job, as its file has it.

Console, page, report and Python read this, and nothing else. A training may encode columns by it.
"""

from math import inf
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, model_validator

from tercet.schemas.core.strict import JobId, Name, Strict
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.statistics import CLASSES, TWO_CLASSES, CountedRows, LabelModel
from tercet.tables.binning.bins import ColumnBins
from tercet.tables.core.durable import write_durably

FILE: Final = "statistics.json"
FOLDER: Final = "statistics"  # of the state folder; a folder of it for each job
FORMAT: Final = 1

NO_END: Final = "inf"  # in the file, which has no number for it

Factor = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(lambda written: inf if written == NO_END else written),
    PlainSerializer(lambda factor: NO_END if factor == inf else factor, when_used="json"),
]
"""A variance inflation factor; inf of a column that is a sum of others."""

Sums = tuple[tuple[float, ...], ...]
"""For each bin or cell: rows of each class but the first, or the sums of a count or amount and of its square."""


class Power(Strict):
    """Says how well one column tells labels apart.

    Attributes:
        iv, ks, gini: of a label of classes. Of more than two each class is told from all others, and the column has
            the largest.
        explained: of a count or an amount: the part of its variance that lies between bins.
    """

    iv: float | None = None
    ks: float | None = None
    gini: float | None = None
    explained: float | None = None


class OwnColumn(Strict):
    """One of this party's own columns.

    Attributes:
        bins: as they were told, those with too few rows of a class merged into others.
        rows: of each bin.
        sums: of each bin; None where nothing of the label is known here.
        woe: of each bin, where there are two classes and the sums are known.
        power: where the sums are known.
        vif: of a numeric column, where it was told.
    """

    bins: ColumnBins
    rows: tuple[int, ...]
    sums: Sums | None = None
    woe: tuple[float, ...] | None = None
    power: Power | None = None
    vif: Factor | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = [len(values) for values in (self.rows, self.sums, self.woe) if values is not None]
        if set(known) != {self.bins.count}:
            raise ValueError("each bin has its rows, and where the label is known its sums")
        return self

    @property
    def name(self) -> str:
        """The column's name in the table."""
        return self.bins.name


class PartnerColumn(Strict):
    """A column of another party, as the label party knows it.

    Attributes:
        party: whose it is.
        number: among that party's columns, from 1.
        name: where that party tells it.
        rows: of each cell, in an order that is the owner's secret; empty where no bin had enough of each class.
        sums: of each cell.
        power: None where there is no cell.
        vif: as of an own column.
    """

    party: Name
    number: int = Field(ge=1)
    name: str | None = None
    rows: tuple[int, ...] = ()
    sums: Sums = ()
    power: Power | None = None
    vif: Factor | None = None


class Axis(Strict):
    """One column of the correlations."""

    party: Name
    number: int = Field(ge=1)
    name: str | None = None


class CorrelationMap(Strict):
    """Correlations of numeric columns, as far as this party knows them.

    Attributes:
        columns: which columns they are of.
        matrix: (columns, columns), None of two that this party was not told.
    """

    columns: tuple[Axis, ...]
    matrix: tuple[tuple[float | None, ...], ...]


class StatisticsResult(Strict):
    """Holds what one party has learnt in a statistics job.

    Attributes:
        counted: which rows and which label they are of.
        rows: that were counted.
        held_out: that were not.
        label: what kind of label there is, by its model.
        classes: their names at the label party, in the order of the sums, the first one without a sum.
        own: this party's columns.
        partners: at the label party the others' columns.
    """

    format: Literal[1] = FORMAT
    job: JobId
    run: str
    party: Name
    label_party: Name
    counted: CountedRows
    rows: int
    held_out: int
    label: LabelModel
    classes: tuple[str, ...] = ()
    own: tuple[OwnColumn, ...]
    partners: tuple[PartnerColumn, ...] = ()
    correlations: CorrelationMap | None = None

    @property
    def counts_classes(self) -> bool:
        """Tell whether the label is a class, and sums count rows."""
        return self.label == TWO_CLASSES or self.label in CLASSES

    def save(self, folder: Path) -> Path:
        """Write the file; its folder is made if need be, readable for its owner only.

        Raises:
            OSError: the disk does not take it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        path = folder / FILE
        write_durably(path, self.model_dump_json(indent=1).encode() + b"\n", ".unfinished")
        return path


def statistics_file(state: Path, job: str) -> Path:
    """Name the file of a job's statistics in a party's state folder."""
    return state / FOLDER / job / FILE


def read_statistics(path: Path) -> StatisticsResult:
    """Read a party's file.

    Raises:
        Invalid: there is none, or it is damaged or of another release.
    """
    try:
        return StatisticsResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; give a statistics job that is done, on its agent's machine") from None
    except ValidationError:
        raise Invalid(
            f"{path}: not the statistics that this release writes; restore it, or run the job again"
        ) from None
