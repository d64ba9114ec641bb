"""Derives keyed masks: words that two holders of one secret compute alike.

Each has an address of its own.

It sees secrets and addresses, never a value that is masked. A mask is the same however often it is asked for.
Whoever uses one must use it on one value only.
"""

import hashlib
import hmac
import math
import struct
from collections.abc import Sequence
from functools import cache
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
BUNDLE = "#"  # at the end of the name of a mask of a bundle, whose number is the position of the step
BUNDLE_KEY = "key"  # the name by which a bundle's key is asked for, as words
MOST_BUNDLES = 64  # of which the keys are kept: as many as are in use at a time
ZEROS = bytes(1 << 16)  # encrypted again and again: small enough to stay in the cache
LITTLE_ENDIAN = np.dtype("<u8")


class Masks(Protocol):
    """Gives the protocol its masks; the address is (mask, i, j, step).

    "U" (i, i), "m_y" (label, label), "V", "M" and "R" (i, j) of a data party j and the helper; "U*", "M*" and "R*" of
    its checks; "zero" (i, j), i < j, of two data parties, by itself or `name_once` for each digest of theirs. For a
    loss "U_y" (label, label), "N" and "Q" (label, j) of j and the helper. For weights of rows "row weight" of the label
    party, and "unweighted" (j, j) of all others. Training, loss, validation, held-out loss and
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


class BundleMasks:
    """Derives one party's masks of one bundle, from the bundle's key alone.

    The counter block begins with 96 bits of the SHA-256 of a mask's name, i and j.
    """

    def __init__(self, key: bytes) -> None:
        self._key, self._stream = key, Keystream(key)

    def __call__(self, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:  # noqa: ARG002 - as `Masks`
        """Return the words of this mask, or the key itself."""
        if mask == BUNDLE_KEY + BUNDLE:
            return np.frombuffer(self._key, LITTLE_ENDIAN).astype(np.uint64).reshape(shape)
        return self._stream.words(*_hashed(mask, i, j), shape)


def opened_masks(key: Words) -> BundleMasks:
    """Make the masks of a bundle whose key was opened."""
    return BundleMasks(key.astype(LITTLE_ENDIAN).tobytes())


@cache
def _hashed(mask: str, i: int, j: int) -> tuple[int, int, int]:
    a, b, c = struct.unpack(">III", hashlib.sha256(f"{mask} {i} {j}".encode()).digest()[:12])
    return a, b, c


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
        self._bundles: dict[int, BundleMasks] = {}

    def __call__(self, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
        """Return the words of this mask at this step, or in this bundle."""
        if mask.endswith(BUNDLE):
            return self._bundle(step.position)(mask, i, j, step, shape)
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

    def _bundle(self, number: int) -> BundleMasks:
        """Return a bundle's masks; its key says nothing of another bundle's."""
        if number not in self._bundles:
            if len(self._bundles) == MOST_BUNDLES:
                del self._bundles[next(iter(self._bundles))]
            parent = self._parent("bundle", 0, 0)
            self._bundles[number] = BundleMasks(hmac.digest(parent, struct.pack(">Q", number), "sha256"))
        return self._bundles[number]

    def _key_once(self, mask: str, i: int, j: int) -> bytes:
        """Compute the HMAC of the digest, under a key of the mask.

        An HKDF at each step would take many times as long.
        """
        name, _, digest = mask.partition(ONCE)
        return hmac.digest(self._parent(name, i, j), bytes.fromhex(digest), "sha256")

    def _parent(self, name: str, i: int, j: int) -> bytes:
        if (name, i, j) not in self._parents:
            self._parents[name, i, j] = self._derived(f"{name}{ONCE}", i, j)
        return self._parents[name, i, j]

    def _derived(self, mask: str, i: int, j: int) -> bytes:
        return derive_key(self._secret, self._transcript, (*self._info, mask, i, j))
