"""Compares what a simulated statistics job has told with plaintext, to the last bit.

The simulator alone may look at every party's bins and labels, which is what this takes.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from tercet.agents.runs.run import JobRun
from tercet.agents.statistics.data_party import Counting
from tercet.agents.statistics.own_targets import OwnTargets
from tercet.agents.statistics.result import StatisticsResult, read_statistics
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.reference.statistics import count_bins, passing_bins
from tercet.mpc.statistics.data_party import decode_correlations, decode_sums, encode_targets
from tercet.mpc.statistics.merging import merge_bins
from tercet.schemas.files.job import StatisticsJob

Cells = list[tuple[int, tuple[float, ...]]]
"""Of one column: rows and sums of each cell that is told."""


def counted_exactly(job: StatisticsJob, runs: Mapping[str, JobRun]) -> bool:
    """Tell whether every party has the plaintext's counts, sums and correlations, and no others."""
    sides = {party: run.reached for party, run in runs.items() if isinstance(run.reached, Counting)}
    results = {party: read_statistics(path) for party, run in runs.items() if (path := run.statistics) is not None}
    if not sides.keys() == results.keys() == set(job.data_parties):
        return False
    targets = sides[job.label].targets
    cells = {party: [] if targets is None else [*_cells(targets, side)] for party, side in sides.items()}
    partners = [sorted(one) for party in job.data_parties if party != job.label for one in cells[party]]
    found = [sorted(zip(one.rows, one.sums, strict=True)) for one in results[job.label].partners]  # in secret order
    return found == partners and all(
        _same_own(job, result, cells[party]) and _same_map(job, result, sides) for party, result in results.items()
    )


def _cells(targets: OwnTargets, side: Counting) -> Iterator[Cells]:
    """Yield what may be told of each column of a party."""
    plan, columns = side.context.plan, side.columns
    words = encode_targets(plan, targets.labels)
    unit = np.ones(plan.targets) if plan.classes else np.ldexp(1.0, np.array([1, 2]) * targets.exponent)
    for place, (bins, ordered) in enumerate(zip(columns.bins, columns.ordered, strict=True)):
        counted = count_bins(columns.indexes[:, place].astype(np.int64), bins.count, words)
        passes = passing_bins(counted, plan.least, classes=plan.classes > 0)
        groups = np.array(merge_bins(passes, counted[:, 0], ordered))
        merged = [counted[groups == each].sum(axis=0) for each in range(int(groups.max(initial=-1)) + 1)]
        sums = [(decode_sums(plan, one[np.newaxis, 1:])[0] * unit).tolist() for one in merged]
        yield [(int(one[0]), tuple(of_cell)) for one, of_cell in zip(merged, sums, strict=True)]


def _same_own(job: StatisticsJob, result: StatisticsResult, cells: list[Cells]) -> bool:
    """Compare a party's own columns, of whose label it may know nothing."""
    if result.party != job.label and not job.statistics.woe:
        return all(column.sums is None for column in result.own)
    return cells == [
        [] if column.sums is None else [*zip(column.rows, column.sums, strict=True)] for column in result.own
    ]


def _same_map(job: StatisticsJob, result: StatisticsResult, sides: Mapping[str, Counting]) -> bool:
    """Compare the correlations that a party knows, and which pairs these are."""
    found = result.correlations
    if found is None:
        return job.statistics.correlations == "none"
    numbers = {party: _numbers(side) for party, side in sides.items()}
    x = np.column_stack([numbers[axis.party][axis.number - 1] for axis in found.columns])
    exact = decode_correlations(sides[job.label].context.plan, x.T @ x)
    owners = [axis.party for axis in found.columns]
    known = np.array([[_may_know(job, result.party, one, other) for other in owners] for one in owners])
    expected = np.where(known, exact, np.where(np.eye(len(owners)) > 0, 1.0, np.nan))
    return np.array_equal(np.array(found.matrix, np.float64), expected, equal_nan=True)


def _numbers(side: Counting) -> Mapping[int, Words]:
    """Return the standardised words of a party's correlated columns, (rows,) each, by place."""
    if side.numbers is None:
        return {}
    words = side.numbers.read_rows(np.arange(side.numbers.shape[0]))
    return {one.column: column for one, column in zip(side.columns.standards, words.T, strict=True)}


def _may_know(job: StatisticsJob, party: str, one: str, other: str) -> bool:
    own = one == other == party
    return own or (party == job.label if job.statistics.correlations == "label" else party in {one, other})
