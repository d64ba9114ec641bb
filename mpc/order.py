"""What the data parties keep from the helper: the order of the samples, their signs and the noise words.

The helper has no part in the key; nor does an attempt, so that a job taken up again sees the same order.
"""

import hashlib
import hmac
from collections.abc import Mapping

import msgpack
import numpy as np

from mpc.masks import Keystream, derive_key
from mpc.ring import Signed, Words, from_signed
from mpc.schedule import Step

DOMAIN = "tercet order key 1"
CONTRIBUTION_BYTES = 32
KEPT_BITS = 20  # fractional bits of z that the noise leaves to the helper


def order_key(job_digest: bytes, contributions: Mapping[str, bytes]) -> bytes:
    """The key that all data parties reach from their sealed contributions, whatever the order of arrival.

    Raises:
        ValueError: naming the data party whose contribution is not 32 bytes.
    """
    for name, contribution in contributions.items():
        if len(contribution) != CONTRIBUTION_BYTES:
            raise ValueError(f"the order contribution of {name} is not {CONTRIBUTION_BYTES} bytes")
    parts = [[name, bytes(contributions[name])] for name in sorted(contributions)]
    return hashlib.sha256(msgpack.packb([DOMAIN, job_digest, parts])).digest()


def confirmation(key: bytes, name: str) -> bytes:
    """What a data party sends the others to show that it reached the same key; compare in constant time."""
    return hmac.digest(_derived(key, "confirmation"), name.encode(), "sha256")


def confirms(key: bytes, name: str, received: bytes) -> bool:
    """Whether this is that data party's confirmation of the same key."""
    return hmac.compare_digest(confirmation(key, name), received)


def alignment_key(key: bytes) -> bytes:
    """The key for pseudonyms and digests of ids: all data parties have it, the helper does not."""
    return _derived(key, "alignment")


def _derived(key: bytes, label: str) -> bytes:
    return derive_key(key, b"", (DOMAIN, label))


class Order:
    """Permutations, signs and noise words of one job's training, from its order key."""

    def __init__(self, key: bytes, rows: int) -> None:
        self._rows = rows
        self._permutations, self._signs, self._noise = (
            Keystream(_derived(key, label)) for label in ("permutation", "signs", "noise")
        )
        self._epochs: dict[int, Signed] = {}

    def permutation(self, epoch: int) -> Signed:
        """The order of all rows in this epoch, as indices; the last two asked for are kept. Do not write to it."""
        if epoch not in self._epochs:
            words = self._permutations.words(0, epoch, 0, (self._rows,))
            self._epochs = dict(list(self._epochs.items())[-1:])
            self._epochs[epoch] = np.argsort(words, kind="stable")
        return self._epochs[epoch]

    def rows(self, step: Step) -> Signed:
        """The rows of a step's batch, in order."""
        return self.permutation(step.epoch)[step.start : step.stop]

    def signs(self, step: Step, *, odd: bool) -> Words:
        """1 or -1 for each row of the batch, shape (rows, 1); all 1 where the activation is not odd."""
        if not odd:
            return np.ones((step.rows, 1), np.uint64)
        words = self._signs.words(0, step.epoch, step.position, (-(-step.rows // 64),))
        bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=step.rows)
        return from_signed(1 - 2 * bits.astype(np.int64)[:, np.newaxis])

    def noise(self, step: Step, fz: int) -> Words:
        """Uniform in [-2^(f_z - 21), 2^(f_z - 21)) for each row of the batch, shape (rows, 1), f_z fractional bits.

        Without it the lowest bits of z, which are products of small whole numbers, betray narrow data to the helper.
        """
        width = fz - KEPT_BITS
        words = self._noise.words(0, step.epoch, step.position, (step.rows, 1))
        return (words >> np.uint64(64 - width)) - np.uint64(1 << (width - 1))
