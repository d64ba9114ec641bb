"""The digest of ids depends on the key, every id and their order, and on nothing else."""

import hashlib
import hmac

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tercet.tables.matching import digest
from tercet.tables.matching.digest import ids_digest

KEY = bytes(range(32))
IDS = st.lists(st.text(max_size=5), max_size=6)


def of(ids, key=KEY, rows=None) -> bytes:
    """The digest of a table's ids, or of some of its rows."""
    index = np.arange(len(ids)) if rows is None else np.array(rows, dtype=np.int64)
    return ids_digest(key, pa.array(ids, pa.large_string()), index)


@given(ids=IDS, others=IDS)
def test_two_lists_have_the_same_digest_only_if_they_are_the_same(ids, others):
    """However the characters are dealt out among the ids."""
    assert (of(ids) == of(others)) == (ids == others)


@given(ids=st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=4), cut=st.integers(0, 12))
def test_moving_a_border_between_ids_changes_the_digest(ids, cut):
    """Which a digest of the plain concatenation would not notice."""
    text = "".join(ids)
    moved = [text[:cut], text[cut:]]
    assume(moved != ids)
    assert of(moved) != of(ids)


@given(ids=IDS, key=st.binary(min_size=32, max_size=32))
def test_another_key_gives_another_digest(ids, key):
    """So a guess can't be tested without it."""
    assume(key != KEY)
    assert of(ids, key) != of(ids)


@given(ids=st.lists(st.text(max_size=3), min_size=1, max_size=6), data=st.data())
def test_the_rows_are_taken_in_their_order(ids, data):
    """Two tables with other rows in another order agree on those they share."""
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=8))
    assert of(ids, rows=rows) == of([ids[row] for row in rows])


@given(ids=st.lists(st.text(max_size=3), max_size=9), chunk=st.integers(1, 4))
def test_the_digest_is_the_documented_one_however_it_is_cut(ids, chunk):
    """Parties with different versions must agree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "CHUNK", chunk)
        found = of(ids)
    stated = b"".join(len(one.encode()).to_bytes(4, "little") + one.encode() for one in ids)
    assert found == hmac.new(KEY, stated, hashlib.sha256).digest()


def test_a_slice_of_an_array_has_its_own_digest():
    """Arrow's slices share memory with the whole."""
    ids = pa.array(["x", "a", "é", "y"], pa.large_string()).slice(1, 2)
    assert ids_digest(KEY, ids, np.arange(2)) == of(["a", "é"])


def test_a_short_key_is_refused():
    """An empty one would let anybody test guesses."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        of(["a"], b"short")
