"""Computes cosines and sines of words: a word is an angle in 2^64ths of a turn.

Nothing here knows what an angle means. Every machine gets the same last bit: angles are reduced as
integers, and what follows is IEEE + - * alone, as in `elementary`.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words, series_kernels


def cos_sin(words: Words) -> tuple[Floats, Floats]:
    """Return cosine and sine of each word, both within 3e-16."""
    (cos,), (sin,) = rotations(words, (1,))
    return cos, sin


def rotations(words: Words, multiples: Sequence[int]) -> tuple[Floats, Floats]:
    """Return cosines and sines of multiples of each word, (multiples, *words.shape).

    Multiples have equal steps, as 1, 2, 3 or 1, 3, 5. Those that are known are turned by the angle
    between them and the next ones, so each turn doubles their number. That is within 1e-14 up to
    multiples of a hundred, and a third of the work of `cos_sin` for each.

    Raises:
        ValueError: for multiples without equal steps.
    """
    first, step = equal_steps(tuple(multiples))
    cos, sin = np.empty((2, len(multiples), words.size))
    series_kernels().turn(flat(words), first, step, cos, sin)
    shape = len(multiples), *words.shape
    return cos.reshape(shape), sin.reshape(shape)


def flat(words: Words) -> Words:
    """Return words one after another, in the order of their indices."""
    return np.ascontiguousarray(words).reshape(-1)


@cache
def equal_steps(multiples: tuple[int, ...]) -> tuple[np.uint64, np.uint64]:
    """Return the first of some multiples, and by how much each is more than the one before.

    Raises:
        ValueError: for multiples without equal steps.
    """
    first, step = multiples[0], (multiples[1] - multiples[0] if len(multiples) > 1 else 1)
    if any(m != first + step * k for k, m in enumerate(multiples)):
        raise ValueError(f"multiples {multiples} do not have equal steps")
    return np.uint64(first), np.uint64(step)
