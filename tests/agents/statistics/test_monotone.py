"""Bins of an own column are merged by what its party knows of them, and measured anew."""

import numpy as np
import pytest

from tercet.agents.statistics.monotone import make_monotone
from tercet.agents.statistics.result import OwnColumn
from tercet.tables.binning.bins import CategoryBins, NumericBins

ROWS, EVENTS = (100, 100, 200, 50), ((10.0,), (40.0,), (60.0,), (25.0,))
COLUMN = OwnColumn(
    bins=NumericBins(name="age", cuts=(25.0, 40.0), missing=3), rows=ROWS, sums=EVENTS, woe=(0.0,) * 4, vif=1.5
)


def test_bins_of_numbers_are_merged_and_missing_values_stay_apart() -> None:
    found = make_monotone(COLUMN)
    assert found.bins.labels == ("(-inf, 25)", "[25, inf)", "missing")
    assert (found.rows, found.sums, found.vif) == ((100, 300, 50), ((10.0,), (100.0,), (25.0,)), 1.5)
    shares = np.array([10, 100, 25]) / 135, np.array([90, 200, 25]) / 315
    assert found.woe == pytest.approx(np.log(shares[0] / shares[1]), abs=1e-12)
    assert found.power is not None
    assert found.power.iv == pytest.approx(float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum()))
    assert OwnColumn.model_validate_json(found.model_dump_json()) == found


def test_what_has_no_order_or_no_weight_stays_as_it_is() -> None:
    levels = CategoryBins.single("k", ["a", "b", "c"], missing=True)
    for column in (COLUMN.model_copy(update={"bins": levels}), OwnColumn(bins=COLUMN.bins, rows=ROWS)):
        assert make_monotone(column) is column
