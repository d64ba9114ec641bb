"""Small cells of a statistics job: what a curious party reads in them.

A partner that may know its WOE gives single rows bins of their own, to read their labels. The label party counts how
often each rare level of a partner occurs. Each looks at nothing but what it is sent.
"""

from contextlib import ExitStack
from functools import cache
from unittest import mock

import numpy as np

from tercet.mpc.statistics.plan import DEFAULT_LEAST, StatisticsPlan
from tests.mpc.statistics.world import StatisticsJob, StatisticsWorld

LABEL, OWNER = 0, 1
ROWS, CHOSEN, LEVELS = 600, 40, 12
POSITIVES = 0.5


@cache
def scene() -> StatisticsJob:
    """A column with a bin for each of the chosen rows; one with rare levels; one like the first but for one row."""
    rng = np.random.default_rng(5)
    single = np.minimum(np.arange(ROWS), CHOSEN)
    rare = np.repeat(np.arange(LEVELS + 1), [*range(1, LEVELS + 1), ROWS - LEVELS * (LEVELS + 1) // 2])
    halves = np.arange(ROWS) % 2
    moved = halves.copy()
    moved[0] = 1 - moved[0]
    bins = np.column_stack([single, rng.permutation(rare), halves, moved])
    plan = StatisticsPlan(ROWS, LABEL, ((), (CHOSEN + 1, LEVELS + 1, 2, 2)), woe=True)
    y = (rng.random(ROWS) < POSITIVES).astype(np.float64)
    return StatisticsJob(plan, [np.zeros((ROWS, 0), np.int64), bins], [np.zeros((ROWS, 0), np.uint64)] * 2, y)


@cache
def done(protected: bool) -> StatisticsWorld:
    """The job; unprotected, every cell passes, and the label party looks at none."""
    job = scene()
    with ExitStack() as patches:
        if not protected:
            patches.enter_context(mock.patch("tercet.mpc.statistics.opening.check_cells"))
            patches.enter_context(
                mock.patch("tercet.mpc.statistics.data_party.merge_bins", lambda passes, *_: tuple(range(len(passes))))
            )
        return StatisticsWorld(job).run()


def single_rows(protected: bool) -> float:
    """The part of the chosen rows whose label their owner reads; where it has no sum it guesses the most frequent."""
    column, truth = done(protected).results["cells"][OWNER][0][0], scene().y[:CHOSEN]
    guess = float(np.mean(truth) >= 1 / 2)
    found = [
        float(column.sums[column.groups[row], 0] / column.rows[column.groups[row]] > 1 / 2)
        if column.groups and column.rows[column.groups[row]] == 1
        else guess
        for row in range(CHOSEN)
    ]
    return float(np.mean(np.array(found) == truth))


def guessed() -> float:
    """The most frequent label among them."""
    truth = scene().y[:CHOSEN]
    return float(max(truth.mean(), 1 - truth.mean()))


def rare_levels(protected: bool) -> float:
    """The part of a partner's rare levels whose number of rows the label party counts."""
    _, partners = done(protected).results["cells"][LABEL]
    seen = {*partners[OWNER][1][:, 0].tolist()}
    return len(seen & {*range(1, LEVELS + 1)}) / LEVELS


def from_two_columns() -> bool:
    """Whether the difference of two columns' sums gives away the one row that they differ in, whatever is checked."""
    halves, moved = done(protected=True).results["cells"][OWNER][0][2:]
    return bool(halves.sums[0, 0] - moved.sums[0, 0] == scene().y[0])


# --- what the arithmetic does not protect from: agents bound bins by rows, and ask partners about amounts


def from_marks() -> tuple[float, float]:
    """The part of the chosen rows whose label their owner reads in marks of two jobs without WOE, and a guess.

    The first has growing cells, up to where they begin to have enough of a class: the row that made it so is of that
    class. The second has the cell before it and one more row each.
    """
    y, row = scene().y, np.arange(ROWS)
    passing = _passes([row < size for size in range(DEFAULT_LEAST, 5 * DEFAULT_LEAST)], y)
    last = DEFAULT_LEAST + passing.index(True) - 1
    chosen = row[last : last + CHOSEN]
    same = np.array(_passes([(row < last) | (row == one) for one in chosen], y))
    return float(np.mean(same == (y[chosen] == y[last]))), max(y[chosen].mean(), 1 - y[chosen].mean())


def _passes(cells: list[np.ndarray], y: np.ndarray) -> list[bool]:
    """Tell of each cell, in a column of its own beside all other rows, whether it has enough of each class."""
    bins = np.column_stack(cells).astype(np.int64)
    plan = StatisticsPlan(ROWS, LABEL, ((), (2,) * len(cells)))
    nothing, numbers = np.zeros((ROWS, 0), np.int64), [np.zeros((ROWS, 0), np.uint64)] * 2
    own = StatisticsWorld(StatisticsJob(plan, [nothing, bins], numbers, y)).run().results["cells"][OWNER][0]
    assert all(column.sums is None for column in own)
    return [len({*column.groups}) == 2 for column in own]


def from_powers() -> float:
    """The part of pairs of chosen rows of which the label party reads in sums whether they share a bin."""
    few, bins = 25, np.random.default_rng(5).integers(0, 5, (ROWS, 1))
    y = np.zeros(ROWS)
    y[:few] = 2.0 ** np.arange(few)
    plan = StatisticsPlan(ROWS, LABEL, ((), (5,)), classes=0)
    nothing, numbers = np.zeros((ROWS, 0), np.int64), [np.zeros((ROWS, 0), np.uint64)] * 2
    done = StatisticsWorld(StatisticsJob(plan, [nothing, bins], numbers, y)).run()
    sums = done.results["cells"][LABEL][1][OWNER][0][:, 1]
    found = [next(cell for cell, total in enumerate(sums) if int(total) >> row & 1) for row in range(few)]
    return float(np.mean([(found[i] == found[j]) == (bins[i, 0] == bins[j, 0]) for i in range(few) for j in range(i)]))
