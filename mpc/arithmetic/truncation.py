"""Truncates shared words by `bits` fractional bits with dealt randomness.

The result is exact or one unit above.

Nobody shifts a share, which would be off by 2^(64 - bits) now and then. The helper deals r and parts of it; only
x + 2^62 + r is opened, among data parties, and r makes that uniform. It holds for |x| < 2^62.

With c = x + 2^62 + r, r' the lower 63 bits of r, t its top bit, dealt as 0 or 1, and top the top bit of c:

    x >> bits = (c >> bits) - 2^(62 - bits) + (1 - 2 top) 2^(63 - bits) t - (r' >> bits)

The result is rounded up with the probability of what is cut off, so that it is unbiased.
"""

from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.ring import Words

LOW = np.uint64(2**63 - 1)
TOP = np.uint64(63)
SHIFT = np.uint64(2**62)
NO_SHIFT = np.uint64(0)  # of all shares but one


class OpenedValue(NamedTuple):
    """Holds the public part of a truncation.

    x >> bits = constant + factor t - (r' >> bits).
    """

    constant: Words
    factor: Words


def high_part(r: Words, bits: int) -> Words:
    """Return the lower 63 bits of r, shifted by `bits`; the helper deals shares of it."""
    return (r & LOW) >> np.uint64(bits)


def top_bit(r: Words) -> Words:
    """Return the top bit of r, 0 or 1; the helper deals shares of it."""
    return r >> TOP


def read_opened(c: Words, bits: int) -> OpenedValue:
    """Read what was opened, the sum of all shares of x + 2^62 + r."""
    constant = (c >> np.uint64(bits)) - np.uint64(1 << (62 - bits))
    return OpenedValue(constant, np.uint64(1 << (63 - bits)) - ((c >> TOP) << np.uint64(64 - bits)))


def share_truncated(c: Words, high: Words, top: Words, bits: int, *, first: bool) -> Words:
    """Compute a share of x >> bits from what was opened and shares of what is dealt.

    The `first` party adds what is public.
    """
    opened = read_opened(c, bits)
    share = opened.factor * top - high
    return share + opened.constant if first else share
