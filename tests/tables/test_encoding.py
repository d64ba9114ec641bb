"""An encoding is fitted once, survives JSON exactly, and encodes any later table the same way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tables.encoding import CLIP, MOST_CATEGORIES, Encoding, LabelScaling
from tables.source import Table, TableProblem

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(min_size=1, max_size=3)


def table(numeric=None, categorical=None, label=None, columns=None) -> Table:
    """A table of these columns."""
    numeric = {name: np.array(values, dtype=np.float64) for name, values in (numeric or {}).items()}
    categorical = {name: np.array(values, dtype=np.object_) for name, values in (categorical or {}).items()}
    rows = len(next(iter((numeric | categorical).values())))
    return Table(
        name="customers",
        ids=[str(row) for row in range(rows)],
        columns=tuple(columns or [*numeric, *categorical]),
        numeric=numeric,
        categorical=categorical,
        label=None if label is None else np.array(label, dtype=np.float64),
    )


@st.composite
def tables(draw) -> Table:
    """Any readable table: one to six rows, up to three columns of each kind, mixed."""
    rows = draw(st.integers(1, 6))

    def columns(names, values):
        chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
        return {name: draw(st.lists(values, min_size=rows, max_size=rows)) for name in chosen}

    numeric, categorical = columns("abc", FINITE), columns("xyz", TEXT)
    if not numeric and not categorical:
        numeric = {"a": [1.0] * rows}
    return table(numeric, categorical, columns=draw(st.permutations([*numeric, *categorical])))


@given(tables(), st.data())
def test_an_encoding_survives_json_to_the_last_bit(training, data):
    """It is stored with the model and must score as it trained."""
    encoding = Encoding.fit(training)
    again = Encoding.model_validate_json(encoding.model_dump_json())
    assert again == encoding
    assert again.apply(training).tobytes() == encoding.apply(training).tobytes()


@given(tables())
def test_every_encoded_number_is_finite_and_within_the_clip(training):
    """However large, small or equal the values are."""
    encoding = Encoding.fit(training)
    encoded = encoding.apply(training)
    assert encoded.shape == (training.rows, len(encoding.names))
    assert encoded.dtype == np.float64
    assert np.isfinite(encoded).all()
    assert np.abs(encoded).max() <= CLIP


@given(tables(), tables())
def test_a_table_is_encoded_or_the_columns_that_differ_are_named(training, later):
    """No column is guessed, dropped or filled in."""
    encoding = Encoding.fit(training)
    same = training.numeric.keys() == later.numeric.keys() and training.categorical.keys() == later.categorical.keys()
    if same:
        encoded = encoding.apply(later)
        assert np.isfinite(encoded).all()
        return
    with pytest.raises(TableProblem) as caught:
        encoding.apply(later)
    for name in training.numeric.keys() ^ later.numeric.keys() | training.categorical.keys() ^ later.categorical.keys():
        assert repr(name) in caught.value.what
        assert repr(name) not in caught.value.public


@given(tables(), st.randoms())
def test_the_order_of_a_later_tables_columns_does_not_matter(training, random):
    """They are found by name."""
    encoding = Encoding.fit(training)
    names = list(training.columns)
    random.shuffle(names)
    shuffled = table(training.numeric, training.categorical, columns=names)
    assert np.array_equal(encoding.apply(shuffled), encoding.apply(training))


@given(tables(), st.randoms())
def test_a_row_is_encoded_alike_whichever_rows_surround_it(training, random):
    """Applying learns nothing."""
    encoding = Encoding.fit(training)
    row = random.randrange(training.rows)
    alone = table(
        {name: values[row : row + 1] for name, values in training.numeric.items()},
        {name: values[row : row + 1] for name, values in training.categorical.items()},
    )
    assert np.array_equal(encoding.apply(alone)[0], encoding.apply(training)[row])


def test_it_agrees_with_scikit_learn():
    """On columns of ordinary size, standardised and one-hot encoded."""
    generator = np.random.default_rng(1)
    numbers, kinds = generator.normal(5, 3, (200, 2)), generator.choice(["b", "a", "c"], (200, 1))
    training = table({"p": numbers[:, 0], "q": numbers[:, 1]}, {"k": kinds[:, 0]})
    expected = np.hstack(
        [
            StandardScaler().fit_transform(numbers),
            OneHotEncoder(sparse_output=False).fit_transform(kinds),
        ]
    )
    encoding = Encoding.fit(training)
    assert encoding.names == ["p", "q", "k=a", "k=b", "k=c"]
    np.testing.assert_allclose(encoding.apply(training), expected, rtol=0, atol=1e-12)


def test_values_beyond_the_clip_are_clipped_and_categories_unseen_are_all_zeros():
    """Which is how a row to be scored may differ from those in training."""
    encoding = Encoding.fit(table({"p": [-1, 1]}, {"k": ["a", "b"]}))
    later = table({"p": [1e308, -1e308, 0.5]}, {"k": ["c", "a", ""]})
    assert encoding.apply(later).tolist() == [[16, 0, 0], [-16, 1, 0], [0.5, 0, 0]]


@given(value=FINITE, later=FINITE)
def test_a_constant_column_becomes_zeros_and_a_warning(value, later):
    """It can teach nothing, and its deviation can't be divided by."""
    encoding = Encoding.fit(table({"p": [value] * 3, "q": [1, 2, 3]}))
    assert encoding.apply(table({"p": [later], "q": [2]})).tolist() == [[0, 0]]
    assert encoding.warnings == ["column 'p' has one value in every row and adds nothing to the model"]


def test_an_id_among_the_categories_is_refused():
    """It would make a column for every row."""
    many = table(categorical={"k": [str(row) for row in range(MOST_CATEGORIES + 1)]})
    with pytest.raises(TableProblem, match="1001 different values") as caught:
        Encoding.fit(many)
    assert "'k'" not in caught.value.public


def test_a_tampered_encoding_is_refused():
    """A scale that is negative or no number, and anything that is not asked for."""
    text = Encoding.fit(table({"p": [-1, 1]})).model_dump_json()
    for old, new in (('"scale":1.0', '"scale":-1.0'), ('"scale":1.0', '"scale":NaN'), ('"clip"', '"more":1,"clip"')):
        assert old in text
        with pytest.raises(ValidationError):
            Encoding.model_validate_json(text.replace(old, new))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8).filter(lambda y: np.ptp(y) > 1e-3))
def test_a_label_is_standardised_and_restored(label):
    """Through JSON as well."""
    rows = table({"p": label}, label=label)
    scaling = LabelScaling.model_validate_json(LabelScaling.fit(rows).model_dump_json())
    scaled = scaling.apply(np.array(label))
    assert abs(scaled.mean()) < 1e-6
    assert abs(scaled.std() - 1) < 1e-6
    np.testing.assert_allclose(scaling.restore(scaled), label, rtol=1e-9, atol=1e-6)


def test_a_label_far_out_is_clipped():
    """At the bound that the planner counts on."""
    scaling = LabelScaling(mean=1.0, scale=2.0)
    assert scaling.apply(np.array([1e300, -1e300, 3.0])).tolist() == [16, -16, 1]


@pytest.mark.parametrize("label", [None, [3.0, 3.0]])
def test_a_label_that_is_missing_or_always_the_same_is_refused(label):
    """There is nothing to learn."""
    with pytest.raises(TableProblem, match="label"):
        LabelScaling.fit(table({"p": [1, 2]}, label=label))
