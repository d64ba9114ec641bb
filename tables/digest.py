"""A keyed digest of a table's ids, by which parties check that their rows are the same in the same order.

Only holders of the key can compute one, so that nobody else, helper and broker included, can test guesses at ids.
"""

import hashlib
import hmac
from collections.abc import Iterable


def ids_digest(key: bytes, ids: Iterable[str]) -> bytes:
    """HMAC-SHA256 over every id in row order, each as UTF-8 after its length in bytes (u32, little-endian).

    The lengths keep ("ab", "c") apart from ("a", "bc"). A million ids take less than a second.

    Args:
        key: 32 secret bytes that the data parties share.
        ids: in row order; order and repeats count.

    Raises:
        ValueError: the key is too short to keep guesses out.
    """
    if len(key) < hashlib.sha256().digest_size:
        raise ValueError("the key of an id digest needs at least 32 bytes")
    encoded = (text.encode() for text in ids)
    return hmac.digest(key, b"".join([len(one).to_bytes(4, "little") + one for one in encoded]), "sha256")
