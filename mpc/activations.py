"""The one place where an activation is defined: function, symmetry, loss, range and label check.

It sees plain numbers only; which of them the helper may see, and in which order, is decided elsewhere.

Everything that shapes a model is made of IEEE + - * /, rint, ldexp and copysign, so that it is the same to the last
bit on every machine; numpy's own exp may differ by one unit between processors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mpc.fixed import CLIP, Floats

# ln 2 in two parts: the first has 32 fractional bits, so that a whole number of up to 20 bits times it is exact.
LN2_HIGH = float.fromhex("0x1.62e42ff000000p-1")
LN2_LOW = float.fromhex("-0x1.718432a1b0e26p-35")
PER_LN2 = float.fromhex("0x1.71547652b82fep+0")
# r coth(r/2) - 2 as a series in r^2: 2 B_2n / (2n)! with Bernoulli's numbers; the next term is below 2^-56 here.
COTH = (1 / 6, -1 / 360, 1 / 15120, -1 / 604800, 1 / 23950080, -691 / 653837184000)
LEAST_EXPONENT = -746.0  # exp of anything below is zero
# artanh(q) / q as a series in q^2; the next term is below 2^-57 for q <= 1/3.
ARTANH = tuple(1 / odd for odd in range(1, 35, 2))


class LabelProblem(ValueError):
    """Labels that the model cannot be trained on: the label party's input. The text counts, it does not quote."""


def exp(x: Floats) -> Floats:
    """e^x for x <= 700, within one unit in the last place down to 2^-1022; nan stays nan.

    With x = k ln 2 + r, |r| <= ln 2 / 2: e^r = 1 + 2r / (r coth(r/2) - r), rearranged so that only a small term is
    rounded.
    """
    x = np.maximum(x, LEAST_EXPONENT)
    k = np.rint(x * PER_LN2)
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    square = r * r
    series = np.full_like(square, COTH[-1])
    for coefficient in reversed(COTH[:-1]):
        series *= square
        series += coefficient
    c = r - square * series
    return np.ldexp(1.0 - ((low - r * c / (2.0 - c)) - high), k.astype(np.int64))


def centred_sigmoid(z: Floats) -> Floats:
    """sigmoid(z) - 1/2, odd to the last bit: the helper sees z under a secret sign."""
    return np.copysign(1.0 / (1.0 + exp(-np.abs(z))) - 0.5, z)


def identity(z: Floats) -> Floats:
    """The score itself."""
    return z


def log_two_cosh(z: Floats) -> Floats:
    """log(2 cosh(z/2)): what the log-loss -log p(y) has beside -y z, for centred labels y of -1/2 and 1/2.

    It is |z|/2 + log(1 + e) with e = exp(-|z|), and log(1 + e) = 2 artanh(q) with q = e / (2 + e) <= 1/3.
    """
    size = np.abs(z)
    e = exp(-size)
    q = e / (2.0 + e)
    square = q * q
    series = np.full_like(square, ARTANH[-1])
    for coefficient in reversed(ARTANH[:-1]):
        series *= square
        series += coefficient
    return size / 2.0 + 2.0 * q * series


def half_square(x: Floats) -> Floats:
    """x^2 / 2: of score and of label, what half a squared error has beside -y z."""
    return x * x / 2.0


def nothing(y: Floats) -> Floats:
    """Zeros: a log-loss has no part of the label alone."""
    return np.zeros_like(y)


def check_binary(y: Floats) -> None:
    """Labels of 0 and 1, both of them present."""
    wrong = int((~np.isin(y, (0.0, 1.0))).sum())
    if wrong:
        raise LabelProblem(f"{wrong} of {y.size} labels are neither 0 nor 1; encode the two classes as 0 and 1")
    if y.size and (y == y.flat[0]).all():
        raise LabelProblem("all labels are the same; there is nothing to learn")


def check_standardised(y: Floats) -> None:
    """Finite labels within CLIP, as the label party standardises them."""
    wrong = int((~np.isfinite(y)).sum())
    if wrong:
        raise LabelProblem(f"{wrong} of {y.size} labels are not finite numbers; remove or impute them")
    outside = int((np.abs(y) > CLIP).sum())
    if outside:
        raise LabelProblem(f"{outside} of {y.size} labels are beyond {CLIP:g}; standardise and clip them first")


@dataclass(frozen=True, slots=True)
class Activation:
    """A link between score and label. Score, label and result have shape (rows, outputs).

    A row's loss is even(z) - y z + label_part(y), with phi the slope of even: so the first can be computed of scores
    under secret signs, the second is one product, and the third is the label party's own.
    """

    name: str
    phi: Callable[[Floats], Floats]  # what the helper applies to the score
    odd: bool  # phi(-z) == -phi(z) to the last bit: then secret signs apply
    even: Callable[[Floats], Floats]  # the same for z and -z to the last bit; grows with |z|
    label_part: Callable[[Floats], Floats]
    label_bits: int  # fractional bits that a centred label needs in the loss, or may have
    most_label: float  # no centred label is larger
    error_bound: float | None  # largest |phi(z) - y|; None where it grows with the score
    check_labels: Callable[[Floats], None]  # raises LabelProblem; of labels as the label party holds them
    centre: Callable[[Floats], Floats]  # from such labels to those that phi is compared with

    def loss(self, z: Floats, y: Floats) -> float:
        """Of scores and centred labels, summed over rows."""
        return float((self.even(z) - y * z + self.label_part(y)).sum())


def centred_binary(y: Floats) -> Floats:
    """0 and 1 as -1/2 and 1/2."""
    return y - 0.5


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        activation.name: activation
        for activation in (
            Activation(
                name="logistic",
                phi=centred_sigmoid,
                odd=True,
                even=log_two_cosh,
                label_part=nothing,
                label_bits=1,
                most_label=0.5,
                error_bound=1.0,
                check_labels=check_binary,
                centre=centred_binary,
            ),
            Activation(
                name="linear",
                phi=identity,
                odd=True,
                even=half_square,
                label_part=half_square,
                label_bits=20,
                most_label=CLIP,
                error_bound=None,
                check_labels=check_standardised,
                centre=identity,
            ),
        )
    },
)
