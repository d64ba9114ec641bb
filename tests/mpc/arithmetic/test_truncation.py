"""Dealt truncation is exact or one unit above, never anything else, and unbiased."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.ring import Words, from_signed, to_signed, total
from tercet.mpc.reference.network import round_by

SIZES = st.integers(-(2**62) + 1, 2**62 - 1)
WORDS = st.integers(0, 2**64 - 1)
EDGES = [0, 1, -1, 2**20, -(2**20), 2**61, 2**62 - 1, -(2**62) + 1]


def words(value: int) -> Words:
    """One word, modulo 2^64."""
    return np.array([[value % 2**64]], np.uint64)


def truncated(x: Words, r: Words, bits: int) -> Words:
    """The same by one who has both."""
    c = truncation.read_opened(x + truncation.SHIFT + r, bits)
    return c.constant + c.factor * truncation.top_bit(r) - truncation.high_part(r, bits)


def jointly(x: Words, r: Words, bits: int, parties: int, seed: int) -> Words:
    """What the shares of x >> bits add up to, made as data parties make them."""
    rng = np.random.default_rng(seed)

    def shared(value: Words) -> list[Words]:
        shares = [rng.integers(0, 2**64, value.shape, dtype=np.uint64) for _ in range(parties - 1)]
        return [*shares, value - total([np.zeros_like(value), *shares])]

    xs, rs = shared(x), shared(r)
    high, top = shared(truncation.high_part(r, bits)), shared(truncation.top_bit(r))
    sent = [a + b for a, b in zip(xs, rs, strict=True)]
    sent[0] = sent[0] + truncation.SHIFT
    c = truncation.read_opened(total(sent), bits)
    shares = [c.factor * t - h for t, h in zip(top, high, strict=True)]
    return total([c.constant, *shares])


@given(SIZES | st.sampled_from(EDGES), WORDS | st.sampled_from([0, 2**63, 2**63 - 1, 2**64 - 1]), st.integers(1, 40))
def test_the_result_is_exact_or_one_unit_above(x, r, bits):
    """For every |x| < 2^62 and every mask."""
    result = int(to_signed(truncated(words(x), words(r), bits))[0, 0])
    assert result - (x >> bits) in ({0} if x % 2**bits == 0 else {0, 1})


@given(SIZES, WORDS, st.integers(1, 40), st.sampled_from([2, 3, 5]), st.integers(0, 99))
def test_shares_add_up_to_what_the_oracle_rounds_to(x, r, bits, parties, seed):
    """Up where the lower bits of x and of the mask carry over."""
    due = round_by(words(x), words(r), bits)
    assert jointly(words(x), words(r), bits, parties, seed) == due
    assert truncated(words(x), words(r), bits) == due
    assert int(to_signed(due)[0, 0]) == (x + r % 2**bits) >> bits


@pytest.mark.parametrize("x", [12345678901, -12345678901, 3, -3, 2**19 + 1])
def test_the_rounding_is_unbiased(x):
    """The mean over all masks is x itself: to five deviations of 10^6 of them."""
    bits = 20
    r = np.random.default_rng(0).integers(0, 2**64, (1, 10**6), dtype=np.uint64)
    result = to_signed(truncated(from_signed(np.full(r.shape, x)), r, bits))
    part = (x % 2**bits) / 2**bits
    assert abs(result.mean() - x / 2**bits) < 5 * (part * (1 - part) / r.size) ** 0.5


def test_beyond_its_range_the_result_is_far_off():
    """At 2^62 and beyond it may be off by 2^(64 - bits): that is why the planner keeps far below."""
    x, bits = 2**62 + 2**61, 20
    r = np.random.default_rng(0).integers(0, 2**64, (1, 1000), dtype=np.uint64)
    result = to_signed(truncated(from_signed(np.full(r.shape, x)), r, bits))
    assert set((result - (x >> bits)).ravel().tolist()) - {0, 1}
    assert np.abs(result - (x >> bits)).max() >= 2 ** (63 - bits)
