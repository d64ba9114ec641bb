"""Whitened columns are uncorrelated on the training rows, the same bits for a row in any company, and lead back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.whitening import BLOCK, MOST_WHITENED, Whitening, fit_whitening
from tests.tables.made_up import fit, ordinary, rows_of, split, table

CLIP = 16.0  # no whitened number of fewer than 256 training rows is larger


def numbers(rows, columns, seed=1):
    """Correlated columns of order one."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, columns)) @ generator.normal(size=(columns, columns)) / np.sqrt(columns)


@given(
    rows=st.integers(60, 200),
    columns=st.integers(1, 12),
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 200), max_size=3),
)
def test_whitened_training_rows_have_mean_zero_and_the_identity_as_covariance(rows, columns, seed, cuts):
    """However they were split when it was fitted."""
    x = numbers(rows, columns, seed)
    whitened = fit_whitening(columns, np.split(x, sorted(cuts))).apply(x, CLIP)
    stored = whitened.shape[1]
    assert stored >= columns - 1  # a made-up matrix may be nearly singular
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(whitened.T @ whitened / rows, np.eye(stored), atol=1e-6)


def test_an_ordinary_table_is_whitened():
    """One direction fewer for each categorical column, whose 0/1 columns add up to one, and one for a column twice."""
    whole = ordinary()
    training = table({**whole.numeric, "months": whole.numeric["age"] * 12}, whole.categorical)
    plain, encoding = fit(training, rare=50), fit(training, rare=50, whiten=True)
    assert len(encoding.names) == len(plain.names) - 2 - 1
    assert encoding.names[:2] == ["whitened 1", "whitened 2"]
    assert encoding.column_names == plain.names
    assert encoding.kinds == plain.kinds
    whitened = encoding.apply(training)
    assert np.abs(whitened).max() < 16
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(len(encoding.names)), atol=1e-6)


def test_directions_come_by_falling_variance_and_with_a_sign_of_their_own():
    """So that the same rows give the same columns wherever they are fitted."""
    x = numbers(500, 6)
    directions = np.array(fit_whitening(6, [x]).directions)
    lengths = np.linalg.norm(directions, axis=1)  # one over the standard deviation
    assert (np.diff(lengths) > 0).all()
    assert (directions[np.arange(6), np.abs(directions).argmax(axis=1)] > 0).all()


@given(cuts=st.lists(st.integers(0, 2000), max_size=4), whole=st.sampled_from([2000]))
def test_whitened_rows_are_the_same_bits_however_they_are_split(cuts, whole):
    """A library's matrix product alone is not: its last bits depend on the number of rows."""
    training = ordinary(whole)
    parts = [ORDINARY.apply(part) for part in split(training, cuts)]
    assert np.concatenate(parts).tobytes() == ORDINARY.apply(training).tobytes()


ORDINARY = fit(ordinary(), rare=5, whiten=True)


def test_many_columns_are_the_same_bits_in_any_number_of_rows():
    """At sizes where matrix products use other kernels, at the largest numbers, with a clip that is no power of two."""
    x = np.random.default_rng(2).uniform(-11, 11, (BLOCK + 3, 150))
    x[::2, ::3] = 11
    whitening = fit_whitening(150, [x])
    expected = whitening.apply(x, 11.0)
    for rows in (1, 2, 3, 7, 64, 513, BLOCK - 1, BLOCK + 1):
        assert whitening.apply(x[-rows:], 11.0).tobytes() == expected[-rows:].tobytes()
    assert whitening.apply(np.asfortranarray(x), 11.0).tobytes() == expected.tobytes()


def test_the_product_is_that_of_the_matrix():
    """To a hundred-millionth, where features have 13 bits after the point."""
    x = np.clip(numbers(3000, 40) * 6, -16, 16)
    whitening = fit_whitening(40, [x])
    expected = x @ np.array(whitening.directions).T - np.array(whitening.offset)
    np.testing.assert_allclose(whitening.apply(x, 16.0), np.clip(expected, -16, 16), rtol=0, atol=1e-8)


def test_the_widest_matrix_is_exact_at_the_largest_numbers():
    """No sum of slices leaves the whole numbers that float64 holds."""
    generator = np.random.default_rng(3)
    directions, x = generator.uniform(0.5, 1, (30, MOST_WHITENED)), generator.uniform(8, 15, (1, MOST_WHITENED))
    offset = tuple(np.rint(directions @ x[0]).tolist())  # so that the clip leaves the last bits
    order = generator.permutation(MOST_WHITENED)
    one, other = (
        Whitening(directions=tuple(map(tuple, d.tolist())), offset=offset) for d in (directions, directions[:, order])
    )
    assert np.abs(one.apply(x, 15.0)).max() < 1
    assert other.apply(x[:, order], 15.0).tobytes() == one.apply(x, 15.0).tobytes()


@given(st.lists(st.floats(-3, 3), min_size=len(ORDINARY.names), max_size=len(ORDINARY.names)))
def test_unwhitened_weights_give_the_same_scores(weights):
    """So that a report can say what each named column counts for."""
    training = ordinary(300)
    plain = Encoding(columns=ORDINARY.columns, clip=ORDINARY.clip)
    by_column, shift = ORDINARY.unwhiten(np.array(weights))
    assert by_column.shape == (len(ORDINARY.column_names),)
    unclipped = (np.abs(ORDINARY.apply(training)) < ORDINARY.clip).all(axis=1)
    assert unclipped.sum() > 200
    scores = (ORDINARY.apply(training) @ np.array(weights))[unclipped]
    np.testing.assert_allclose((plain.apply(training) @ by_column + shift)[unclipped], scores, rtol=0, atol=1e-6)


def test_without_whitening_the_weights_are_already_those_of_the_columns():
    """And nothing is added to the intercept."""
    weights, shift = fit(table({"p": [1, 2], "q": [3, 4]})).unwhiten(np.array([1.0, 2.0]))
    assert (weights.tolist(), shift) == ([1, 2], 0)


def test_whitened_numbers_end_at_the_clip():
    """A later row may lie far outside of what training knew."""
    encoding = fit(ordinary(), clip=3.0, whiten=True)
    assert np.abs(encoding.apply(ordinary(seed=2))).max() == 3.0


@pytest.mark.parametrize("training", [table({"p": [4.0, 4.0]}, {"k": ["a", "a"]}), table({"p": [4.0]})])
def test_a_table_without_variation_is_not_whitened(training):
    """There is no direction to keep: it stays as it is, and says that it adds nothing."""
    encoding = fit(training, whiten=True)
    assert encoding == fit(training)
    assert not encoding.varies
    assert encoding.warnings


def test_more_columns_than_can_be_whitened_stay_as_they_are():
    """Their matrix would be larger than a model should be; a table that is never whitened was never refused."""
    one = [str(number) for number in range(MOST_WHITENED // 2)]
    training = table({"p": np.arange(len(one))}, {"k": one, "l": one})
    assert fit(training, whiten=True) == fit(training, whiten=False)
    assert fit(training, whiten=True).spread == 3  # columns before they are encoded
    some = fit(rows_of(training, slice(0, 9)), whiten=True)
    assert len(some.column_names) == 19
    assert some.whitening is not None
    assert some.spread == 1
