"""The digest of ids depends on the key, every id and their order, and on nothing else."""

import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tables.digest import ids_digest

KEY = bytes(range(32))
IDS = st.lists(st.text(max_size=5), max_size=6)


@given(ids=IDS, others=IDS)
def test_two_lists_have_the_same_digest_only_if_they_are_the_same(ids, others):
    """However the characters are dealt out among the ids."""
    assert (ids_digest(KEY, ids) == ids_digest(KEY, others)) == (ids == others)


@given(ids=st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=4), cut=st.integers(0, 12))
def test_moving_a_border_between_ids_changes_the_digest(ids, cut):
    """Which a digest of the plain concatenation would not notice."""
    text = "".join(ids)
    moved = [text[:cut], text[cut:]]
    assume(moved != ids)
    assert ids_digest(KEY, moved) != ids_digest(KEY, ids)


@given(ids=IDS, key=st.binary(min_size=32, max_size=32))
def test_another_key_gives_another_digest(ids, key):
    """So a guess can't be tested without it."""
    assume(key != KEY)
    assert ids_digest(key, ids) != ids_digest(KEY, ids)


def test_the_digest_is_the_documented_one():
    """Parties with different versions must agree."""
    stated = hmac.new(KEY, b"\x01\0\0\0a\x02\0\0\0\xc3\xa9", hashlib.sha256).digest()
    assert ids_digest(KEY, iter(["a", "é"])) == stated


def test_a_short_key_is_refused():
    """An empty one would let anybody test guesses."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        ids_digest(b"short", ["a"])
