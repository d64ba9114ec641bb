"""Words, fixed point and activations: exact where they promise it, and refusing what they cannot hold."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import RangeProblem, clip_rows, decode, encode, encode_features, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, expect, from_signed, product, to_signed, total, transposed_product
from tercet.mpc.functions.elementary import centred_sigmoid, exp, log
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.functions.links import LINKS

words = st.integers(0, 2**64 - 1)


@given(st.lists(words, min_size=1, max_size=8), st.integers(1, 5), st.integers(1, 3))
def test_products_are_those_of_whole_numbers_modulo_2_64(seeds, columns, outputs):
    """Against Python's own integers, for one output and several."""
    rng = np.random.default_rng(seeds)
    x = rng.integers(0, 2**64, (len(seeds), columns), dtype=np.uint64)
    w = rng.integers(0, 2**64, (columns, outputs), dtype=np.uint64)
    e = rng.integers(0, 2**64, (len(seeds), outputs), dtype=np.uint64)
    modulus = 2**64
    assert np.array_equal(product(x, w), (x.astype(object) @ w.astype(object) % modulus).astype(np.uint64))
    assert np.array_equal(transposed_product(x, e), (x.astype(object).T @ e.astype(object) % modulus).astype(np.uint64))
    assert np.array_equal(to_signed(from_signed(to_signed(x))).view(np.uint64), x)
    assert np.array_equal(total([x, x, x]), x * np.uint64(3))


def test_a_wrong_shape_or_type_is_refused():
    """Numpy would broadcast the one and turn the other to float64."""
    wrongs: list[Any] = [np.zeros((1, 2), np.uint64), np.zeros(4, np.uint64), np.zeros((2, 2), np.int64)]
    for wrong in wrongs:
        with pytest.raises(ShapeProblem, match="share of party 3"):
            expect(wrong, (2, 2), "share of party 3")


@given(st.lists(st.floats(-(2.0**30), 2.0**30), min_size=1), st.integers(0, 31))
def test_encoding_rounds_to_the_nearest_word_and_is_odd(values, bits):
    """Half a unit at most, and opposite numbers give opposite words."""
    x = np.array(values)[:, np.newaxis]
    encoded = encode(x, bits)
    assert np.abs(decode(encoded, bits) - x).max() <= 2.0 ** -(bits + 1)
    assert np.array_equal(encode(-x, bits), np.uint64(0) - encoded)
    assert encode_number(values[0], bits) == encoded[0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**49, -(2.0**49), 1e300])
def test_what_does_not_fit_is_refused_with_its_place_and_not_its_value(bad):
    """2^49 at 13 fractional bits is the first that does not fit."""
    x = np.zeros((3, 2))
    x[2, 1] = bad
    with pytest.raises(RangeProblem, match=r"at \(2, 1\)") as caught:
        encode(x, 13)
    assert str(bad) not in str(caught.value)
    encode(np.array([[2.0**49 - 1]]), 13)


@given(st.floats(-(2.0**20), 2.0**20), st.integers(0, 41))
def test_a_number_alone_is_encoded_as_one_of_many(value, bits):
    """Halves too: they go to the even word."""
    for x in (value, round(value) + 0.5, -0.5, 2.0 ** -(bits + 1), -3.0 * 2.0 ** -(bits + 1)):
        assert encode_number(x, bits) == encode(np.array([x]), bits)[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**32, -(2.0**32)])
def test_a_number_alone_that_does_not_fit_is_refused(bad):
    with pytest.raises(RangeProblem, match="at 30 fractional bits"):
        encode_number(bad, 30)


@given(st.integers(0, 2**32), st.floats(0.1, 50))
def test_no_row_is_longer_than_the_norm_even_encoded(seed, norm):
    """And a row within it is left alone by `clip_rows`."""
    x = np.random.default_rng(seed).normal(size=(20, 5)) * 10
    lengths = np.linalg.norm(x, axis=1)
    clipped = clip_rows(x, norm)
    assert np.linalg.norm(clipped, axis=1).max() <= norm * (1 + 1e-12)
    assert np.array_equal(clipped[lengths <= norm * 0.999], x[lengths <= norm * 0.999])
    encoded = decode(encode_features(x * 5, norm, 8), 8)
    assert np.linalg.norm(encoded, axis=1).max() <= norm
    assert np.abs(encoded).max() <= 16.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_rather_than_clipped(bad):
    """Clipping would make infinity a plausible 16."""
    with pytest.raises(RangeProblem, match="row 1, column 0"):
        encode_features(np.array([[1.0], [bad]]), 16.0, 13)


def test_exp_is_within_one_unit_in_the_last_place():
    """Against extended precision, over the whole range that a sigmoid needs and beyond."""
    rng = np.random.default_rng(0)
    x = np.concatenate([-rng.random(200_000) * 708, -rng.random(200_000), -(10.0 ** rng.uniform(-18, 0, 100_000)),
                        rng.random(100_000) * 700, np.arange(-700, 700) * np.log(2) / 2])  # fmt: skip
    right = np.exp(x.astype(np.longdouble))
    units = np.abs(exp(x).astype(np.longdouble) - right) / np.spacing(right.astype(np.float64))
    assert float(units.max()) <= 1.0
    assert exp(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    assert exp(np.array([-1e6, -800.0])).tolist() == [0.0, 0.0]


def test_the_sigmoid_is_odd_to_the_last_bit_and_accurate():
    """Phi(-z) == -phi(z) on a million values of all sizes, zeros included."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=1_000_000) * 10.0 ** rng.uniform(-12, 3, 1_000_000)
    z[:3] = 0.0, 2.0**-1074, 1e300
    assert np.array_equal(centred_sigmoid(-z).view(np.uint64), (-centred_sigmoid(z)).view(np.uint64))
    wide = z.astype(np.longdouble)
    assert float(np.abs(centred_sigmoid(z) - np.tanh(wide / 2) / 2).max()) < 2e-16
    assert np.abs(centred_sigmoid(z)).max() == 0.5


RAW = {  # labels as a label party holds them
    "logistic": [0.0, 1.0],
    "linear": [-16.0, 0.0, 3.5, 16.0],
    "softmax": [0.0, 1.0, 2.0, 3.0],
    "one-vs-rest": [0.0, 1.0, 2.0, 3.0],
    "poisson": [0.0, 0.25, 1.0, 2.0, 50.0],
    "gamma": [0.001, 0.5, 1.0, 20.0],
    "tweedie": [0.0, 0.001, 1.0, 20.0],
}


@pytest.mark.parametrize("name", LINKS)
def test_every_activation_keeps_its_promises(name):
    """Odd where it says so, within its error bound, and its loss's derivative is phi - target."""
    link = LINKS[name]
    rng, outputs = np.random.default_rng(2), 4 if link.classes else 1
    raw = rng.choice(RAW[name], 500)
    link.check_labels(raw)
    y, z = link.centre(raw, outputs), 1.5 * rng.standard_normal((500, outputs))
    assert link.name == name
    assert y.shape == (500, outputs)
    if link.odd:
        assert np.array_equal(link.phi(-z), -link.phi(z))
    for k in range(outputs):
        h = np.eye(outputs)[k] * 1e-5
        slope = (link.loss(z + h, y) - link.loss(z - h, y)) / 2e-5
        error = link.error(link.shifted(z, y), link.target(y))
        assert slope == pytest.approx(float(error[:, k].sum()), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("error", [1.5, 49.0, 1e3, 1e6])
def test_no_error_is_larger_than_the_one_whose_reach_the_scores_keep(name, error):
    """At any score within the reach and any label that fits it, on the side where errors do not grow at any at all."""
    link = LINKS[name]
    limit, outputs = min(link.reach(error), 1e4), 3 if link.classes else 1
    if limit < link.least_score:
        return
    low, high = link.bounds(limit, 1e4)
    rng = np.random.default_rng(4)
    z = np.concatenate(
        [rng.uniform(low, high, (3000, outputs)), np.full((1, outputs), low), np.full((1, outputs), high)]
    )
    most = link.most_label(limit)
    targets = [-most, most] if name in {"logistic", "linear", "one-vs-rest"} else [0.0] if link.offset else [0.0, most]
    assert (link.exposed(z) <= limit).all()
    assert max(float(np.abs(link.phi(z) - t).max()) for t in targets) <= error
    assert link.reach(link.least_error * 1.001) >= link.least_score
    assert link.reach(0.5) == 0.0


@pytest.mark.parametrize("error", [0.0, -5.0, 1.0])
def test_a_job_that_allows_no_error_reaches_no_score(error):
    """Such as one whose offsets alone fill the words."""
    assert all(link.reach(error) == 0.0 for link in LINKS.values())


def test_log_is_within_one_unit_in_the_last_place():
    """Against extended precision, from the smallest numbers to the largest and close to 1."""
    rng = np.random.default_rng(0)
    x = np.concatenate([10.0 ** rng.uniform(-300, 300, 200_000), 1 + rng.uniform(-1, 1, 200_000) * 0.5,
                        1 + rng.choice([-1, 1], 100_000) * 10.0 ** rng.uniform(-16, -1, 100_000),
                        rng.uniform(0, 1000, 100_000), [2.0**-1074, 2.0**-1022, 1.7e308]])  # fmt: skip
    right = np.log(x.astype(np.longdouble))
    units = np.abs(log(x).astype(np.longdouble) - right) / np.spacing(np.abs(right).astype(np.float64))
    assert float(units.max()) <= 1.0
    assert log(np.array([1.0])).tolist() == [0.0]
    assert np.isnan(log(np.array([np.nan]))).all()


@pytest.mark.parametrize("labels", [[0.0, 2.0], [0.0, np.nan], [-1.0, 1.0], [1.0, 1.0]])
def test_labels_that_are_not_two_classes_are_refused(labels):
    """With what to do about it, and without the labels."""
    with pytest.raises(LabelProblem, match=r"0 and 1|nothing to learn"):
        LINKS["logistic"].check_labels(np.array(labels)[:, np.newaxis])


@pytest.mark.parametrize("bad", [17.0, np.nan, np.inf])
def test_labels_of_a_linear_regression_are_finite_and_within_the_clip(bad):
    """As the label party standardises them; the planner counts on it."""
    LINKS["linear"].check_labels(np.array([[-16.0], [0.0], [16.0]]))
    with pytest.raises(LabelProblem):
        LINKS["linear"].check_labels(np.array([[bad]]))


@pytest.mark.parametrize(
    ("name", "labels", "what"),
    [
        ("softmax", [0.0, 1.0, 1.5], "1 of 3 labels are no number of a class"),
        ("softmax", [-1.0, 1.0, np.nan], "2 of 3 labels are no number of a class"),
        ("softmax", [2.0, 2.0], "all labels are the same"),
        ("poisson", [0.0, 1.5, -1.0, np.inf], "2 of 4 labels are not finite, or below 0"),
        ("poisson", [0.0, 0.0], "all labels are 0"),
        ("gamma", [0.0, 1.0, -2.0], "2 of 3 labels are not above 0; remove them, or use"),
        ("gamma", [1.0, np.nan], "not finite"),
        ("gamma", [1.0, 1e-8], "ten-millionth of the mean"),
    ],
)
def test_labels_outside_a_links_range_are_refused_with_what_to_do(name, labels, what):
    """How many, and never which."""
    with pytest.raises(LabelProblem, match=what):
        LINKS[name].check_labels(np.array(labels))
