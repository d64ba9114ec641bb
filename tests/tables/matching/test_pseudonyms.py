"""A pseudonym is a function of key and id alone, and the order is that of all its 128 bits."""

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tercet.tables.matching import pseudonyms as module
from tercet.tables.matching.pseudonyms import Repeated, as_hashes, ascending_order, is_ascending, pseudonyms

KEY = bytes(range(32))
IDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=8)
# Few values with zeros and high bytes at either end: a signed or shortened comparison gets these wrong.
HASH = st.lists(st.sampled_from([b"\0" * 4, b"\0\0\0\1", b"\x7f\0\0\0", b"\x80\0\0\0", b"\xff" * 4]), min_size=4).map(
    lambda parts: b"".join(parts[:4])
)


def parts(hashes):
    """Each hash as 16 bytes."""
    data = hashes.tobytes()
    return [data[at : at + 16] for at in range(0, len(data), 16)]


@given(ids=IDS, cut=st.integers(0, 8))
def test_a_pseudonym_is_the_documented_mac_of_one_id(ids, cut):
    """Whatever stands beside it, and however Arrow holds it: parties with different versions must agree."""
    stated = [hashlib.blake2b(one.encode(), digest_size=16, key=KEY).digest() for one in ids]
    for kind in (pa.string(), pa.large_string()):
        whole = pa.array(ids, kind)
        assert parts(pseudonyms(KEY, whole)) == stated
        assert parts(pseudonyms(KEY, whole.slice(min(cut, len(ids))))) == stated[cut:]


@given(ids=IDS, key=st.binary(min_size=32, max_size=32))
def test_another_key_gives_other_pseudonyms(ids, key):
    """So a guess can't be tested without it."""
    assume(key != KEY)
    assert set(parts(pseudonyms(KEY, pa.array(ids, pa.string())))).isdisjoint(
        parts(pseudonyms(key, pa.array(ids, pa.string())))
    )


@given(st.lists(HASH, unique=True, max_size=40), st.integers(1, 5))
def test_the_order_is_that_of_the_bytes(hashes, slice_):
    """As two words of 64 bits, the first byte highest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE", slice_)
        order = ascending_order(as_hashes(b"".join(hashes)))
    assert order.dtype == np.int64
    assert [hashes[place] for place in order] == sorted(hashes)
    words = [divmod(int.from_bytes(hashes[place], "big"), 2**64) for place in order]
    assert words == sorted(words)


@given(st.lists(HASH, unique=True, min_size=1, max_size=20), st.integers(1, 5), st.data())
def test_a_hash_that_stands_twice_is_noticed_wherever_it_stands(hashes, slice_, data):
    """Also where it would fall between two slices."""
    twice = data.draw(st.permutations([*hashes, data.draw(st.sampled_from(hashes))]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE", slice_)
        with pytest.raises(Repeated):
            ascending_order(as_hashes(b"".join(twice)))


@given(st.lists(HASH, max_size=6))
def test_ascending_means_strictly(hashes):
    """As Python compares bytes."""
    assert is_ascending(as_hashes(b"".join(hashes))) == all(a < b for a, b in pairwise(hashes))


def test_a_short_key_is_refused():
    """An empty one would let anybody test guesses."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        pseudonyms(b"short", pa.array(["a"]))
