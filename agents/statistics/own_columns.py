"""Bins a data party's columns over the rows that are counted, and standardises its numbers.

Nothing of it leaves from here; the role gives bins and numbers to the protocol.
"""

from dataclasses import dataclass

import numpy as np

from tercet.agents.alignment.aligned_table import AlignedTable, Marks, table_places
from tercet.agents.alignment.table_problems import report_table
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import encode
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.messages.kinds import MOST_BINNED, BinCounts
from tercet.tables.binning.bins import BinIndexes, CategoryBins, NumericBins, bin_indexes
from tercet.tables.binning.fit import Binning, fit_bins
from tercet.tables.core.moments import Moments
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Numbers, Table
from tercet.tables.encoding.store import FeatureStore, FeatureView

MOST_BITS = 20  # fractional bits of a standardised number


@dataclass(frozen=True, slots=True)
class Standard:
    """Standardises one numeric column; a missing value becomes the mean.

    Attributes:
        column: its place in the table.
        mean: of the rows that have a value.
        scale: standard deviation of all rows (divided by their number), those that lack a value at the mean.
    """

    column: int
    name: str
    mean: float
    scale: float

    def apply(self, table: Table) -> Numbers:
        """Return (value - mean) / scale of some rows, (rows,)."""
        return np.nan_to_num((table.numeric[self.name] - self.mean) / self.scale)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class OwnColumns:
    """Holds a party's columns as a statistics job counts them.

    Attributes:
        own: the table, and which of its rows all data parties have.
        held_out: of the common rows, which are not counted.
        bins: of each column.
        indexes: (rows, columns), the bins of the counted rows in the common order.
        standards: of the columns that are correlated; those that vary.
    """

    own: AlignedTable
    held_out: Marks
    bins: tuple[NumericBins | CategoryBins, ...]
    indexes: BinIndexes
    standards: tuple[Standard, ...]

    @property
    def ordered(self) -> tuple[int, ...]:
        """For each column its leading bins that are intervals of a number; none of a category."""
        return tuple(len(one.intervals) if isinstance(one, NumericBins) else 0 for one in self.bins)

    def counts(self, classes: int) -> BinCounts:
        """Collect what the other parties plan by."""
        bins, numeric = (one.count for one in self.bins), (one.column for one in self.standards)
        return BinCounts(bins=tuple(bins), numeric=tuple(numeric), classes=classes)

    def encode_numbers(self, context: JobContext, fx: int) -> FeatureView | None:
        """Write the standardised numbers of the counted rows to disk; None if there are none.

        They can be read in the common order.

        Raises:
            OSError: the disk does not take it.
        """
        if not self.standards:
            return None
        chosen = ~self.held_out
        places = table_places(self.own.rows[chosen])
        store = FeatureStore.create(context.work_folder, "numbers", len(places), len(self.standards))
        context.files.callback(store.close)
        for batch in self.own.table.batches(self.own.mark_rows(chosen)):
            store.append(encode(np.column_stack([one.apply(batch) for one in self.standards]), fx))
        return store.select(places)


async def bin_columns(context: JobContext, job: StatisticsJob, own: AlignedTable, held_out: Marks) -> OwnColumns:
    """Bin the columns by the counted rows, and find each row's bins.

    Raises:
        JobProblem: the columns cannot be binned; this party is named.
    """
    with report_table(context):
        return await context.compute(_bin_columns, context, job, own, held_out)


def _bin_columns(context: JobContext, job: StatisticsJob, own: AlignedTable, held_out: Marks) -> OwnColumns:
    settings = context.settings.tables[job.table_of(context.me)]
    counted = own.mark_rows(~held_out)
    table, asked = own.table, job.statistics
    if not table.columns:  # of a label party that has the label alone
        nothing = np.zeros((int(counted.sum()), 0), np.int16)
        return OwnColumns(own=own, held_out=held_out, bins=(), indexes=nothing, standards=())
    if len(table.columns) > MOST_BINNED:
        raise TableProblem(
            f"table {table.name!r} has {len(table.columns):,} columns, and statistics take {MOST_BINNED:,}",
            "name fewer columns under [columns] in the job",
            f"the table {table.name!r} has more columns than statistics take",
        )
    bins = fit_bins(table.batches(counted), Binning(asked.bins, asked.binning, settings.rare, settings.cuts))
    found = np.concatenate([bin_indexes(bins, batch) for batch in table.batches(counted)])
    return OwnColumns(
        own=own,
        held_out=held_out,
        bins=bins,
        indexes=found[table_places(own.rows[~held_out])],
        standards=_standards(own, counted, bins) if asked.correlations != "none" else (),
    )


def _standards(own: AlignedTable, counted: Marks, bins: tuple[NumericBins | CategoryBins, ...]) -> tuple[Standard, ...]:
    moments = {place: Moments() for place, one in enumerate(bins) if isinstance(one, NumericBins)}
    rows = int(counted.sum())
    for batch in own.table.batches(counted):
        for place, one in moments.items():
            values = batch.numeric[bins[place].name]
            one.add(values[~np.isnan(values)])
    found = []
    for place, one in moments.items():
        mean, scale = one.result
        if scale > 0:
            found.append(Standard(place, bins[place].name, mean, scale * float(np.sqrt(one.count / rows))))
    return tuple(found)


def number_bits(rows: int) -> int:
    """Choose the fractional bits of standardised numbers.

    No sum of their products over the rows may wrap.
    """
    return min(MOST_BITS, (62 - rows.bit_length()) // 2)
