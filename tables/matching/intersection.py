"""Finds hashes that stand in every party's list.

The sorted lists come in chunk by chunk.

It sees hashes and where they stand, never an id or a key, and holds one chunk of each list whatever the lists' length.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import numpy as np

from tercet.tables.matching.pseudonyms import (
    HASH,
    SLICE,
    Flags,
    Hashes,
    Repeated,
    RowNumbers,
    as_hashes,
    ascending_order,
    is_ascending,
)


class Disordered(ValueError):
    """A list that does not ascend, or that stops in the middle.

    Its sender's fault; the text holds no hash.
    """


class ChunkRequest(NamedTuple):
    """Asks for the chunk that is needed next."""

    party: str
    chunk: int


class PresenceBits(NamedTuple):
    """Tells a party which hashes of its chunk every list has, one bit for each."""

    party: str
    chunk: int
    bits: bytes


@dataclass(slots=True)
class _Stream:
    """Reads one list by its latest chunk.

    The chunk's first `settled` hashes are told apart already.
    """

    number: int = -1  # of the chunk
    chunk: Hashes = field(default_factory=lambda: np.empty(0, HASH))
    present: Flags = field(default_factory=lambda: np.empty(0, np.bool_))
    settled: int = 0
    latest: bytes = b""  # the greatest hash so far, less than any before there is one
    ended: bool = False
    answered: bool = True

    def start_chunk(self, data: bytes, *, last: bool) -> None:
        chunk = as_hashes(data)
        if not len(chunk) and not last:
            raise Disordered("an empty chunk that is not the last")
        if len(chunk) and not (self.latest < data[: HASH.itemsize] and is_ascending(chunk)):
            raise Disordered("hashes that do not ascend")
        self.number, self.chunk, self.settled = self.number + 1, chunk, 0
        self.present = np.zeros(len(chunk), np.bool_)
        self.latest, self.ended, self.answered = data[-HASH.itemsize :] or self.latest, last, False

    def decidable(self, bound: bytes | None) -> Hashes:
        """Return the hashes that can be told apart now: up to the bound, or all."""
        rest = self.chunk[self.settled :]
        if bound is None:
            return rest
        if not bound:
            return rest[:0]
        return rest[: np.searchsorted(rest, as_hashes(bound), side="right")[0]]

    def settle_flags(self, flags: Flags) -> None:
        self.present[self.settled : self.settled + len(flags)] = flags
        self.settled += len(flags)

    def presence_bits(self) -> bytes | None:
        """Return the bits of the chunk, once: when all of them are known."""
        if self.answered or self.settled < len(self.chunk):
            return None
        self.answered = True
        return pack_flags(self.present)


class Merger:
    """Merges ascending lists of hashes, one of each party.

    Add the `next_chunk` until there is none.

    Up to the least of the latest hashes, all that any list holds is known. So the list that ends there is asked for
    more, its own chunks all answered by then, and of every list at most one chunk waits here.
    """

    def __init__(self, parties: Iterable[str]) -> None:
        self._streams = {party: _Stream() for party in parties}

    @property
    def next_chunk(self) -> ChunkRequest | None:
        """The chunk that comes next.

        None when every list has ended, and every chunk is answered.
        """
        going_on = [party for party, stream in self._streams.items() if not stream.ended]
        if not going_on:
            return None
        party = min(going_on, key=lambda one: self._streams[one].latest)
        return ChunkRequest(party, self._streams[party].number + 1)

    def add_chunk(self, data: bytes, *, last: bool) -> list[PresenceBits]:
        """Add the chunk that is next, hashes one after another.

        Returns the answers that it makes possible, of any party.

        Raises:
            Disordered: the hashes do not ascend, or the chunk is empty and not the last. The party wanted is at fault.
        """
        assert self.next_chunk is not None
        self._streams[self.next_chunk.party].start_chunk(data, last=last)
        self._settle()
        answers = [(party, stream.number, stream.presence_bits()) for party, stream in self._streams.items()]
        return [PresenceBits(party, number, bits) for party, number, bits in answers if bits is not None]

    def _settle(self) -> None:
        streams = self._streams.values()
        bound = min((stream.latest for stream in streams if not stream.ended), default=None)
        due = [stream.decidable(bound) for stream in streams]
        everywhere = reduce(lambda left, right: left[is_among(left, right)], due)
        for stream, hashes in zip(streams, due, strict=True):
            stream.settle_flags(is_among(hashes, everywhere))


def is_among(hashes: Hashes, among: Hashes) -> Flags:
    """Mark the hashes that stand among those, which ascend."""
    if not len(among):
        return np.zeros(len(hashes), np.bool_)
    places = np.searchsorted(among, hashes)
    flags: Flags = among[np.minimum(places, len(among) - 1)] == hashes
    return flags


def common_rows(mine: Hashes, theirs: Hashes) -> RowNumbers:
    """Find the places in `mine` of the hashes that `theirs` has too, by ascending hash.

    Sorts `theirs` in place.

    Raises:
        Repeated: a hash stands twice in either.
    """
    theirs.sort()
    if not is_ascending(theirs):
        raise Repeated("a hash stands twice")
    order = ascending_order(mine)
    slices = (order[start : start + SLICE] for start in range(0, len(order), SLICE))
    return np.concatenate([order[:0], *(places[is_among(mine[places], theirs)] for places in slices)])


def pack_flags(flags: Flags) -> bytes:
    """Pack one bit for each flag, the first the highest of its byte.

    0 fills the last byte.
    """
    return np.packbits(flags).tobytes()


def unpack_flags(bits: bytes, count: int) -> Flags:
    """Unpack so many flags.

    Raises:
        ValueError: the bits are not `pack_flags` of so many.
    """
    flags = np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.bool_)
    if len(bits) != -(-count // 8) or flags[count:].any():
        raise ValueError("not one bit for each hash, and 0 to fill the last byte")
    return flags[:count]
