"""Each row has one bin of each column; bins merge, have a text each, and survive JSON."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tercet.tables.binning.bins import CategoryBins, ColumnBins, NumericBins, bin_counts, bin_indexes
from tests.tables.made_up import FINITE, TEXT, table

ADAPTER: TypeAdapter[NumericBins | CategoryBins] = TypeAdapter(ColumnBins)


@st.composite
def numeric_bins(draw):
    cuts = tuple(sorted(set(draw(st.lists(FINITE, max_size=6)))))
    return NumericBins(name="x", cuts=cuts, missing=draw(st.none() | st.integers(0, len(cuts) + 1)))


@st.composite
def category_bins(draw):
    levels = draw(st.lists(TEXT, unique=True, max_size=6))
    rare = draw(st.booleans()) or not levels
    return CategoryBins.single("x", levels, rare=rare, missing=draw(st.booleans()))


@st.composite
def merging(draw, bins):
    """Groups of bins that may be merged, in an order that is theirs."""
    places = list(range(bins.count))
    if isinstance(bins, CategoryBins):
        chosen = [draw(st.integers(0, 2)) for _ in places]
        return [group for k in range(3) if (group := [place for place in places if chosen[place] == k])]
    groups = [[0]]
    for place in range(1, len(bins.cuts) + 1):
        groups = [*groups[:-1], [*groups[-1], place]] if draw(st.booleans()) else [*groups, [place]]
    if bins.count > len(bins.cuts) + 1:
        place = draw(st.integers(0, len(groups)))
        groups = [*groups, [places[-1]]] if place == len(groups) else groups
        groups[place] = [*groups[place], *([] if places[-1] in groups[place] else [places[-1]])]
    return groups


def values_of(bins):
    """A column of values that the bins may or may not know."""
    if isinstance(bins, NumericBins):
        near = st.sampled_from([0.0, *bins.cuts])
        return st.lists(st.just(np.nan) | FINITE | near, min_size=1).map(lambda x: table(numeric={"x": x}))
    return st.lists(st.none() | TEXT, min_size=1).map(lambda x: table(categorical={"x": x}))


any_bins = numeric_bins() | category_bins()


@given(bins=any_bins, data=st.data())
def test_each_row_has_the_one_bin_that_its_value_belongs_to(bins, data) -> None:
    rows = data.draw(values_of(bins))
    found = bin_indexes([bins, bins], rows)
    assert found.shape == (rows.rows, 2)
    assert found.dtype == np.int16
    for value, place in zip((rows.numeric or rows.categorical)["x"], found[:, 1], strict=True):
        if value is None or value != value:
            assert place == (bins.count if bins.missing is None else bins.missing)
        elif isinstance(bins, NumericBins):
            assert [k for k, (low, high) in enumerate(bins.intervals) if low <= value < high] == [place]
        else:
            holds = [k for k, levels in enumerate(bins.levels) if value in levels]
            assert [place] == (holds or [bins.count if bins.rare is None else bins.rare])
    assert (
        bin_counts([bins], [rows, rows])[0].tolist()
        == (2 * np.bincount(found[:, 0], minlength=bins.count + 1)).tolist()
    )


@given(bins=any_bins, data=st.data())
def test_merged_bins_have_the_rows_of_their_parts(bins, data) -> None:
    groups, rows = data.draw(merging(bins)), data.draw(values_of(bins))
    merged = ADAPTER.validate_json(bins.merged(groups).model_dump_json())  # so it is valid too
    assert merged.count == len(groups)
    places = {old: new for new, group in enumerate(groups) for old in group} | {bins.count: merged.count}
    assert merged.find_bins(rows).tolist() == [places[old] for old in bins.find_bins(rows).tolist()]
    assert (merged.missing is None) == (bins.missing is None)


@given(bins=any_bins)
def test_bins_have_a_text_each_and_survive_json(bins) -> None:
    assert len(set(bins.labels)) == len(bins.labels) == bins.count
    assert ADAPTER.validate_json(bins.model_dump_json()) == bins


def test_texts_say_what_is_in_a_bin() -> None:
    bins = NumericBins(name="age", cuts=(25.0, 40.5), missing=3)
    assert bins.labels == ("(-inf, 25)", "[25, 40.5)", "[40.5, inf)", "missing")
    assert bins.merged([[0], [1, 2, 3]]).labels == ("(-inf, 25)", "[25, inf) or missing")
    levels = CategoryBins.single("k", ["a", "missing", "rare"], rare=True, missing=True)
    assert levels.labels == ("a", '"missing"', '"rare"', "rare", "missing")
    assert levels.merged([[0, 3], [1, 2, 4]]).labels == ("a or rare", '"missing" or "rare" or missing')
    close = NumericBins(name="x", cuts=(1.0, 1.0 + 1e-9))
    assert all(low != high for low, high in pairwise(close.labels))


@pytest.mark.parametrize(
    "groups", [[[0], [1]], [[0], [1, 2], [2, 3]], [[0], [1], [2, 3], []], [[0, 2], [1], [3]], [[1, 2], [0], [3]],
               [[3], [0], [1], [2]]]
)  # fmt: skip
def test_numbers_stay_in_order_and_each_bin_in_one_group(groups) -> None:
    with pytest.raises(ValueError, match="bin"):
        NumericBins(name="x", cuts=(1.0, 2.0), missing=3).merged(groups)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (NumericBins, {"cuts": (2.0, 1.0)}),
        (NumericBins, {"cuts": (1.0, 1.0)}),
        (NumericBins, {"cuts": (1.0, float("inf"))}),
        (NumericBins, {"cuts": (1.0,), "missing": 3}),
        (CategoryBins, {"levels": (("a",), ("a",))}),
        (CategoryBins, {"levels": (("a",), ())}),
        (CategoryBins, {"levels": (("a",),), "rare": 1}),
    ],
)
def test_bins_that_make_no_sense_are_refused(model, fields) -> None:
    with pytest.raises(ValidationError):
        model(name="x", **fields)
