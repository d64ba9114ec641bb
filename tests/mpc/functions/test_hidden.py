"""Hidden activations: their symmetries to the last bit, their slopes, and that they are what their names say."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.functions.hidden import HIDDEN, LEAK
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.randomness.elements import Elements, restore_elements

ODD = sorted(name for name, link in HIDDEN.items() if link.kappa is None)
TWO_SIDED = sorted(name for name, link in HIDDEN.items() if link.kappa is not None)
FINITE = st.lists(st.floats(-300, 300), min_size=1, max_size=20)
Z = np.concatenate([np.linspace(-40, 40, 4001), [-300.0, -256.0, 256.0, 300.0, 1e-9, -1e-9, 1e-300]])
STEP = next(make_plan(Request("linear", 64, (6, 6), 64, 1, 0.1)).steps())


def formula(name, z):
    """What numpy and scipy make of it."""
    match name:
        case "relu":
            return np.maximum(z, 0)
        case "leaky-relu":
            return np.where(z > 0, z, z * LEAK)
        case "tanh":
            return np.tanh(z)
        case "sigmoid":
            return special.expit(z)
        case "silu":
            return z * special.expit(z)
        case "softplus":
            return np.logaddexp(0, z)
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_an_activation_is_what_its_name_says(name):
    """To 1e-12 of its size, numpy's and scipy's own functions being the judges."""
    link, due = HIDDEN[name], formula(name, Z)
    assert np.abs(link.phi(Z) + link.centre - due).max() <= 1e-12 * max(1, np.abs(due).max())
    assert np.all(np.abs(link.phi(Z) + link.centre - due) <= 1e-12 * np.maximum(1, np.abs(due)))


def test_gelu_is_close_to_the_exact_one():
    """The approximation by tanh is off by 5e-4 at most."""
    exact = 0.5 * Z * special.erfc(-Z / np.sqrt(2))
    assert np.abs(HIDDEN["gelu"].phi(Z) - exact).max() < 5e-4


@given(FINITE)
@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_odd_to_the_last_bit(name, values):
    """And its slope is even: so a secret sign changes nothing but the sign."""
    z, link = np.array(values), HIDDEN[name]
    assert np.array_equal(link.phi(-z), -link.phi(z))
    assert np.array_equal(link.slope(-z), link.slope(z))
    assert np.array_equal(encode(link.phi(-z), 13), np.uint64(0) - encode(link.phi(z), 13))


@given(FINITE)
@pytest.mark.parametrize("name", TWO_SIDED)
def test_both_sides_of_the_others_differ_by_a_multiple_of_the_value(name, values):
    """phi(z) - phi(-z) = kappa z, and the slopes add up to kappa: one unit of 13 bits apart at most."""
    z, link = np.array(values), HIDDEN[name]
    assert link.kappa is not None
    assert np.all(np.abs(link.phi(z) - link.phi(-z) - link.kappa * z) <= 1e-13 * np.maximum(1, np.abs(z)))
    assert np.abs(link.slope(z) + link.slope(-z) - link.kappa)[z != 0].max(initial=0) < 1e-13
    sides = encode(link.slope(z), 13) + encode(link.slope(-z), 13) - encode(np.array([link.kappa]), 13)
    assert np.abs(sides.view(np.int64))[z != 0].max(initial=0) <= 1


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_slopes_are_those_of_the_function(name):
    """By differences on both sides, away from the kink."""
    link, z, h = HIDDEN[name], Z[(np.abs(Z) > 1e-3) & (np.abs(Z) < 50)], 1e-5
    numeric = (link.phi(z + h) - link.phi(z - h)) / (2 * h)
    assert np.abs(link.slope(z) - numeric).max() < 1e-8
    assert link.two_valued == set(np.unique(link.slope(Z))).issubset({0.0, 1.0})


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_nothing_overflows_far_out(name):
    """Not even where the helper stops the job; and the least numbers are no trouble either."""
    z = np.array([256.0, 1024.0, 1e6, 2.0**36, 5e-324, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for side in (z, -z):
            assert np.isfinite(HIDDEN[name].phi(side)).all()
            assert np.isfinite(HIDDEN[name].slope(side)).all()


# Elements


@given(st.integers(1, 500), st.integers(0, 3))
def test_the_order_of_elements_is_a_permutation(count, layer):
    """Every element once; and it leads back to where it came from."""
    order = Elements(b"k" * 32).permutation(STEP, layer, count)
    assert sorted(order) == list(range(count))
    words = np.arange(count, dtype=np.uint64)
    assert np.array_equal(restore_elements(words[order], order, (1, count)), words[np.newaxis])


def test_orders_signs_and_noise_differ_by_step_layer_purpose_and_key():
    """No two of them are alike."""
    steps = list(make_plan(Request("linear", 128, (6, 6), 64, 2, 0.1)).steps())
    draws = set()
    for elements in (Elements(b"k" * 32), Elements(b"k" * 32, "scoring"), Elements(b"l" * 32)):
        for step in steps:
            for layer in (0, 1):
                draws.add(elements.permutation(step, layer, 64).tobytes())
                draws.add(elements.signs(step, layer, 64).tobytes())
                draws.add(elements.noise(step, layer, 64, 52).tobytes())
            draws.add(elements.level(step, 64).tobytes())
    assert len(draws) == 3 * len(steps) * 7


def test_signs_are_even_and_noise_keeps_to_its_range():
    """Both signs as often; noise uniform in what it is asked to hide, and level uniform in all words."""
    elements, count, fz = Elements(b"k" * 32), 10**5, 52
    signs = elements.signs(STEP, 0, count).view(np.int64)
    assert set(signs.tolist()) == {1, -1}
    assert abs(signs.mean()) < 5 / count**0.5
    noise, half = decode(elements.noise(STEP, 0, count, fz - 2), fz), 0.25
    assert -half <= noise.min() < -0.99 * half
    assert 0.99 * half < noise.max() < half
    assert abs(noise.mean()) < 5 * half / (3 * count) ** 0.5
    level = elements.level(STEP, count)
    assert level.shape == (count, 1)
    assert abs((level >> np.uint64(63)).mean() - 0.5) < 5 / (2 * count**0.5)
