"""Checks every gradient share that the helper deals; no data party tells another a mask.

It sees masks, words under masks, and random projections that the helper has no part in; never a value.

What the helper deals party i for partner j is g_ij = U_i^T k_ij - r_ij, with k_ij what j knows of the masks on the
activation. Everything in it but g_ij follows from keys at both ends, so g_ij is all that a helper could alter. It deals
one more such product, of masks of their own and a few columns wide, gamma_ij = U*_i^T M*_ij - R*_ij. With projections
s_i, (columns, checks), and t_i, (outputs, checks), from the order key,

    eps_i    = U_i s_i - U*_i                              i -> every other data party
    delta_ij = k_ij t_i - M*_ij                            j -> i
    theta_ij = s_i^T g_ij t_i - gamma_ij - U*_i^T delta_ij              at i
    tau_ij   = eps_i^T k_ij t_i - s_i^T r_ij t_i + R*_ij                at j

theta and tau are equal if g_ij and gamma_ij are what they should be. An altered g_ij passes with a probability of
2^-(checks (64 - v)) where the alteration is a multiple of 2^v, since the helper knows no projection.

Neither is told to anybody: who sends the other a wrong eps or delta would learn a combination of the other's words from
the answer. Instead both ends hash them into a digest, by which the streams of their zero share are keyed from the next
step on. If the helper dealt wrongly these do not cancel, and all that it receives is uniform from then on. From time to
time the two ends compare digests, by commitments that are opened once both are there.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.ring import Words, expect, product, total, transposed_product
from tercet.mpc.plan.check_sizes import Sizes
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Keystream, Masks
from tercet.mpc.randomness.secret_order import derive_subkey

NO_DIGEST = bytes(32)
Projection = tuple[Words, Words | None]  # s_i and t_i


class Projections:
    """Draws s_i and t_i of each step of one attempt.

    All data parties draw them alike, and the helper does not know them.

    Args:
        key: The order key.
        sizes: Of the job.
        attempt: Its number. A helper that got by with an alteration could repeat it under the same projection.
    """

    def __init__(self, key: bytes, sizes: Sizes, attempt: int = 1) -> None:
        self._stream, self._sizes = Keystream(derive_subkey(key, f"projections of attempt {attempt}")), sizes

    def of(self, step: Step) -> list[Projection]:
        """Return s_i, (columns, checks), and t_i, (outputs, checks), of every data party i.

        t_i is None for the identity.
        """
        sizes = self._sizes
        outputs = 0 if sizes.narrow == sizes.width else sizes.width
        bounds = [0, *accumulate(columns + outputs for columns in sizes.columns)]
        words = self._stream.words(0, step.epoch, step.position, (bounds[-1], sizes.checks))
        parts = [words[a:b] for a, b in pairwise(bounds)]
        return [(part[:n], part[n:] if outputs else None) for part, n in zip(parts, sizes.columns, strict=True)]


class _PendingStep(NamedTuple):
    """Holds a step's data until its gradient share is checked."""

    mask: Words  # U*
    deltas: dict[int, Words]  # delta_(me,j) by j
    taus: dict[int, Words]  # tau_(i,me) by i


class Checks:
    """Data party `me`'s checks in one attempt. Not to be shared by threads.

    For each step, in order: `openings`, `absorb` and `gradient`; the first two may run ahead.

    Args:
        me: This party's index.
        sizes: Of the job.
        projections: From the order key.
        masks: Shared with the helper, of the purpose training.
        digests: Where an earlier attempt was, by party: what that has found must not be forgotten.
    """

    def __init__(
        self,
        me: int,
        sizes: Sizes,
        projections: Projections,
        masks: Masks,
        digests: Mapping[int, bytes] | None = None,
    ) -> None:
        self._me, self.sizes, self._projections, self._masks = me, sizes, projections, masks
        self._others = [i for i in range(len(sizes.columns)) if i != me]
        self._own_masks: dict[int, Words] = {}  # U* by step
        self._projected: dict[int, list[Projection]] = {}  # by step
        self._pending: dict[int, _PendingStep] = {}
        self.digests = {j: NO_DIGEST if digests is None else digests[j] for j in self._others}
        """What this party and each other one have found so far; the same at both, or the helper dealt wrongly."""

    def openings(self, step: Step, u: Words, known: Mapping[int, Words]) -> dict[int, Words]:
        """Compute eps_me beside delta_(i,me) for each other data party i.

        The shape is `Sizes.opened` of the rows; `known` are the k_(i,me).
        """
        me, sizes = self._me, self.sizes
        mask = self._own_masks[step.index] = self._masks("U*", me, me, step, (step.rows, sizes.checks))
        projected = self._projected[step.index] = self._projections.of(step)
        eps = product(u, projected[me][0]) - mask
        shape, found = (step.rows, sizes.narrow), {}
        for i in self._others:
            delta = _narrowed(known[i], projected[i][1]) - self._masks("M*", i, me, step, shape)
            found[i] = np.concatenate([eps, delta], axis=1)
        return found

    def expect_openings(self, step: Step, opened: Mapping[int, Words]) -> dict[int, Words]:
        """Check the shapes of the openings of all other data parties.

        Raises:
            ShapeProblem: naming the data party whose words have the wrong shape.
        """
        shape = self.sizes.opened(step.rows)
        return {i: expect(opened[i], shape, f"openings of masks of party {i}") for i in self._others}

    def absorb(
        self, step: Step, opened: Mapping[int, Words], known: Mapping[int, Words], rs: Mapping[int, Words]
    ) -> None:
        """Take in what `expect_openings` gives of every other data party i.

        `known` and `rs` are this party's own for block i.
        """
        sizes, taus, deltas = self.sizes, {}, {}
        checks = sizes.checks
        for i, words in opened.items():
            s, t = self._projected[step.index][i]
            tau = inner(words[:, :checks], _narrowed(known[i], t)) - inner(s, _narrowed(rs[i], t))
            taus[i] = tau + self._masks("R*", i, self._me, step, (checks, sizes.narrow))
            deltas[i] = words[:, checks:]
        self._pending[step.index] = _PendingStep(self._own_masks.pop(step.index), deltas, taus)

    def gradient(self, step: Step, dealt: Words) -> Words:
        """Compute g_me, (columns, outputs), from the helper's words (`Sizes.dealt`).

        They go into the digests.
        """
        parts = self._unpack(dealt)
        pending, (s, t) = self._pending.pop(step.index), self._projected.pop(step.index)[self._me]
        for j, (g, gamma) in parts.items():
            theta = inner(s, _narrowed(g, t)) - gamma - inner(pending.mask, pending.deltas[j])
            both = (theta, pending.taus[j]) if self._me < j else (pending.taus[j], theta)
            self.digests[j] = extend_digest(self.digests[j], both)
        return total(g for g, _ in parts.values())

    def _unpack(self, dealt: Words) -> dict[int, tuple[Words, Words]]:
        sizes, me = self.sizes, self._me
        words = dealt.reshape(len(self._others), -1)
        block, check = (sizes.columns[me], sizes.width), (sizes.checks, sizes.narrow)
        cut = block[0] * block[1]
        rows = zip(self._others, words, strict=True)
        return {j: (row[:cut].reshape(block), row[cut:].reshape(check)) for j, row in rows}


def deal_checked(
    i: int, sizes: Sizes, masks: Mapping[int, Masks], step: Step, *, u: Words, known: Mapping[int, Words]
) -> Words:
    """Compute g_ij and gamma_ij of each other party j, at the helper.

    They stand in one row (`Sizes.dealt`); `known` are the k_ij.
    """
    block, check = (sizes.columns[i], sizes.width), (sizes.checks, sizes.narrow)
    star = masks[i]("U*", i, i, step, (step.rows, sizes.checks))
    parts = []
    for j, words in known.items():
        g = transposed_product(u, words) - masks[j]("R", i, j, step, block)
        gamma = inner(star, masks[j]("M*", i, j, step, (step.rows, sizes.narrow)))
        parts += [g, gamma - masks[j]("R*", i, j, step, check)]
    return np.concatenate([part.reshape(1, -1) for part in parts], axis=1)


def extend_digest(digest: bytes, found: Iterable[Words]) -> bytes:
    """Return the digest of what two parties have found before, and of these words."""
    words = b"".join(np.ascontiguousarray(each, "<u8").tobytes() for each in found)
    return hashlib.sha256(digest + words).digest()


def inner(a: Words, b: Words) -> Words:
    """Compute a^T b for a and b of a few columns each.

    Compiled products take longer there.
    """
    found: Words = np.einsum("rc,rk->ck", a, b)
    return found


def _narrowed(words: Words, t: Words | None) -> Words:
    """Multiply words by t."""
    return words if t is None else product(words, t)


def commitment(digest: bytes, salt: bytes, name: str) -> bytes:
    """Bind a data party to a digest, and say nothing of it.

    Each tells the other before either opens.
    """
    return hmac.digest(salt, digest + name.encode(), "sha256")


def commits(digest: bytes, salt: bytes, name: str, received: bytes) -> bool:
    """Tell whether that data party was bound to the same digest."""
    return hmac.compare_digest(commitment(digest, salt, name), received)
