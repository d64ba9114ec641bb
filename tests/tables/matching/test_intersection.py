"""However the lists are cut, each party learns of each hash of its own whether all have it, and little is held."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.matching import intersection
from tercet.tables.matching.intersection import Disordered, Merger, common_rows, is_among, pack_flags, unpack_flags
from tercet.tables.matching.pseudonyms import HASH, Repeated, as_hashes

LEAST, MOST = bytes(16), b"\xff" * 16
# A small world, so that lists overlap; zeros at either end, both halves, and bytes that are negative when signed.
HASHES = [LEAST, MOST] + [
    bytes([high, 0, 0, 0, 0, 0, 0, middle, low, 0, 0, 0, 0, 0, 0, 0])
    for high in (0, 0x80)
    for middle in (0, 7)
    for low in (0, 1, 0xFF)
]
LISTS = st.lists(st.sets(st.sampled_from(HASHES)).map(sorted), min_size=2, max_size=5)


def cut(data, hashes):
    """A list in chunks of any sizes, the last of which may be empty."""
    marks = sorted(data.draw(st.sets(st.integers(1, max(1, len(hashes))))))
    edges = [0, *(edge for edge in marks if edge < len(hashes)), len(hashes)]
    if hashes and data.draw(st.booleans()):
        edges.append(len(hashes))  # an empty last chunk
    return [hashes[a:b] for a, b in pairwise(edges)]


def merge(streams):
    """Hand each chunk over when it is wanted; the answers by party, and the most hashes that were held at once."""
    merger, held = Merger(streams), 0
    answers: dict[str, list[bytes]] = {party: [] for party in streams}
    left = {party: list(chunks) for party, chunks in streams.items()}
    while (wanted := merger.next_chunk) is not None:
        party, number = wanted
        assert len(streams[party]) - len(left[party]) == number
        assert len(answers[party]) == number, "all chunks before are answered"
        chunk = left[party].pop(0)  # never of a list that has ended: it would be empty
        for answer in merger.add_chunk(b"".join(chunk), last=not left[party]):
            assert answer.chunk == len(answers[answer.party])
            answers[answer.party].append(answer.bits)
        held = max(held, sum(len(stream.chunk) for stream in merger._streams.values()))
    assert not any(left.values())
    return answers, held


@given(LISTS, st.data())
def test_every_chunk_is_answered_with_one_bit_for_each_hash(lists, data):
    """Set where all lists have it; whatever the number of lists, their lengths and where they are cut."""
    everywhere = set.intersection(*map(set, lists))
    streams = {f"party {n}": cut(data, hashes) for n, hashes in enumerate(lists)}
    answers, held = merge(streams)
    for party, chunks in streams.items():
        assert len(answers[party]) == len(chunks)
        for chunk, bits in zip(chunks, answers[party], strict=True):
            assert unpack_flags(bits, len(chunk)).tolist() == [one in everywhere for one in chunk]
    assert held <= sum(max(map(len, chunks)) for chunks in streams.values())  # one chunk of each


def test_long_lists_are_merged_too():
    """Of many chunks, one list ten times the other."""
    numbers = np.random.default_rng(1)
    lists = [sorted({bytes(row) for row in numbers.integers(0, 256, (size, 16), np.uint8)}) for size in (500, 5000)]
    both = sorted({*lists[0][::3], *lists[1]})
    few, many = (
        [some[at : at + size] for at in range(0, len(some), size)] for some, size in ((lists[0], 7), (both, 64))
    )
    streams = {"few": few, "many": many}
    answers, held = merge(streams)
    flags = [
        flag
        for chunk, bits in zip(streams["few"], answers["few"], strict=True)
        for flag in unpack_flags(bits, len(chunk))
    ]
    assert [one for one, flag in zip(lists[0], flags, strict=True) if flag] == lists[0][::3]
    assert held <= 7 + 64


@pytest.mark.parametrize(
    ("chunks", "what"),
    [
        ([[LEAST, LEAST]], "do not ascend"),
        ([[MOST, LEAST]], "do not ascend"),
        ([[LEAST], [LEAST]], "do not ascend"),
        ([[HASHES[3]], [HASHES[2], MOST]], "do not ascend"),
        ([[]], "empty chunk"),
        ([[LEAST], []], "empty chunk"),
    ],
)
def test_a_list_out_of_order_is_refused_within_and_across_chunks(chunks, what):
    """Or somebody would make others' rows vanish, or keep the helper busy forever."""
    merger = Merger(["one"])
    for chunk in chunks[:-1]:
        merger.add_chunk(b"".join(chunk), last=False)
    with pytest.raises(Disordered, match=what) as caught:
        merger.add_chunk(b"".join(chunks[-1]), last=False)
    assert LEAST.hex() not in str(caught.value)


def test_without_any_hash_there_is_nothing_in_common():
    """Empty lists are lists."""
    merger = Merger(["one", "other"])
    assert merger.add_chunk(b"", last=True) == [("one", 0, b"")]
    assert merger.next_chunk == ("other", 0)
    assert merger.add_chunk(LEAST + MOST, last=True) == [("other", 0, b"\0")]
    assert merger.next_chunk is None


@given(st.sets(st.sampled_from(HASHES)), st.sets(st.sampled_from(HASHES)), st.data(), st.integers(1, 4))
def test_what_two_sets_share_comes_in_the_same_order_from_both(mine, theirs, data, slice_):
    """Ascending, whatever order each side has them in."""
    left, right = data.draw(st.permutations(sorted(mine))), data.draw(st.permutations(sorted(theirs)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intersection, "SLICE", slice_)
        rows = common_rows(as_hashes(b"".join(left)), as_hashes(b"".join(right)).copy())
        back = common_rows(as_hashes(b"".join(right)), as_hashes(b"".join(left)).copy())
    assert rows.dtype == np.int64
    assert [left[row] for row in rows] == sorted(mine & theirs) == [right[row] for row in back]


@pytest.mark.parametrize("mine", [True, False])
def test_a_hash_that_one_side_has_twice_is_refused(mine):
    """Two rows for one would upset the common order."""
    twice, once = as_hashes(HASHES[3] + MOST + HASHES[3]).copy(), as_hashes(HASHES[3]).copy()
    with pytest.raises(Repeated):
        common_rows(*((twice, once) if mine else (once, twice)))


@given(st.lists(st.booleans(), max_size=40))
def test_bits_are_flags_and_nothing_else(flags):
    """Another length or a stray bit is no answer."""
    bits = pack_flags(np.array(flags, np.bool_))
    assert unpack_flags(bits, len(flags)).tolist() == flags
    for wrong in (bits + b"\0", bits[:-1]):
        if len(wrong) != len(bits):
            with pytest.raises(ValueError, match="one bit for each"):
                unpack_flags(wrong, len(flags))
    for stray in range(len(flags), 8 * len(bits)):
        spoilt = bytearray(bits)
        spoilt[stray // 8] |= 0x80 >> stray % 8
        with pytest.raises(ValueError, match="0 to fill"):
            unpack_flags(bytes(spoilt), len(flags))


def test_nothing_is_found_in_nothing():
    """Nor beyond the last."""
    assert is_among(as_hashes(LEAST + MOST), np.empty(0, HASH)).tolist() == [False, False]
    assert is_among(as_hashes(LEAST + MOST), as_hashes(LEAST)).tolist() == [True, False]
