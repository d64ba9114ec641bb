"""An encoding is fitted once, survives JSON exactly, and encodes any later table the same way."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Table
from tercet.tables.encoding.categorical import CategoricalColumn
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import record_bits
from tercet.tables.encoding.numeric import NumericColumn
from tests.tables.made_up import CUTS, fit, loaded, ordinary, rows_of, split, table, tables


@given(tables(), st.integers(0, 4))
def test_an_encoding_survives_json_to_the_last_bit(training, rare):
    """It is stored with the model and must score as it trained."""
    encoding = fit(training, rare=rare)
    again = loaded(encoding)
    assert again == encoding
    assert again.apply(training).tobytes() == encoding.apply(training).tobytes()


def test_a_whitening_survives_json_to_the_last_bit():
    """It too is stored with the model."""
    training = ordinary()
    encoding = fit(training, whiten=True)
    assert loaded(encoding) == encoding
    assert loaded(encoding).apply(training).tobytes() == encoding.apply(training).tobytes()


@given(tables(), tables(), st.floats(0.01, 16), st.integers(0, 3))
def test_every_encoded_number_is_finite_and_within_the_clip(training, later, clip, rare):
    """However large, small, equal or missing the values are, and in later rows too."""
    encoding = fit(training, clip=clip, rare=rare)
    for rows in [training, later] if same_columns(training, later) else [training]:
        encoded = encoding.apply(rows)
        assert encoded.shape == (rows.rows, len(encoding.names))
        assert encoded.dtype == np.float64
        assert np.isfinite(encoded).all()
        assert ((np.abs(encoded) <= clip) | (encoded == 1)).all()


def same_columns(one, other):
    """Whether two tables can be encoded alike."""
    return one.numeric.keys() == other.numeric.keys() and one.categorical.keys() == other.categorical.keys()


@given(tables(), tables())
def test_a_table_is_encoded_or_the_columns_that_differ_are_named(training, later):
    """No column is guessed, dropped or filled in."""
    encoding = fit(training)
    if same_columns(training, later):
        assert np.isfinite(encoding.apply(later)).all()
        return
    with pytest.raises(TableProblem) as caught:
        encoding.apply(later)
    for name in training.numeric.keys() ^ later.numeric.keys() | training.categorical.keys() ^ later.categorical.keys():
        assert repr(name) in caught.value.what
        assert repr(name) not in caught.value.public


def test_what_differs_is_said_of_each_column():
    """That it is not there, is new, or is of the other kind."""
    encoding = fit(table({"age": [1, 2], "limit": [1, 2]}, {"job": ["a", "b"]}))
    with pytest.raises(TableProblem) as caught:
        encoding.apply(table({"job": [1]}, {"age": ["a"], "sex": ["f"]}))
    assert caught.value.what == (
        "table 'customers' differs from the one in training: column 'limit' is not there, 'sex' was not there in "
        "training, 'age' was numeric in training and is categorical, 'job' was categorical in training and is numeric"
    )
    assert caught.value.public == "the table 'customers' has other columns than in training"


@given(tables(), st.randoms())
def test_the_order_of_a_later_tables_columns_does_not_matter(training, random):
    """They are found by name."""
    encoding = fit(training)
    names = list(training.columns)
    random.shuffle(names)
    shuffled = table(training.numeric, training.categorical, names)
    assert np.array_equal(encoding.apply(shuffled), encoding.apply(training))


@given(tables(), CUTS, st.integers(0, 3))
def test_a_table_is_encoded_to_the_same_bits_however_it_is_split(training, cuts, rare):
    """Applying learns nothing."""
    encoding = fit(training, rare=rare)
    parts = [encoding.apply(part) for part in split(training, cuts)]
    assert np.concatenate(parts).tobytes() == encoding.apply(training).tobytes()


@given(tables(numbers=st.floats(-1e3, 1e3)), CUTS, st.integers(0, 4))
def test_training_rows_teach_the_same_however_they_are_split(training, cuts, rare):
    """Categories and shares exactly, means and deviations but for rounding."""
    whole, parts = fit(training, rare=rare), fit(*split(training, cuts), rare=rare)
    for one, other in zip(whole.columns, parts.columns, strict=True):
        if isinstance(one, CategoricalColumn):
            assert other == one
        else:
            assert isinstance(other, NumericColumn)
            assert other.missing == one.missing
            assert (other.scale == 0) == (one.scale == 0)
            np.testing.assert_allclose([other.mean, other.scale], [one.mean, one.scale], rtol=1e-12, atol=1e-12)


@given(tables(numbers=st.floats(-1e3, 1e3)), st.randoms())
def test_the_order_of_training_rows_teaches_nothing(training, random):
    """Neither does it decide which categories there are."""
    order = list(range(training.rows))
    random.shuffle(order)
    one, other = fit(training, rare=2), fit(rows_of(training, order), rare=2)
    assert other.names == one.names
    assert other.warnings == one.warnings


def test_a_table_without_columns_has_an_encoding_of_none():
    """A label party's, whitened or not."""
    bare = Table("labels", 3, (), {}, {})
    encoding = fit(bare, whiten=True)
    assert (encoding.names, encoding.warnings, encoding.varies) == ([], [], False)
    assert encoding.apply(bare).shape == (3, 0)
    assert record_bits(encoding, iter([bare])) == (0.0, 0.0)
    assert loaded(encoding) == encoding


@given(tables(numbers=st.floats(-1e3, 1e3)), st.integers(0, 3))
def test_an_encoding_knows_whether_any_two_rows_differ(training, rare):
    """After encoding, which is what is trained on."""
    encoding = fit(training, rare=rare)
    assert encoding.varies == bool(np.ptp(encoding.apply(training), axis=0).any())


@given(tables(), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_weights_that_are_centred_give_the_same_scores(training, rare, seed):
    """To look at: those of a categorical column have mean 0, and numbers have theirs; of several outputs each."""
    encoding = fit(training, rare=rare)
    weights = np.random.default_rng(seed).normal(size=(len(encoding.names), 2))
    before = weights.copy()
    centred, obtained = encoding.centre(weights)
    encoded = encoding.apply(training)
    np.testing.assert_allclose(encoded @ centred + obtained, encoded @ weights, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(weights, before)
    start = 0
    for column in encoding.columns:
        stop = start + len(column.names)
        if column.kind == "categorical":
            np.testing.assert_allclose(centred[start:stop].mean(axis=0), 0, rtol=0, atol=1e-12)
        else:
            np.testing.assert_array_equal(centred[start:stop], weights[start:stop])
        start = stop


def test_rows_are_read_once_or_twice_to_whiten():
    """Each pass asks for the batches anew, and keeps none of them."""
    passes = []

    def batches():
        passes.append(1)
        yield from split(ordinary(), [500, 900])

    for whiten, expected in ((False, 1), (True, 2)):
        passes.clear()
        Encoding.fit(batches, clip=16.0, rare=10, whiten=whiten)
        assert len(passes) == expected


@pytest.mark.parametrize("whiten", [False, True])
def test_fitting_takes_the_memory_of_a_batch_not_of_the_table(whiten):
    """A table may be larger than memory."""

    def peak(times):
        tracemalloc.start()
        Encoding.fit(lambda: (ordinary(2000, seed) for seed in range(times)), clip=16.0, rare=10, whiten=whiten)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)  # imports and caches
    assert peak(12) < 1.2 * peak(2)


def test_what_it_learns_is_of_the_rows_it_was_given_alone():
    """So a row that is held out has no part in how it is encoded, not even as a category."""
    training = table({"p": [-1, 1, np.nan]}, {"k": ["a", "a", "b"]})
    encoding = fit(training)
    before = encoding.model_dump_json()
    encoding.apply(table({"p": [100]}, {"k": ["c"]}))
    assert encoding.model_dump_json() == before
    assert encoding.columns[0] == NumericColumn(name="p", missing=1 / 3, mean=0.0, scale=1.0)
    assert encoding.names == ["p", "p=missing", "k=a", "k=b"]


def test_an_encoding_names_the_columns_and_kinds_that_a_table_to_encode_has():
    """In the order of training, by which a new table is read."""
    encoding = fit(ordinary())
    assert list(encoding.kinds.items()) == [
        ("age", "numeric"),
        ("job", "categorical"),
        ("limit", "numeric"),
        ("region", "categorical"),
        ("debt", "numeric"),
    ]
    assert list(loaded(encoding).kinds.items()) == list(encoding.kinds.items())


def test_no_training_row_is_our_own_mistake():
    """The plan asks for more of them first."""
    for batches in ([], [table({"p": []})]):
        with pytest.raises(ValueError, match="at least one training row"):
            fit(*batches)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"scale":1.0', '"scale":-1.0'),
        ('"scale":1.0', '"scale":NaN'),
        ('"missing":0.5', '"missing":1.5'),
        ('"rare":1', '"rare":-1'),
        ('"clip":16.0', '"clip":17.0'),
        ('"clip":', '"more":1,"clip":'),
        ('"directions":[', '"directions":[[1.0],'),
        ('"offset":[', '"offset":[0.0,'),
        ('"columns":[', '"columns":[{"kind":"numeric","name":"q","missing":0.0,"mean":0.0,"scale":1.0},'),
    ],
)
def test_a_tampered_encoding_is_refused(old, new):
    """A scale that is negative or no number, a matrix that does not fit, and anything that is not asked for."""
    training = table({"p": [-1, 1, np.nan, np.nan], "r": [1, -1, 1, -1]}, {"k": ["a", "a", "a", "b"]})
    text = fit(training, rare=2, whiten=True).model_dump_json()
    assert old in text
    with pytest.raises(ValidationError):
        Encoding.model_validate_json(text.replace(old, new, 1))
