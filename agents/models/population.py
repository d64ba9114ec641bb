"""Counts rows by bin, so that new rows can be compared with those that were trained on.

It keeps cuts, levels and counts, and no row's value. A party's counts stay in its own model part.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tercet.agents.evaluation.stability import Stability, stability
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.core.strict import Strict
from tercet.tables.binning.bins import UNSEEN, ColumnBins, bin_counts
from tercet.tables.binning.fit import Binning, fit_bins
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.woe import WoeColumn

BINS: Final = 10  # of numbers, and of scores: deciles
LEAST_SHARE: Final = 100  # levels with less than a hundredth of the rows share a bin
SCORE: Final = "score"

Batches = Callable[[], Iterable[Table]]
Count = Annotated[int, Field(ge=0)]


class BinCounts(Strict):
    """Counts the rows in each bin of a column, or of scores.

    Attributes:
        rows: in each bin; in the order of the bins.
    """

    bins: ColumnBins
    rows: tuple[Count, ...]

    @model_validator(mode="after")
    def _each_bin_is_counted(self) -> Self:
        if len(self.rows) != self.bins.count:
            raise ValueError("there is not a count for each bin")
        return self


class Population(Strict):
    """Describes the rows that a model was made of, at one party.

    Attributes:
        columns: this party's own columns, counted on the rows that were trained on.
        scores: of the held-out rows under the model, at the label party; None where it was told none.
    """

    columns: tuple[BinCounts, ...] = ()
    scores: BinCounts | None = None


def count_columns(encoding: Encoding, rows: int, rare: int, batches: Batches) -> tuple[BinCounts, ...]:
    """Count training rows by bins of each column: those of its WOE, else deciles, or levels.

    Args:
        encoding: fitted to the same rows.
        rows: how many.
        rare: levels with fewer rows share one bin, as do those with less than a hundredth of all.
        batches: gives the rows whenever it is called.
    """
    if not encoding.columns or not rows:
        return ()
    fitted = fit_bins(batches(), Binning(count=BINS, rare=max(rare, rows // LEAST_SHARE)))
    bins = {one.name: one for one in fitted}
    bins |= {column.name: column.bins for column in encoding.columns if isinstance(column, WoeColumn)}
    return _count([bins[column.name] for column in encoding.columns], batches())


def count_scores(scores: Floats) -> BinCounts:
    """Count scores, (rows,) or (rows, outputs), by their deciles.

    Of several classes rows are counted by the most likely one.
    """
    classes = scores.shape[1] if scores.ndim > 1 else 1
    cuts = {SCORE: tuple(map(float, range(1, classes)))} if classes > 1 else {}
    table = score_table(scores)
    (counted,) = _count(fit_bins([table], Binning(count=BINS, cuts=cuts)), [table])
    return counted


def score_table(scores: Floats) -> Table:
    """Make the table that scores, (rows,) or (rows, outputs), are counted as: a column, `SCORE`."""
    many = scores.ndim > 1 and scores.shape[1] > 1
    column = scores.argmax(axis=1).astype(np.float64) if many else scores.reshape(len(scores))
    return Table(SCORE, len(scores), (SCORE,), {SCORE: column}, {})


def compare_columns(population: Population, batches: Iterable[Table]) -> tuple[Stability, ...]:
    """Compare new rows with those that were trained on, column by column.

    Values that no bin has are unseen, a bin of their own.
    """
    columns = population.columns
    counts = bin_counts([one.bins for one in columns], batches)
    return tuple(_compare(one.bins.name, one, now) for one, now in zip(columns, counts, strict=True))


def compare_scores(population: Population, scores: Floats) -> Stability | None:
    """Compare scores of new rows with those of the held-out ones, if there were any."""
    known = population.scores
    return None if known is None else _compare("", known, bin_counts([known.bins], [score_table(scores)])[0])


def _compare(name: str, known: BinCounts, now: NDArray[np.int64]) -> Stability:
    return stability(name, (*known.bins.labels, UNSEEN), (*known.rows, 0), now.tolist())


def _count(bins: Sequence[ColumnBins], batches: Iterable[Table]) -> tuple[BinCounts, ...]:
    counts: tuple[NDArray[np.int64], ...] = bin_counts(bins, batches)
    return tuple(BinCounts(bins=one, rows=tuple(rows[:-1].tolist())) for one, rows in zip(bins, counts, strict=True))
