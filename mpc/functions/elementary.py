"""Computes exponential, logarithm and functions made of them.

They give the same bits on every machine.

Nothing here knows what a number means. Only IEEE + - * /, rint, ldexp, frexp, copysign, comparisons and sorting are
used; numpy's own exp and log may differ by one unit between processors.
"""

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats

# ln 2 in two parts: the first has 32 fractional bits, so that a whole number of up to 20 bits times it is exact.
LN2_HIGH = float.fromhex("0x1.62e42ff000000p-1")
LN2_LOW = float.fromhex("-0x1.718432a1b0e26p-35")
PER_LN2 = float.fromhex("0x1.71547652b82fep+0")
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
# r coth(r/2) - 2 as a series in r^2: 2 B_2n / (2n)! with Bernoulli's numbers; the next term is below 2^-56 here.
COTH = (1 / 6, -1 / 360, 1 / 15120, -1 / 604800, 1 / 23950080, -691 / 653837184000)
LEAST_EXPONENT = -746.0  # exp of anything below is zero
# artanh(q) / q as a series in q^2; the next term is below 2^-57 for q <= 1/3.
ARTANH = tuple(1 / odd for odd in range(1, 35, 2))


def _series(square: Floats, coefficients: tuple[float, ...]) -> Floats:
    """Sum of coefficients[n] square^n."""
    series = np.full_like(square, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        series *= square
        series += coefficient
    return series


def exp(x: Floats) -> Floats:
    """Compute e^x for x <= 700.

    It is within one unit in the last place down to 2^-1022; nan stays nan.

    With x = k ln 2 + r, |r| <= ln 2 / 2: e^r = 1 + 2r / (r coth(r/2) - r), rearranged so that only a small term is
    rounded.
    """
    x = np.maximum(x, LEAST_EXPONENT)
    k = np.rint(x * PER_LN2)
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    square = r * r
    c = r - square * _series(square, COTH)
    return np.ldexp(1.0 - ((low - r * c / (2.0 - c)) - high), k.astype(np.int64))


def log(x: Floats) -> Floats:
    """Return the natural logarithm of positive numbers, within one unit in the last place.

    Nan stays nan.

    With x = 2^k (1 + f), 1 + f between sqrt(1/2) and sqrt(2), and q = f / (2 + f): log(1 + f) = 2 artanh(q), which is
    f - q (f - (2 artanh(q) / q - 2)), so that only a small term is rounded.
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < SQRT_HALF
    f = np.where(small, 2.0 * mantissa, mantissa) - 1.0
    k = (exponent - small).astype(np.float64)
    q = f / (2.0 + f)
    square = q * q
    tail = 2.0 * square * _series(square, ARTANH[1:])
    return k * LN2_HIGH - ((q * (f - tail) - k * LN2_LOW) - f)


def centred_sigmoid(z: Floats) -> Floats:
    """Return sigmoid(z) - 1/2, odd to the last bit: the helper sees z under a secret sign."""
    return np.copysign(1.0 / (1.0 + exp(-np.abs(z))) - 0.5, z)


def log_two_cosh(z: Floats) -> Floats:
    """Return log(2 cosh(z/2)) = |z|/2 + log(1 + exp(-|z|)), even to the last bit."""
    size = np.abs(z)
    return size / 2.0 + log_one_plus(exp(-size))


def log_one_plus(e: Floats) -> Floats:
    """Return log(1 + e) for e in [0, 1]: 2 artanh(q) with q = e / (2 + e) <= 1/3."""
    q = e / (2.0 + e)
    return 2.0 * q * _series(q * q, ARTANH)


def softmax(z: Floats) -> Floats:
    """Return rows of probabilities, (rows, classes).

    In another order of the classes they are the same to the last bit.
    """
    _, e, whole = _exponentials(z)
    return e / whole


def log_sum_exp(z: Floats) -> Floats:
    """Compute the log of the summed exponentials of each row, (rows, 1).

    In another order of the classes it is the same to the last bit.
    """
    top, _, whole = _exponentials(z)
    return top + log(whole)


def _exponentials(z: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the largest of each row, the exponentials of all less it, and their sum."""
    top = z.max(axis=1, keepdims=True)
    e = exp(z - top)
    return top, e, sorted_sum(e)


def sorted_sum(x: Floats) -> Floats:
    """Sum each row, (rows, 1).

    Sorted, one by one, as numpy's own sum depends on how a row lies in memory.
    """
    whole = np.zeros(len(x))
    for column in np.sort(x, axis=1).T:
        whole += column
    return whole[:, np.newaxis]
