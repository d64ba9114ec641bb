"""Writes a public key for people, with a checksum that finds a typo.

Between agents a key is written without it. Nothing here knows what a key is made of.
"""

import base64
import hashlib
from typing import Final

SEPARATOR: Final = "."  # which no key has
LENGTH: Final = 6  # of 64 letters each: one typo in 69 thousand million goes unnoticed


def with_checksum(key: str) -> str:
    """Write a key as it is given to partners."""
    return f"{key}{SEPARATOR}{_checksum(key)}"


def without_checksum(text: str) -> str:
    """Read a key as agents write it.

    One without a checksum, as earlier releases printed it, is taken as it is.

    Raises:
        ValueError: the checksum does not fit; the text holds no part of the key.
    """
    key, separator, checksum = text.partition(SEPARATOR)
    if separator and checksum != _checksum(key):
        raise ValueError("a letter of this key is wrong or missing, by its checksum: copy what `tercet keygen` printed")
    return key


def _checksum(key: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(f"tercet key checksum {key}".encode()).digest())[:LENGTH].decode()
