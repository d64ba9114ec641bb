"""What one column becomes: standardised or one-hot encoded, with what is missing, rare or unseen told apart."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tercet.tables.core import category_counts
from tercet.tables.core.category_counts import MOST_CATEGORIES
from tercet.tables.core.problem import TableProblem
from tercet.tables.encoding.categorical import CategoricalColumn
from tercet.tables.encoding.encoding import Encoding
from tests.tables.made_up import FINITE, TEXT, fit, ordinary, rows_of, table, tables

NAN = np.nan


def of_scikit_learn(training, later, rare):
    """Both tables as scikit-learn encodes them, column by column in our order."""
    encoded = []
    for name in training.columns:
        if name in training.numeric:
            step = make_pipeline(
                StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
            )
            one, other = training.numeric[name], later.numeric[name]
        else:
            step = OneHotEncoder(min_frequency=rare or None, handle_unknown="infrequent_if_exist", sparse_output=False)
            one, other = training.categorical[name], later.categorical[name]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found unknown categories")
            encoded.append((step.fit_transform(one[:, None]), step.transform(other[:, None])))
    return [np.hstack(blocks) for blocks in zip(*encoded, strict=True)]


@pytest.mark.parametrize("rare", [0, 100, 300])
def test_it_agrees_with_scikit_learn(rare):
    """On an ordinary table with missing values and rare categories, and on later rows with unseen ones."""
    whole = ordinary(3000)
    training, later = rows_of(whole, slice(0, 2000)), rows_of(whole, slice(2000, None))
    later.categorical["job"][::7] = "astronaut"
    encoding = fit(training, rare=rare)
    for rows, expected in zip((training, later), of_scikit_learn(training, later, rare), strict=True):
        np.testing.assert_allclose(encoding.apply(rows), expected, rtol=0, atol=1e-12)


def test_a_missing_number_is_the_mean_and_told_apart_if_some_were_missing_in_training():
    """Mean and deviation are those of the rows that have a value."""
    encoding = fit(table({"p": [-1, NAN, 1], "q": [-1, 1, 1]}))
    assert encoding.names == ["p", "p=missing", "q"]
    later = table({"p": [NAN, 0.5], "q": [1 / 3, NAN]})
    assert encoding.apply(later).tolist() == [[0, 1, 0], [0.5, 0, 0]]


@given(st.lists(TEXT | st.none(), min_size=1, max_size=30), st.integers(0, 5), st.lists(TEXT | st.none(), max_size=9))
def test_a_row_has_its_category_or_is_missing_or_rare_or_nothing(training, rare, later):
    """By the counts of the training rows alone."""
    encoding = fit(table(categorical={"k": training}), rare=rare)
    frequent = sorted({text for text in training if text is not None and training.count(text) >= rare})
    pooled = any(text is not None and text not in frequent for text in training)
    expected = [[float(text == category) for category in frequent] for text in later]
    if None in training:
        expected = [[*row, float(text is None)] for row, text in zip(expected, later, strict=True)]
    if pooled:
        pool = [float(text is not None and text not in frequent) for text in later]
        expected = [[*row, one] for row, one in zip(expected, pool, strict=True)]
    assert encoding.apply(table(categorical={"k": later})).tolist() == expected


def test_an_encoding_of_an_earlier_version_finds_its_categories_by_todays_spelling():
    """It kept them as the source had them; where two of them are one today, it says so."""
    stored = CategoricalColumn(name="k", categories=(" f", "1.0", "True"))
    encoding = Encoding(columns=(stored,))
    assert encoding.changed_categories == []
    encoded = encoding.apply(table(categorical={"k": ["f", "1", "true", "m"]}))
    assert encoded.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    for categories in (("1", "1.0"), ("a", " "), ("True", "true")):
        assert Encoding(columns=(CategoricalColumn(name="k", categories=categories),)).changed_categories == ["k"]


def test_a_text_that_says_missing_or_rare_is_a_category():
    """As is the empty text; a name that could mean two things is quoted."""
    texts = ["", "missing", "rare", '"rare"', "b=c"]
    encoding = fit(table({"m=n": [0, 1] * 6}, {"k": [*texts * 2, None, "x"], "a=b": ["c"] * 12}), rare=2)
    assert encoding.names == [
        '"m=n"',
        'k=""',
        r'k="\"rare\""',
        "k=b=c",
        'k="missing"',
        'k="rare"',
        "k=missing",
        "k=rare",
        '"a=b"=c',
    ]
    encoded = encoding.apply(table({"m=n": [0]}, {"k": ["rare"], "a=b": ["c"]}))
    assert encoded[0, 1:].tolist() == [0, 0, 0, 0, 1, 0, 0, 1]


@given(tables(), st.integers(0, 4))
def test_no_two_encoded_columns_share_a_name(training, rare):
    """Whatever columns and categories are called."""
    names = fit(training, rare=rare).names
    assert len(set(names)) == len(names)


def test_values_beyond_the_clip_are_clipped_and_categories_unseen_are_all_zeros():
    """Which is how a row to be scored may differ from those in training."""
    encoding = fit(table({"p": [-1, 1]}, {"k": ["a", "b"]}))
    later = table({"p": [1e308, -1e308, 0.5]}, {"k": ["c", "a", ""]})
    assert encoding.apply(later).tolist() == [[16, 0, 0], [-16, 1, 0], [0.5, 0, 0]]


@given(value=FINITE, later=FINITE | st.just(NAN))
def test_a_constant_column_becomes_zeros_and_a_warning(value, later):
    """It can teach nothing, and its deviation can't be divided by."""
    encoding = fit(table({"p": [value] * 3, "q": [1, 2, 3]}))
    assert encoding.apply(table({"p": [later], "q": [2]})).tolist() == [[0, 0]]
    assert encoding.warnings == ["column 'p' has one value in every row and adds nothing to the model"]


def test_one_row_makes_constant_columns():
    """And nothing fails."""
    encoding = fit(table({"p": [3], "q": [NAN]}, {"k": ["a"], "l": [None]}))
    assert encoding.apply(table({"p": [4], "q": [5]}, {"k": ["a"], "l": ["b"]})).tolist() == [[0, 0, 1, 0]]
    assert len(encoding.warnings) == 4


def test_a_column_that_is_missing_in_every_row_becomes_zeros_and_a_warning():
    """That a later row has a value then means nothing either."""
    encoding = fit(table({"p": [NAN] * 3, "q": [1, 2, 3]}))
    assert encoding.apply(table({"p": [NAN, 7], "q": [2, 2]})).tolist() == [[0, 0], [0, 0]]
    assert encoding.warnings == ["column 'p' is missing in every row and adds nothing to the model"]


WARNED = {
    "mostly missing number": (
        table({"p": [1, 2, NAN, NAN, NAN]}),
        ["column 'p' is missing in 60% of the rows"],
    ),
    "half missing": (table({"p": [1, 2, NAN, NAN]}), []),
    "mostly missing category": (
        table(categorical={"k": [None] * 4 + ["a"] * 2}),
        ["column 'k' is missing in 67% of the rows"],
    ),
    "always missing category": (
        table(categorical={"k": [None, None]}),
        ["column 'k' is missing in every row and adds nothing to the model"],
    ),
    "constant but for missing": (
        table({"p": [5, 5, NAN]}),
        ["column 'p' has one value wherever it has any; only whether it has one is learnt"],
    ),
    "one category": (
        table(categorical={"k": ["a", "a"]}),
        ["column 'k' has one value in every row and adds nothing to the model"],
    ),
    "rare categories": (
        table(categorical={"k": ["a", "b", "c", "c"]}),
        ["column 'k' has rare categories (2), which count as one"],
    ),
    "only rare categories": (
        table(categorical={"k": ["a", "b", "c", "d"]}),
        [
            "column 'k' has rare categories (4), which count as one",
            "column 'k' has rare categories only and adds nothing to the model",
        ],
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_the_owner_is_warned_of_columns_that_teach_little(case):
    """By name and share, never by value."""
    training, expected = WARNED[case]
    assert fit(training, rare=2).warnings == expected


@pytest.mark.parametrize("rare", [0, 2])
def test_an_id_among_the_categories_is_refused(rare):
    """It would make a column for every row."""
    texts = [str(row) for row in range(MOST_CATEGORIES + 1)] * 2
    assert len(fit(table(categorical={"k": texts[:MOST_CATEGORIES]})).names) == MOST_CATEGORIES
    with pytest.raises(TableProblem, match="'k' of table 'customers' has 1001 different values") as caught:
        fit(table(categorical={"k": texts}), rare=rare)
    assert "'k'" not in caught.value.public
    assert caught.value.public == "the table 'customers' has a column with too many categories"


def test_rare_categories_do_not_count_towards_the_most():
    """However many there are, they become one column."""
    texts = [str(row) for row in range(MOST_CATEGORIES + 1)] + ["1", "2"]
    assert fit(table(categorical={"k": texts}), rare=2).names == ["k=1", "k=2", "k=rare"]


def test_a_column_of_ever_new_categories_is_refused_while_it_is_read(monkeypatch):
    """Before counting them takes the memory of the table."""
    monkeypatch.setattr(category_counts, "MOST_COUNTED", 10)
    read = []

    def batches():
        for start in range(0, 1000, 4):
            read.append(start)
            yield table(categorical={"k": [str(row) for row in range(start, start + 4)]})

    with pytest.raises(TableProblem, match="more than 10 different values"):
        Encoding.fit(batches, clip=16.0, rare=5, whiten=False)
    assert read == [0, 4, 8]
