"""Matches ids between two parties alone.

Each id becomes a group element, raised to a secret exponent of each party.

It sees its own party's ids and the partner's blinded elements, and lets out neither its exponent nor an element of an
id that is not blinded.
"""

import contextlib
import hashlib
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rbcl

from tercet.tables.matching.pseudonyms import HASH, RowNumbers

# rbcl leaves a copy of libsodium in the temporary folder for each process; a loaded one needs no file any more.
with contextlib.suppress(AttributeError, KeyError, OSError):
    Path(sys.modules["rbcl._sodium"].lib_path).unlink()

DOMAIN = b"tercet alignment element 1"
ELEMENT_BYTES = 32
TWICE = b"tercet twice"  # tells this use of the key from others


class InvalidElement(ValueError):
    """Bytes that are no group element, or the neutral one.

    That is the same under every exponent.
    """


class Blinding:
    """Blinds ids by one party's exponent for one run; may be shared by threads.

    The group is ristretto255, of prime order.

    A hash is mapped to the group so that nobody knows its logarithm: a multiple h(id) G of the generator would let
    whoever sees one blinded element test guesses at all others.
    """

    def __init__(self, key: bytes) -> None:
        """Draw the exponent; `key`: 32 bytes that both parties share, and nobody else."""
        self._key = key
        self._exponent: bytes = rbcl.crypto_core_ristretto255_scalar_random()

    def blind(self, ids: Iterable[str]) -> bytes:
        """Blind ids: an element of 32 bytes for each, under this party's exponent.

        About 0.1 ms each.
        """
        hashes = (hashlib.sha512(DOMAIN + self._key + one.encode()).digest() for one in ids)
        return b"".join([self._raise(rbcl.crypto_core_ristretto255_from_hash(one)) for one in hashes])

    def blind_again(self, elements: bytes) -> bytes:
        """Blind the partner's elements under this party's exponent too.

        They are hashed to 128 bits each, in the same order.

        The same id has the same hash at both parties. Hashed, they serve for nothing but to be compared.

        Raises:
            InvalidElement: one of them is none, or the neutral one.
        """
        blake2b, key = hashlib.blake2b, self._key
        twice = (self._raise(elements[at : at + ELEMENT_BYTES]) for at in range(0, len(elements), ELEMENT_BYTES))
        return b"".join([blake2b(one, key=key, digest_size=HASH.itemsize, person=TWICE).digest() for one in twice])

    def _raise(self, element: bytes) -> bytes:
        try:
            return bytes(rbcl.crypto_scalarmult_ristretto255(self._exponent, element))
        except (RuntimeError, ValueError):
            raise InvalidElement("no element of the group, or the neutral one") from None


def secret_order(count: int) -> RowNumbers:
    """Return the numbers below `count` in a random order that nobody else can know."""
    words = np.frombuffer(secrets.token_bytes(8 * count), np.uint64)
    return np.argsort(words)
