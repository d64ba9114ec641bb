"""Stored series: as near to their functions as they say, on a masked score too; and their fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.functions.series import SERIES, Series, SeriesProblem, Terms, series_for
from tests.fit_series import SPECS, functions, identity, row

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol.md"
BITS = 57  # of a score with 13-bit features, products of two and 26-bit weights, and room
POINTS = 8001
NAMES = [f"{name}-{reach}-{terms}" for name, reach, terms in SERIES]


def bits_of(series: Series) -> int:
    """As many as BITS, or as its period leaves."""
    return min(BITS, 65 - series.period.bit_length())


def largest_errors(series: Series) -> dict[str, float]:
    """Of each function that there is, by angles of words, on a fine grid of its interval."""
    phi, second = functions(series.name)
    errors = {
        "phi": error_of(series, series.phi, phi, series.low, series.high),
        "second": error_of(series, series.second, second, series.low, series.high),
    }
    if series.score:
        low, high = series.score_low, series.score_high
        errors["score"] = error_of(series, series.score, identity, low, high)
    return errors


def error_of(series: Series, terms: Terms, function: Any, low: float, high: float) -> float:
    words = encode(np.linspace(low, high, POINTS), 50)[:, np.newaxis]
    found = terms.value(*series.angles(words, 50))
    return float(np.abs(found - function(decode(words, 50))).max())


@pytest.mark.parametrize("series", SERIES.values(), ids=NAMES)
def test_the_largest_error_is_what_is_stated(series):
    """Not more, and not less by more than a hundredth."""
    for field, found in largest_errors(series).items():
        assert 0.99 * getattr(series, field).error <= found <= getattr(series, field).error


def changed(instance: Any, field: str, value: Any) -> Any:
    """A series or terms with another value in one field."""
    return replace(instance, **{field: value})


@pytest.mark.parametrize("place", [0, 7, 15])
@pytest.mark.parametrize("key", [("logistic", 32, 16), ("poisson", 5, 16), ("silu", 8, 16)])
def test_a_planted_wrong_coefficient_is_found(key, place):
    """One that is off by a tenth of the error, in each function."""
    series = SERIES[key]
    for field, part in (("phi", "sines"), ("second", "cosines"), ("score", "sines")):
        if not getattr(series, field):
            continue
        terms = getattr(series, field)
        numbers = list(getattr(terms, part))
        numbers[place] += 0.1 * terms.error
        wrong = changed(series, field, changed(terms, part, tuple(numbers)))
        assert largest_errors(wrong)[field] > terms.error


@pytest.mark.parametrize("series", SERIES.values(), ids=NAMES)
def test_a_series_of_a_masked_score_is_that_of_the_score(series):
    """By cosines and sines of z + t and of t, t being uniform: as the data parties have them."""
    rng, bits = np.random.default_rng(5), bits_of(series)
    z = encode(rng.uniform(series.low, series.high, (200, 2)), bits)
    t = rng.integers(0, 2**64, z.shape, dtype=np.uint64)
    (cos, sin), (cos_t, sin_t) = series.angles(z + t, bits), series.angles(t, bits)
    unmasked = cos * cos_t + sin * sin_t, sin * cos_t - cos * sin_t
    for terms in filter(None, (series.phi, series.second, series.score)):
        size = sum(map(abs, (*terms.sines, *terms.cosines)))
        direct = terms.value(*series.angles(z, bits))
        assert np.abs(terms.value(*unmasked) - direct).max() < 3e-14 * max(1, size)


def test_angles_are_those_of_the_score():
    """2 pi m z / period for each multiple."""
    series, z = series_for("logistic", 32, 16), np.linspace(-60, 60, 301)[:, np.newaxis]
    cos, sin = series.angles(encode(z, 52), 52)
    for k, m in enumerate(series.multiples):
        assert np.abs(cos[k] - np.cos(2 * np.pi * m * z / 128)).max() < 1e-12
        assert np.abs(sin[k] - np.sin(2 * np.pi * m * z / 128)).max() < 1e-12


def test_a_quarter_wave_pushes_a_row_back_that_has_strayed():
    """Far beyond its reach, with the right sign."""
    for (name, reach, _), series in SERIES.items():
        if name in {"logistic", "sigmoid", "tanh"}:
            z = encode(np.array([[-1.8], [-1.2], [1.2], [1.8]]) * reach, 50)
            found = series.phi.value(*series.angles(z, 50))[:, 0]
            assert np.array_equal(np.sign(found), [-1, -1, 1, 1])
            assert np.abs(found).min() > 0.2


def test_too_many_bits_are_refused():
    """A period of 128 fills the word with 57."""
    series, z = series_for("logistic", 32, 16), np.zeros((1, 1), np.uint64)
    series.turns(z, 57)
    with pytest.raises(SeriesProblem, match="at most 57 fractional bits, not 58"):
        series.turns(z, 58)


def test_a_series_that_is_not_stored_is_refused_with_those_that_are():
    with pytest.raises(SeriesProblem, match="stored are: reach 16 with 16 terms; reach 32 with"):
        series_for("logistic", 24, 16)
    with pytest.raises(SeriesProblem, match="none of this name, but of gamma, gelu, linear"):
        series_for("relu", 8, 16)


def test_the_table_has_what_the_fit_is_asked_for():
    """`make series` after a change of either."""
    assert [(s.name, s.reach, s.terms) for s in SPECS] == [*SERIES]
    for spec, series in zip(SPECS, SERIES.values(), strict=True):
        assert [*series.multiples] == spec.multiples
        assert (series.period, series.low, series.high) == (spec.period, spec.low, spec.high)
        part = spec.scaled(spec.score_part)
        assert (series.score_low, series.score_high) == (part.low, part.high)


def test_links_alone_have_a_score():
    """A linear one's function is it already."""
    assert {s.name for s in SERIES.values() if s.score} == {"logistic", "linear", "poisson", "gamma"}
    assert all(s.score is s.phi for s in SERIES.values() if s.name == "linear")


@pytest.mark.parametrize("key", [("logistic", 16, 16), ("sigmoid", 8, 16)])
def test_the_table_is_what_the_fit_gives(key):
    """Up to what another release of the solver may choose."""
    spec = next(spec for spec in SPECS if (spec.name, spec.reach, spec.terms) == key)
    series = SERIES[key]
    for fitted, terms in zip(row(spec), (series.phi, series.second, series.score), strict=True):
        if terms is None or fitted is None:
            assert not terms
            assert not fitted
            continue
        constant, sines, cosines, error = fitted
        assert error == pytest.approx(terms.error, rel=0.01)
        stored = terms.sines if sines else terms.cosines  # each is odd or even
        assert [constant, *sines, *cosines] == pytest.approx([terms.constant, *stored], abs=1e-5)


def document_row(series: Series) -> str:
    """Its line in the document's table."""
    all_terms = (series.phi, series.second, series.score)
    errors = " | ".join(f"{terms.error:.1e}" if terms else "none" for terms in all_terms)
    interval, count = f"{series.low:g} to {series.high:g}", len(series.multiples)
    return f"| {series.name} | {interval} | {series.period} | {count} | {errors} |"


def test_the_document_tells_every_series_and_its_errors():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    assert [row for row in map(document_row, SERIES.values()) if row not in lines] == []
