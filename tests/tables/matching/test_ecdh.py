"""Two parties reach the same hash for the same id, and see of one another fresh elements of a group of prime order."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import rbcl
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.tables.matching.ecdh import Blinding, InvalidElement, secret_order

KEY = bytes(range(32))
IDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), unique=True, max_size=5)


def parts(data, size):
    """Pieces of so many bytes."""
    assert len(data) % size == 0
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(max_examples=20, deadline=None)
@given(mine=IDS, theirs=IDS)
def test_the_same_id_and_no_other_has_the_same_hash_at_both(mine, theirs):
    """Whoever raises first."""
    bank, card = Blinding(KEY), Blinding(KEY)
    own = parts(card.blind_again(bank.blind(mine)), 16)
    partner = parts(bank.blind_again(card.blind(theirs)), 16)
    assert len(own) == len(mine)
    assert [one in partner for one in own] == [one in theirs for one in mine]
    assert dict(zip(mine, own, strict=True)).items() >= {
        (one, twice) for one, twice in zip(theirs, partner, strict=True) if one in mine
    }


def test_every_run_has_other_elements_and_other_hashes():
    """Nothing links two runs, nor an element to its id."""
    ids = [f"customer {number}" for number in range(50)]
    bare = {
        rbcl.crypto_core_ristretto255_from_hash(hashlib.sha512(prefix + one.encode()).digest())
        for prefix in (b"", b"tercet alignment element 1", b"tercet alignment element 1" + KEY)
        for one in ids
    }
    runs = [Blinding(KEY) for _ in range(3)]
    seen = [one for run in runs for one in parts(run.blind(ids), 32)]
    assert len(set(seen)) == 150
    assert bare.isdisjoint(seen)
    hashes = [one for run in runs[1:] for one in parts(run.blind_again(runs[0].blind(ids)), 16)]
    assert len(set(hashes)) == 100


def test_another_key_maps_ids_elsewhere():
    """Whoever has not the key could not even name the elements, nor the hashes."""
    exponent = rbcl.crypto_core_ristretto255_scalar_random()
    with patch.object(rbcl, "crypto_core_ristretto255_scalar_random", lambda: exponent):
        bank, card = Blinding(KEY), Blinding(bytes(32))
    assert bank.blind(["a"]) != card.blind(["a"])
    assert bank.blind_again(bank.blind(["a"])) != card.blind_again(bank.blind(["a"]))


# The neutral element; a negative one; more than the field's prime; no square; the end of one too few.
INVALID = [bytes(32), b"\1" + bytes(31), b"\xff" * 32, b"\2" + bytes(30) + b"\x40", b"x" * 31]


@pytest.mark.parametrize("invalid", INVALID)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_element_is_refused_wherever_it_stands(invalid, place):
    """The neutral element too: it stays itself under every exponent."""
    blinding = Blinding(KEY)
    good = parts(Blinding(KEY).blind(["a", "b"]), 32)
    if len(invalid) < 32:
        place = 2
    with pytest.raises(InvalidElement):
        blinding.blind_again(b"".join([*good[:place], invalid, *good[place:]]))


def test_no_element_is_invalid_by_rule_and_not_by_luck():
    """The examples are what they are said to be."""
    assert [rbcl.crypto_core_ristretto255_is_valid_point(one) for one in INVALID[:4]] == [True, False, False, False]


@given(st.integers(0, 300))
def test_a_secret_order_has_each_place_once(count):
    """A permutation."""
    order = secret_order(count)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(count))


def test_no_two_secret_orders_are_alike():
    """Nor is one the table's own."""
    orders = {tuple(secret_order(100)) for _ in range(20)} | {tuple(range(100))}
    assert len(orders) == 21


def test_no_file_is_left_behind(tmp_path: Path) -> None:
    """Each process that loads the library would leave 2.7 MB."""
    script = "from tercet.tables.matching.ecdh import Blinding; print(len(Blinding(bytes(32)).blind(['7'])))"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert (done.stdout.strip(), [*tmp_path.iterdir()]) == ("32", [])
