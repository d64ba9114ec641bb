"""Bins are made in one pass, the same however rows are split, and about as many rows are in each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.binning import fit as fitting
from tercet.tables.binning.bins import CategoryBins, NumericBins, bin_counts
from tercet.tables.binning.fit import Binning, EvenSample, fit_bins, quantile_cuts, short_cut, width_cuts
from tests.tables.made_up import FINITE, TEXT, split, table


def _cuts(bins: NumericBins | CategoryBins) -> tuple[float, ...]:
    assert isinstance(bins, NumericBins)
    return bins.cuts


@given(
    rows=st.lists(st.tuples(st.just(np.nan) | FINITE | st.sampled_from([0.0, 1.0]), st.none() | TEXT), min_size=1),
    places=st.lists(st.integers(0, 50), max_size=3),
    binning=st.builds(Binning, st.integers(1, 6), st.sampled_from(["quantile", "width"]), st.integers(0, 3)),
)
def test_no_row_is_unseen_and_the_split_into_batches_changes_nothing(rows, places, binning) -> None:
    numbers, texts = zip(*rows, strict=True)
    whole = table({"x": numbers}, {"k": texts}, ("k", "x"))
    bins = fit_bins([whole], binning)
    assert bins == fit_bins(split(whole, places), binning)
    assert [one.name for one in bins] == ["k", "x"]
    levels, cuts = bin_counts(bins, [whole])
    assert levels[-1] == cuts[-1] == 0
    assert (levels[:-1] > 0).all()
    assert len(_cuts(bins[1])) < binning.count
    if binning.how == "quantile" and not np.isnan(numbers).all():
        assert (cuts[:-1] > 0).all()


@given(values=st.lists(FINITE, min_size=1, unique=True), count=st.integers(1, 12))
def test_quantile_bins_of_different_numbers_differ_by_one_row(values, count) -> None:
    cuts = quantile_cuts(np.array(values), count)
    sizes = np.bincount(np.searchsorted(np.array(cuts), values, side="right"), minlength=len(cuts) + 1)
    assert len(sizes) == min(count, len(values))
    assert sizes.max() - sizes.min() <= 1


def test_equal_numbers_stay_in_one_bin_at_either_end() -> None:
    assert quantile_cuts(np.array([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0]), 10) == (1.0,)
    assert quantile_cuts(np.array([5.0] * 95 + [1.0, 2.0, 3.0, 4.0, 4.5]), 10) == (5.0,)
    assert quantile_cuts(np.array([5.0] * 95), 10) == ()


@given(pair=st.tuples(FINITE, FINITE).filter(lambda pair: pair[0] != pair[1]).map(sorted))
def test_a_cut_is_between_its_sides_and_short(pair) -> None:
    below, above = pair
    assert below < short_cut(below, above) <= above
    assert short_cut(0.123456, 0.23456) == 0.2
    assert short_cut(24.0, 25.0) == 25.0


@given(pair=st.tuples(FINITE, FINITE).map(sorted), count=st.integers(1, 20))
def test_steps_of_equal_width_are_within_the_numbers(pair, count) -> None:
    low, high = pair
    cuts = width_cuts(low, high, count)
    assert all(low < cut <= high for cut in cuts)
    assert len(cuts) < count
    assert width_cuts(0.0, 10.0, 4) == (2.5, 5.0, 7.5)


def test_cuts_of_the_settings_stand() -> None:
    rows = table(numeric={"age": [20, 30, np.nan], "x": [1, 2, 3]})
    age, x = fit_bins([rows], Binning(count=3, cuts={"age": (25.0, 60.0)}))
    assert (_cuts(age), age.missing) == ((25.0, 60.0), 3)
    assert _cuts(x) == (2.0, 3.0)


def test_rare_levels_share_a_bin() -> None:
    (bins,) = fit_bins([table(categorical={"k": ["a"] * 3 + ["b", "c", None]})], Binning(rare=2))
    assert bins.labels == ("a", "rare", "missing")


def test_of_many_numbers_evenly_spaced_ones_are_looked_at(monkeypatch) -> None:
    """However they are split into batches; memory is bounded."""
    monkeypatch.setattr(fitting, "SAMPLE", 64)
    whole, samples = np.arange(10_000.0), []
    for places in ([], [3, 500, 501, 7777], range(1, 10_000, 7)):
        sample = EvenSample()
        for part in np.split(whole, list(places)):
            sample.add(part)
            assert len(sample.values) <= 64
        samples.append(sample.values.tolist())
    assert samples[0] == samples[1] == samples[2] == np.arange(0, 10_000, 256).tolist()
    (bins,) = fit_bins([table(numeric={"x": whole})], Binning(count=4))
    assert np.allclose(_cuts(bins), [2500, 5000, 7500], atol=300)


def test_bins_need_a_row() -> None:
    with pytest.raises(ValueError, match="row"):
        fit_bins([], Binning())
