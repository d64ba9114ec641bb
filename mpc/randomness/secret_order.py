"""Draws the secret order of samples and classes, signs and noise words.

The data parties keep these from the helper.

The helper has no part in the key; nor does an attempt, so that a job taken up again sees the same order. Only the noise
is another one where an attempt repeats steps with other roundings, as it would cancel in what the helper sees twice.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.ring import Signed, Words, from_signed
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Keystream, derive_key

DOMAIN = "tercet order key 1"
ALIGNMENT_DOMAIN = "tercet alignment key 1"
COMMITMENT_DOMAIN = "tercet order commitment 1"
CONTRIBUTION_BYTES = 32


Purpose = Literal["training", "scoring", "held-out loss"]


def commitment(run: bytes, name: str, contribution: bytes) -> bytes:
    """Bind a data party to its contribution, 32 bytes, before it is opened.

    It hides a contribution that is uniform without further randomness, and is the same in every attempt of a run, so
    that nobody who has seen the others' may choose another one in a later attempt.
    """
    return hashlib.sha256(msgpack.packb([COMMITMENT_DOMAIN, run, name, contribution])).digest()


def alignment_key(job_digest: bytes, contributions: Mapping[str, bytes]) -> bytes:
    """Derive the key for everything about ids, from the contributions.

    Nobody's sizes and no plan are known then.

    All data parties have it, the helper does not. Take a key of its own for each use from it, by `derive_subkey`.

    Raises:
        ValueError: naming the data party whose contribution is not 32 bytes.
    """
    return _joint_key(ALIGNMENT_DOMAIN, job_digest, contributions)


def order_key(shape_digest: bytes, contributions: Mapping[str, bytes]) -> bytes:
    """Derive the key of `Order`, once the digest can cover sizes and plan.

    It is made of the same contributions.

    All data parties reach it, whatever the order of arrival; the helper does not.

    Raises:
        ValueError: naming the data party whose contribution is not 32 bytes.
    """
    return _joint_key(DOMAIN, shape_digest, contributions)


def _joint_key(domain: str, digest: bytes, contributions: Mapping[str, bytes]) -> bytes:
    for name, contribution in contributions.items():
        if len(contribution) != CONTRIBUTION_BYTES:
            raise ValueError(f"the order contribution of {name} is not {CONTRIBUTION_BYTES} bytes")
    parts = [[name, bytes(contributions[name])] for name in sorted(contributions)]
    return hashlib.sha256(msgpack.packb([domain, digest, parts])).digest()


def confirmation(key: bytes, name: str, held_out: bytes = b"") -> bytes:
    """Prove to the other data parties that this one reached the same key.

    Compare it in constant time.

    Args:
        key: the order key.
        name: of the data party that proves it.
        held_out: digest of the held-out rows in a training; so it proves these too.
    """
    return hmac.digest(derive_key(key, held_out, (DOMAIN, "confirmation")), name.encode(), "sha256")


def confirms(key: bytes, name: str, received: bytes, held_out: bytes = b"") -> bool:
    """Tell whether this is that data party's confirmation of the same key and rows."""
    return hmac.compare_digest(confirmation(key, name, held_out), received)


def derive_subkey(key: bytes, label: str) -> bytes:
    """Derive a key of 32 bytes for one use, named by its label.

    It says nothing of the key or of other uses' keys.
    """
    return derive_key(key, b"", (DOMAIN, label))


def noise_label(label: str, attempt: int) -> str:
    """Return the label of a noise stream in an attempt."""
    return label if attempt == 1 else f"{label} of attempt {attempt}"


def choose_held_out(key: bytes, ids: Iterable[bytes], holdout: float) -> NDArray[np.bool_]:
    """Choose the held-out ids, (ids,).

    Their keyed hash falls into the lowest `holdout` of its range.

    So whether a row is held out depends on its id alone, at every party, and nobody without the key can tell. The
    hash is keyed BLAKE2b, which takes a microsecond an id.

    Raises:
        ValueError: `holdout` is not in [0, 1).
    """
    if not 0.0 <= holdout < 1.0:
        raise ValueError("the part that is held out is at least 0 and below 1")
    return _keyed_hashes(key, ids) < np.uint64(int(holdout * 2.0**64))


def choose_fold(key: bytes, ids: Iterable[bytes], fold: int, folds: int) -> NDArray[np.bool_]:
    """Choose the ids of one of `folds` folds, (ids,); `fold` counts from 1.

    Their keyed hash falls into that part of its range. So each id is in one fold, the same one at every party.

    Raises:
        ValueError: there is no such fold.
    """
    if not 1 <= fold <= folds:
        raise ValueError("folds are counted from 1")
    hashes = _keyed_hashes(key, ids)
    first, last = ((number << 64) // folds for number in (fold - 1, fold))
    return (hashes >= np.uint64(first)) & (hashes <= np.uint64(last - 1))


def _keyed_hashes(key: bytes, ids: Iterable[bytes]) -> NDArray[np.uint64]:
    hashes = bytearray()  # grows in place: a list of ten million short hashes would take fifty bytes for each
    for one in ids:
        hashes += hashlib.blake2b(one, digest_size=8, key=key).digest()
    return np.frombuffer(hashes, "<u8")


class Order:
    """Draws one job's permutations, classes, signs and noise, for one purpose.

    All come from its order key.

    No two purposes have anything in common, so that the rows of both may be the same or others. `attempt` is the
    one whose noise it is.
    """

    def __init__(self, key: bytes, rows: int, purpose: Purpose = "training", attempt: int = 1) -> None:
        self._rows = rows
        prefix, noise = "" if purpose == "training" else f"{purpose} ", noise_label("noise", attempt)
        self._permutations, self._classes, self._signs, self._noise = (
            Keystream(derive_subkey(key, prefix + label)) for label in ("permutation", "classes", "signs", noise)
        )
        self._epochs: dict[int, Signed] = {}

    def permutation(self, epoch: int) -> Signed:
        """Return the order of all rows in this epoch, as indices.

        The last two asked for are kept: do not write to it.
        """
        if epoch not in self._epochs:
            words = self._permutations.words(0, epoch, 0, (self._rows,))
            self._epochs = dict(list(self._epochs.items())[-1:])
            self._epochs[epoch] = _indices(words)
        return self._epochs[epoch]

    def rows(self, step: Step) -> Signed:
        """Return the rows of a step's batch, in order."""
        return self.permutation(step.epoch)[step.start : step.stop]

    def classes(self, step: Step, outputs: int) -> Signed:
        """Return the order of a batch's classes, or of other outputs, as indices; (outputs,)."""
        if outputs == 1:
            return np.zeros(1, np.int64)
        return np.argsort(self._classes.words(0, step.epoch, step.position, (outputs,)), kind="stable")

    def signs(self, step: Step, *, odd: bool) -> Words:
        """Return 1 or -1 for each row of the batch, shape (rows, 1).

        All are 1 where the activation is not odd.
        """
        if not odd:
            return np.ones((step.rows, 1), np.uint64)
        words = self._signs.words(0, step.epoch, step.position, (-(-step.rows // 64),))
        bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=step.rows)
        return from_signed(1 - 2 * bits.astype(np.int64)[:, np.newaxis])

    def noise(self, step: Step, width: int, outputs: int = 1) -> Words:
        """Make noise for each pre-activation, uniform in [-2^width, 2^width).

        Shape (rows, outputs).

        `width` is `forward.noise_width`. Without noise the differences of z betray whole records to the helper. One
        word for all outputs of a row would cancel in their differences, and betray them too. Columns are those that
        the helper sees, in the order of `classes`.
        """
        return centred(self._noise.words(0, step.epoch, step.position, (step.rows, outputs)), width)


def _indices(words: Words) -> Signed:
    """Sort words, equal ones by their place; return the indices.

    Equal words of 64 bits hardly ever come, and a sort that need not mind them takes a third of the time.
    """
    order = np.argsort(words)
    found = words[order]
    return np.argsort(words, kind="stable") if (found[1:] == found[:-1]).any() else order


def centred(words: Words, width: int) -> Words:
    """Make words uniform in [-2^width, 2^width) from uniform ones."""
    return (words >> np.uint64(63 - width)) - np.uint64(1 << width)
