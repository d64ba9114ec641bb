"""Opens weights once under masks: of a model, or of one pass over some rows.

A model's serve all its predictions.

It sees shares and the secrets of masks; what comes out is uniform to its receiver, and has the same bits whenever it
is asked for. A party can so tell one lie of its weights and no second one: from two, rows could be solved for.

Symbols are those of `mpc.scoring.linear` and `mpc.network.forward`: f_ij = w_ij - v_ij, and G_j = W_j - g_j
of each upper layer. Outputs stand in their own order, since the secret one is another for each batch.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.architecture import Layout, pack
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import KEY_BYTES, Keystream, Masks, PairMasks, derive_key

DOMAIN = "tercet weight masks 1"
LEAST_EXPONENT = 3  # a model of a few small steps has moved no score yet; 2^3 leaves room for its last step
HEADROOM = 4.0


class WeightMasks(Protocol):
    """Gives masks of weights, "V" (i, j) and "g/k" (j, j), the same in all steps."""

    def __call__(self, mask: str, i: int, j: int, shape: tuple[int, int]) -> Words:
        """Return the words at this address."""


class PassMasks:
    """Gives masks of one pass: those that two agents share at its first step."""

    def __init__(self, masks: Masks, first: Step) -> None:
        self._masks, self._first = masks, first

    def __call__(self, mask: str, i: int, j: int, shape: tuple[int, int]) -> Words:
        """Return the words at this address."""
        return self._masks(mask, i, j, self._first, shape)


class ModelMasks:
    """Gives masks of a model, from one data party's seed.

    Whoever helps in a prediction is given the seed too.

    `names` are those of the data parties by index: a job may number the parties of a model anew.

    Raises:
        ValueError: the seed is not 32 bytes.
    """

    def __init__(self, seed: bytes, names: Sequence[str]) -> None:
        if len(seed) != KEY_BYTES:
            raise ValueError(f"a seed has {KEY_BYTES} bytes")
        self._seed, self._names = bytes(seed), tuple(names)
        self._streams: dict[tuple[str, int, int], Keystream] = {}

    def __call__(self, mask: str, i: int, j: int, shape: tuple[int, int]) -> Words:
        """Return the words at this address."""
        if (mask, i, j) not in self._streams:
            self._streams[mask, i, j] = Keystream(
                derive_key(self._seed, b"", (DOMAIN, mask, self._names[i], self._names[j]))
            )
        return self._streams[mask, i, j].words(0, 0, 0, shape)


def model_seed(masks: PairMasks) -> bytes:
    """Derive a data party's seed from its secret with the helper of the training.

    Neither can choose it alone.
    """
    return masks.secret("seed")


def commitment(seed: bytes) -> bytes:
    """Compute 32 bytes by which a seed is known again.

    The seed cannot be found from them, and no other has the same.
    """
    return hashlib.sha256(DOMAIN.encode() + bytes(seed)).digest()


def masked_blocks(me: int, partners: Mapping[int, Words], masks: WeightMasks) -> dict[int, Words]:
    """Compute f_ij of each other data party i, to whom it goes, from this party's shares."""
    return {i: share - masks("V", i, me, (share.shape[0], share.shape[1])) for i, share in partners.items()}


def masked_upper(me: int, layout: Layout, upper: tuple[Words, ...], masks: WeightMasks) -> Words:
    """Compute G_me of all upper layers, flat, for every other data party."""
    opened = {("G", k): upper[k] - masks(f"g/{k}", me, me, layout.upper(k)) for k in layout.hidden}
    return pack(layout.weights("G"), opened)


@dataclass(frozen=True)
class Openings:
    """Holds a data party's part of weights that are opened once.

    Attributes:
        masks: what it shares with the helper.
        blocks: f_(me,j) by the data party j that sent it.
        upper: the sum of all G_j, flat, its own included; None for a model without hidden layers.
    """

    masks: WeightMasks = field(repr=False)
    blocks: Mapping[int, Words] = field(repr=False)
    upper: Words | None = field(repr=False, default=None)


# --- how far a score may go


def guard_exponent(largest: float) -> int:
    """Choose the least e with 2^e at least four times the largest score of a training."""
    fraction, exponent = math.frexp(HEADROOM * largest)
    return max(LEAST_EXPONENT, exponent - (fraction == 0.5))


def blind_exponent(fz: int) -> int:
    """Choose the bound of scores where no party sees a training's.

    It is what words of f_z bits tell, less their guard.
    """
    return 62 - fz


def is_within(scores: Floats, limit: float) -> bool:
    """Tell whether all scores are within the limit; nan is not."""
    return bool(((scores <= limit) & (scores >= -limit)).all())
