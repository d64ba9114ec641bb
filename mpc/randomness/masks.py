"""Derives keyed masks: words that two holders of one secret compute alike.

Each has an address of its own.

It sees secrets and addresses, never a value that is masked; a mask is the same however often it is asked for, and
whoever uses one must use it on one value only.
"""

import hmac
import math
import struct
from collections.abc import Sequence
from typing import Protocol

import msgpack
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.schedule import Step

VERSION = 1  # of the protocol: a change of what is derived from a secret changes it
KEY_BYTES = 32
MOST_BLOCKS = 2**32  # the counter block has 32 bits for them
ONCE = "@"  # in the name of a mask: its key is for one step
ZEROS = bytes(1 << 16)  # encrypted again and again: small enough to stay in the cache
LITTLE_ENDIAN = np.dtype("<u8")


class Masks(Protocol):
    """Gives the protocol its masks; the address is (mask, i, j, step).

    "U" (i, i), "m_y" (label, label), "V", "M" and "R" (i, j) of a data party j and the helper; "U*", "M*" and "R*" of
    its checks; "zero" (i, j), i < j, of two data parties, by itself or `name_once` for each digest of theirs. For a
    loss "U_y" (label, label), "N" and "Q" (label, j) of j and the helper. Training, loss, validation, held-out loss and
    prediction each have masks of their own, which the caller chooses.
    """

    def __call__(self, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
        """Return the words at this address."""


def name_once(mask: str, digest: bytes) -> str:
    """Name a mask that has a key of its own for each digest.

    So it is asked for at one step alone.
    """
    return f"{mask}{ONCE}{digest.hex()}"


def derive_key(secret: bytes, salt: bytes, info: Sequence[str | int | bytes]) -> bytes:
    """Derive 32 bytes from a secret by HKDF-SHA256.

    The info is msgpack, so that no two lists of parts are spelt alike.

    Raises:
        ValueError: for a secret of zeros only, which a hostile peer can provoke.
    """
    if not any(secret):
        raise ValueError("the secret is empty or all zero")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=msgpack.packb(list(info))).derive(secret)


class Keystream:
    """The AES-CTR words of one key. May be shared by threads."""

    def __init__(self, key: bytes) -> None:
        self._cipher = algorithms.AES(key)
        self._idle: list[CipherContext] = []  # making one takes longer than 16 KiB of its stream

    def words(self, attempt: int, epoch: int, step: int, shape: tuple[int, ...]) -> Words:
        """Return uniform words of this shape.

        The counter block is (attempt, epoch, step, block), 32 bits each.

        Raises:
            OverflowError: for more than 2^32 blocks, or a part of the address beyond 32 bits.
        """
        if math.prod(shape) * 8 > MOST_BLOCKS * 16:
            raise OverflowError("more than 2^32 blocks at one address of a mask")
        try:
            nonce = struct.pack(">IIII", attempt, epoch, step, 0)
        except struct.error:
            raise OverflowError("a part of a mask's address needs more than 32 bits") from None
        words: Words = np.empty(shape, LITTLE_ENDIAN)
        stream = self._at(nonce)
        _fill(stream, words.reshape(-1).view(np.uint8).data)
        self._idle.append(stream)
        return words.astype(np.uint64, copy=False)

    def _at(self, nonce: bytes) -> CipherContext:
        """Return a stream that begins at this block and that nobody else has."""
        try:
            stream = self._idle.pop()
        except IndexError:
            return Cipher(self._cipher, modes.CTR(nonce)).encryptor()
        stream.reset_nonce(nonce)
        return stream


def _fill(stream: CipherContext, out: memoryview) -> None:
    for start in range(0, len(out), len(ZEROS)):
        part = out[start : start + len(ZEROS)]
        stream.update_into(ZEROS[: len(part)], part)


class PairMasks:
    """Derives the masks that two agents share in one attempt, for one purpose.

    `sender` is the data party and `receiver` the helper, or the data parties of lower and higher index: both ends must
    name them alike. `secret` is their X25519 result and `transcript` the hash of the handshake.
    """

    def __init__(
        self, secret: bytes, *, transcript: bytes, job: bytes, attempt: int, sender: str, receiver: str, purpose: str
    ) -> None:
        self._secret, self._transcript = secret, transcript
        self._info: tuple[str | int | bytes, ...] = (VERSION, job, attempt, sender, receiver, purpose)
        self._attempt = attempt
        self._streams: dict[tuple[str, int, int], Keystream] = {}
        self._parents: dict[tuple[str, int, int], bytes] = {}  # of keys that are for one step

    def __call__(self, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
        """Return the words of this mask at this step."""
        return self._stream(mask, i, j).words(self._attempt, step.epoch, step.position, shape)

    def secret(self, name: str) -> bytes:
        """Derive a secret of 32 bytes that outlives the attempt.

        Both ends have it, and no mask is made of it here.
        """
        return derive_key(self._secret, self._transcript, (*self._info, name))

    def _stream(self, mask: str, i: int, j: int) -> Keystream:
        if ONCE in mask:
            return Keystream(self._key_once(mask, i, j))
        if (mask, i, j) not in self._streams:
            self._streams[mask, i, j] = Keystream(self._derived(mask, i, j))
        return self._streams[mask, i, j]

    def _key_once(self, mask: str, i: int, j: int) -> bytes:
        """Compute the HMAC of the digest, under a key of the mask.

        An HKDF at each step would take many times as long.
        """
        name, _, digest = mask.partition(ONCE)
        if (name, i, j) not in self._parents:
            self._parents[name, i, j] = self._derived(f"{name}{ONCE}", i, j)
        return hmac.digest(self._parents[name, i, j], bytes.fromhex(digest), "sha256")

    def _derived(self, mask: str, i: int, j: int) -> bytes:
        return derive_key(self._secret, self._transcript, (*self._info, mask, i, j))
