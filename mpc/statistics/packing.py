"""Packs words of a small ring for the wire, and makes indicators of cells.

Two words of 32 bits share one of 64. It knows nothing of masks but that they are words.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words


def masked_indicators(cells: Signed, mask: Words, bits: int) -> Words:
    """Compute B - U, as packed as U is.

    B has a 1 for each of a row's cells: (rows, columns) of their numbers. U is a packed mask.
    """
    narrow = (np.uint64(0) - mask) if bits == 64 else np.uint32(0) - mask.view(np.uint32)
    narrow[np.arange(len(cells))[:, np.newaxis], cells] += narrow.dtype.type(1)
    return narrow.view(np.uint64)


def unpack_words(packed: Words, columns: int, bits: int) -> Words:
    """Return packed words as words of 64 bits, (rows, columns)."""
    if bits == 64:
        return packed
    return np.ascontiguousarray(packed).view(np.uint32)[:, :columns].astype(np.uint64)


def indicators(cells: Signed, count: int) -> Words:
    """Make B of a batch, (rows, count): a 1 for each of a row's cells."""
    made = np.zeros((len(cells), count), np.uint64)
    made[np.arange(len(cells))[:, np.newaxis], cells] = 1
    return made


def split_words(words: Words, shapes: Iterable[tuple[int, int]]) -> Iterator[Words]:
    """Split one row of words into parts of these shapes."""
    start = 0
    for rows, columns in shapes:
        yield words[0, start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
