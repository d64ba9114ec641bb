"""Opens the cells of one column after another, failing ones merged into passing ones.

It sees an owner's shares of its own cells, or the label party's of a partner's. A column's cells stand in an order that
only their owner knows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words, expect, to_signed
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.statistics.merging import Groups
from tercet.mpc.statistics.order import SecretOrder
from tercet.mpc.statistics.plan import StatisticsPlan

NOT_OPENED = 0  # among numbers of groups, which begin at 1


class WrongOpening(ValueError):
    """Opened groups, cells or products of columns cannot be what they should.

    The text names parties and no value.
    """


class OwnCells(NamedTuple):
    """Holds what a party knows of the cells of one of its own columns.

    Attributes:
        groups: For each bin the cell that it is part of; empty if no cell of the column was opened.
        rows: Rows of each cell, (cells,).
        sums: Sums of the targets in each cell, (cells, targets), signed; None where this party is not to know them.
    """

    groups: Groups
    rows: Signed
    sums: Signed | None


PartnerCells = tuple[Signed, ...]
"""For each column of a partner its opened cells in a secret order: (cells, 1 + targets), rows first; maybe none."""


def number_groups(plan: StatisticsPlan, me: int, order: SecretOrder, groups: Sequence[Groups]) -> Words:
    """Number the groups of a party's cells as they come in its secret order, (cells, 1).

    They count through all columns, from 1. 0 is a cell of a column of which nothing is opened.
    """
    numbered, count = np.zeros(plan.cells(me), np.uint64), 0
    for column, of_column in zip(plan.columns(me), groups, strict=True):
        if of_column:
            in_order = np.empty(len(of_column), np.int64)
            in_order[order.cells[column] - column.start] = of_column
            _, first, inverse = np.unique(in_order, return_index=True, return_inverse=True)
            numbered[column] = count + 1 + np.argsort(np.argsort(first))[inverse]
            count += len(first)
    return numbered[:, np.newaxis]


def check_groups(plan: StatisticsPlan, j: int, words: Words) -> list[int]:
    """Return how many groups each column of a partner has.

    Raises:
        WrongOpening: numbers that `number_groups` would not make.
    """
    counts, before = [], 0
    for column in plan.columns(j):
        names, first = np.unique(words[column, 0], return_index=True)
        is_open = names[0] != NOT_OPENED
        due = before + np.arange(1, len(names) + 1) if is_open else np.array([NOT_OPENED])
        if not np.array_equal(names, due) or (np.diff(first) < 0).any():
            raise WrongOpening(f"the groups of cells of party {j} are in no order")
        counts.append(len(names) if is_open else 0)
        before += counts[-1]
    return counts


def add_groups(words: Words, numbers: Words) -> Words:
    """Add up the rows of words, (cells, n), by group; (groups, n)."""
    made = np.zeros((int(numbers.max(initial=0)) + 1, words.shape[1]), np.uint64)
    np.add.at(made, numbers[:, 0].astype(np.int64), words)
    return made[1:]


def open_own(
    plan: StatisticsPlan, me: int, order: SecretOrder, groups: Sequence[Groups], cells: Words
) -> Script[list[OwnCells]]:
    """Open cells to the label party, as their owner; receive their sums if it may.

    Args:
        plan: The job's agreed numbers.
        me: The partner.
        order: Of its cells.
        groups: For each column.
        cells: Rows, and shares of sums, of each cell in the secret order, (cells, 1 + targets).
    """
    numbers = number_groups(plan, me, order, groups)
    yield Send("cell groups", 0, (plan.label,), numbers)
    mine = add_groups(cells, numbers)
    if not len(mine):
        return [OwnCells((), np.zeros(0, np.int64), None) for _ in groups]
    mine[:, 1:] = plan.reduce(mine[:, 1:])
    yield Send("cells", 0, (plan.label,), mine)
    sums: Signed | None = None
    if plan.woe:
        shape = (len(mine), plan.targets)
        theirs = received_words((yield Receive("cell sums", 0, {plan.label: shape})))[plan.label]
        sums = opened_sums(plan, mine[:, 1:], expect(theirs, shape, "the label party's shares of sums"))
    return [
        _own_column(of_column, numbers[order.cells[column], 0], to_signed(mine[:, 0]), sums)
        for column, of_column in zip(plan.columns(me), groups, strict=True)
    ]


def _own_column(groups: Groups, numbers: Words, rows: Signed, sums: Signed | None) -> OwnCells:
    """Put the opened groups of a column, by the numbers of its bins, into its own order."""
    places = np.array([int(numbers[groups.index(group)]) - 1 for group in range(max(groups, default=-1) + 1)], np.int64)
    return OwnCells(groups, rows[places], sums[places] if sums is not None and len(groups) else None)


def open_partner(plan: StatisticsPlan, j: int, share: Words, totals: Words) -> Script[PartnerCells]:
    """Open a partner's cells at the label party; send it their sums if it may know them.

    Args:
        plan: The job's agreed numbers.
        j: The partner.
        share: Of the sums of its cells, (cells, targets).
        totals: Of the targets over all rows, (targets,).

    Raises:
        WrongOpening: naming the partner, whose groups or cells cannot be.
    """
    shape = (plan.cells(j), 1)
    words = received_words((yield Receive("cell groups", 0, {j: shape})))[j]
    numbers = expect(words, shape, f"the groups of cells of party {j}")
    counts = check_groups(plan, j, numbers)
    mine, due = plan.reduce(add_groups(share, numbers)), (sum(counts), 1 + plan.targets)
    if not len(mine):
        return tuple(np.zeros((0, 1 + plan.targets), np.int64) for _ in counts)
    cells = expect(received_words((yield Receive("cells", 0, {j: due})))[j], due, f"the cells of party {j}")
    found = np.column_stack([to_signed(cells[:, 0]), opened_sums(plan, cells[:, 1:], mine)])
    columns = tuple(np.split(found, np.cumsum(counts)[:-1]))
    check_cells(plan, j, found)
    check_totals(plan, j, columns, totals)
    if plan.woe:
        yield Send("cell sums", 0, (j,), mine)
    return columns


def check_cells(plan: StatisticsPlan, j: int, cells: Signed) -> None:
    """Check that a partner's opened cells, (cells, 1 + targets), may be.

    Raises:
        WrongOpening: a cell below the minimum, or with more of its rows in classes than it has.
    """
    rows = cells[:, 0]
    classes = np.column_stack([rows - cells[:, 1:].sum(axis=1), cells[:, 1:]]) if plan.classes else rows[:, np.newaxis]
    if (classes < plan.least).any() or (rows > plan.rows).any():
        raise WrongOpening(f"a cell of party {j} is below the minimum, or has more rows than there are")


def check_totals(plan: StatisticsPlan, j: int, columns: Sequence[Signed], totals: Words) -> None:
    """Check that each opened column of a partner has all rows, and all of the targets.

    So a wrong word of any message is noticed, if its sender does not make up for it.

    Raises:
        WrongOpening: one does not.
    """
    due = np.concatenate([np.array([plan.rows]), to_signed(plan.reduce(totals))])
    if any(len(cells) and not np.array_equal(cells.sum(axis=0), due) for cells in columns):
        raise WrongOpening(f"the cells of a column of party {j} do not add up")


def opened_sums(plan: StatisticsPlan, a: Words, b: Words) -> Signed:
    """Add two shares of sums, as signed numbers."""
    return to_signed(plan.reduce(a + b))
