"""A column becomes the weight of evidence of its bins; what no bin has counts as no evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tercet.tables.binning.bins import CategoryBins, NumericBins
from tercet.tables.binning.fit import Binning, fit_bins
from tercet.tables.core.problem import TableProblem, UnusableError
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import record_bits
from tercet.tables.encoding.shareable import shareable_encoding
from tercet.tables.encoding.unseen import FEW, count_unseen
from tercet.tables.encoding.woe import BinnedWoe, WoeColumn
from tests.tables.made_up import loaded, split, table

AGE = BinnedWoe(NumericBins(name="age", cuts=(25.0, 40.0), missing=3), (-1.5, 0.25, 1.25, 0.75))
KIND = BinnedWoe(CategoryBins.single("kind", ["a", "b"]).merged([[1], [0]]), (0.5, -0.5))
ROWS = table({"age": [20, 30, 50, np.nan, 40]}, {"kind": ["a", "b", "a", "a", "b"]})


def fit_woe(*batches, whiten=False, clip=16.0) -> Encoding:
    """The encoding of rows of both columns."""
    return Encoding.fit(
        lambda: iter(batches), clip=clip, rare=0, whiten=whiten, woe={"age": AGE, "kind": KIND}
    )  # fmt: skip


def plain_woe(encoding: Encoding, rows) -> np.ndarray:
    """Weights of evidence as encoded rows have them, without standardising."""
    columns = [column for column in encoding.columns if isinstance(column, WoeColumn)]
    encoded = encoding.apply(rows)
    return encoded * [column.scale for column in columns] + [column.mean for column in columns]


def test_each_row_has_the_weight_of_its_bin_standardised() -> None:
    encoding = fit_woe(ROWS)
    expected = [[-1.5, -0.5], [0.25, 0.5], [1.25, -0.5], [0.75, -0.5], [1.25, 0.5]]
    assert np.allclose(plain_woe(encoding, ROWS), expected, atol=1e-12)
    encoded = encoding.apply(ROWS)
    assert np.allclose(encoded.mean(axis=0), 0.0, atol=1e-12)
    assert np.allclose(encoded.std(axis=0), 1.0, atol=1e-12)
    assert encoding.names == ["age", "kind"]
    assert encoding.kinds == {"age": "numeric", "kind": "categorical"}
    assert (encoding.spread, encoding.varies, encoding.has_numbers) == (2.0, True, False)
    assert encoding.columns[0].missing == 0.2
    assert np.abs(fit_woe(ROWS, clip=0.5).apply(ROWS)).max() == 0.5


def test_what_no_bin_has_is_no_evidence() -> None:
    rows = table({"age": [20.0, np.nan]}, {"kind": ["new", None]})
    assert np.allclose(plain_woe(fit_woe(ROWS), rows), [[-1.5, 0.0], [0.75, 0.0]], atol=1e-12)


@given(places=st.lists(st.integers(0, 5), max_size=3), whiten=st.booleans())
def test_it_is_the_same_however_rows_are_split_and_stored(places, whiten) -> None:
    whole = fit_woe(ROWS, whiten=whiten)
    assert whole.columns == fit_woe(*split(ROWS, places)).columns
    assert np.array_equal(loaded(whole).apply(ROWS), whole.apply(ROWS))
    shared = shareable_encoding(whole)
    assert np.array_equal(loaded(shared).apply(ROWS), whole.apply(ROWS))
    assert shared.columns[0].missing == 0.5


@given(
    values=st.lists(st.tuples(st.integers(0, 30) | st.just(np.nan), st.booleans()), min_size=8, max_size=60),
    count=st.integers(2, 5),
)
def test_a_weight_of_evidence_is_what_its_definition_says(values, count) -> None:
    """It is the logarithm of a bin's part of the positives over its part of the negatives."""
    numbers, labels = np.array(values, np.float64).T
    rows = table({"x": numbers})
    (bins,) = fit_bins([rows], Binning(count=count))
    sides = [np.bincount(bins.find_bins(rows)[labels == side], minlength=bins.count) for side in (0, 1)]
    if (np.array(sides) == 0).any():
        return
    woe = np.log(sides[1] / sides[1].sum()) - np.log(sides[0] / sides[0].sum())
    encoding = Encoding.fit(
        lambda: [rows], clip=16.0, rare=0, whiten=False, woe={"x": BinnedWoe(bins, tuple(woe.tolist()))}
    )
    if not encoding.varies:
        return
    found = plain_woe(encoding, rows)[:, 0]
    for value in np.unique(bins.find_bins(rows)):
        among = bins.find_bins(rows) == value
        positives, negatives = labels[among].sum(), (1 - labels[among]).sum()
        direct = np.log((positives / labels.sum()) / (negatives / (1 - labels).sum()))
        assert np.allclose(found[among], direct, atol=1e-6, rtol=0)


def test_a_record_of_weights_has_the_bits_of_its_bins() -> None:
    rows = table({"age": [20.0, 30.0, 50.0, np.nan] * 8}, {"kind": ["a", "a", "a", "a", "b", "b", "b", "b"] * 4})
    assert record_bits(fit_woe(rows), iter([rows])).record == 3.0


def test_levels_that_no_bin_names_are_counted_and_a_column_of_nothing_else_is_refused() -> None:
    encoding, fine = fit_woe(ROWS), {"age": [20.0] * FEW}
    some = table(fine, {"kind": ["new", None, *["a"] * (FEW - 2)]})
    said = f"column 'kind': 1 of {FEW - 1} values were not there in training"
    assert [str(one) for one in count_unseen(encoding, [some])] == [said]
    with pytest.raises(UnusableError, match="no value of column 'kind'"):
        count_unseen(encoding, [table(fine, {"kind": ["new"] * FEW})])


def test_a_column_of_one_weight_adds_nothing() -> None:
    rows = table({"age": [20, 21]}, {"kind": ["a", "b"]})
    encoding = fit_woe(rows)
    assert encoding.columns[0].warnings == [
        "column 'age' has one weight of evidence in every row and adds nothing to the model"
    ]
    assert (encoding.apply(rows)[:, 0] == 0).all()


def test_a_column_of_another_kind_than_its_bins_is_refused() -> None:
    with pytest.raises(TableProblem, match="was numeric in the statistics job") as caught:
        fit_woe(table({}, {"age": ["20"], "kind": ["a"]}))
    assert "age" not in caught.value.public


@pytest.mark.parametrize("change", [{"woe": (1.0,)}, {"name": "other"}, {"scale": -1.0}, {"mean": float("nan")}])
def test_a_column_that_does_not_fit_its_bins_is_refused(change) -> None:
    fields = {"name": "age", "bins": AGE.bins, "woe": AGE.woe, "mean": 0.0, "scale": 1.0}
    WoeColumn.model_validate(fields)
    with pytest.raises(ValidationError):
        WoeColumn.model_validate(fields | change)
