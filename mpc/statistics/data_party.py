"""Plays a data party in a statistics job: a pass over the rows, a check, and what is opened.

Before `open_cells` nobody has anything but masked words and shares. The script of the pass are in `sums`, those of the
check in `checks`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Signed, Words, to_signed
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Script
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.merging import Groups
from tercet.mpc.statistics.plan import StatisticsPlan

BinIndexes = NDArray[np.integer]


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


class StatisticsParty:
    """Acts as data party `me`. Not to be shared by threads.

    For each step of `plan.steps()` the script `run_step`; any number of steps may be driven side by side, each begun in
    order. Then for each step of `plan.check_steps()` the script `check_cells`, likewise. Then at
    `plan.opening_step()` the scripts `open_cells` and `open_correlations`, once each.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        bins: This party's bins by row, (rows, columns), each below `plan.bins[me]`.
        ordered: For each column the leading bins that are intervals of a number; 0 of a category.
        masks: Shared with the helper, for this purpose alone.
        key: 32 random bytes of this party alone: by them its bins have a secret order.
        targets: At the label party `encode_targets`, (rows, targets); elsewhere None.
        numbers: The columns to correlate, with f_x bits; None if this party has none.

    Raises:
        ValueError: bins or targets that are not what the plan says.
    """

    def __init__(
        self,
        me: int,
        plan: StatisticsPlan,
        bins: BinIndexes,
        ordered: tuple[int, ...],
        *,
        masks: Masks,
        key: bytes,
        targets: Words | None = None,
        numbers: FeatureSource | None = None,
    ) -> None:
        raise NotImplementedError

    def run_step(self, step: Step) -> Script[None]:
        """Exchange a batch's masked words, and add to this party's shares.

        Its last step receives what the helper has dealt for the whole pass.

        Raises:
            ShapeProblem: naming the sender of words of a wrong shape.
        """
        raise NotImplementedError

    def check_cells(self, step: Step) -> Script[None]:
        """Find out, at the owner alone, which of its cells have the minimum of each class."""
        raise NotImplementedError

    def open_cells(self) -> Script[tuple[list[OwnCells], Mapping[int, PartnerCells]]]:
        """Open cells that pass, failing ones merged into them.

        Returns:
            This party's own columns, in its own order; and at the label party by partner what it has learnt.

        Raises:
            WrongOpening: naming a partner whose cells cannot be.
        """
        raise NotImplementedError

    def open_correlations(self) -> Script[Mapping[tuple[int, int], Words]]:
        """Open X_i^T X_j, exact with 2 f_x fractional bits, to whom the plan says.

        Returns:
            By pair i <= j what this party may know, its own X_i^T X_i included; (columns of i, columns of j).
        """
        raise NotImplementedError


def encode_targets(plan: StatisticsPlan, y: NDArray[np.float64]) -> Words:
    """Encode the label party's labels, (rows,), as (rows, targets).

    Classes 0, 1, ... become a 0/1 column for each but the first. A count or an amount becomes y, rounded to
    `plan.target_bits`, and its exact square with twice as many.

    Raises:
        ValueError: a class that is not among the plan's, or squares whose sum over all rows could wrap.
    """
    raise NotImplementedError


def decode_sums(plan: StatisticsPlan, sums: Signed) -> NDArray[np.float64]:
    """Decode opened sums, (cells, targets): whole counts, or sums of y and y^2."""
    bits = np.zeros(plan.targets) if plan.classes else np.array([plan.target_bits, 2 * plan.target_bits])
    return np.ldexp(sums.astype(np.float64), -bits.astype(np.int64))


def decode_correlations(plan: StatisticsPlan, products: Words) -> NDArray[np.float64]:
    """Decode X_i^T X_j of standardised columns as correlations."""
    return np.ldexp(to_signed(products).astype(np.float64), -2 * plan.fx) / plan.rows
