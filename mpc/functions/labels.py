"""Checks labels for each link, and centres them for the protocol.

Only the label party sees any; what is said of those that will not do counts them and quotes none.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import CLIP, Floats
from tercet.mpc.functions.elementary import log


class LabelProblem(ValueError):
    """Labels that the model cannot be trained on: the label party's input.

    The text counts, it does not quote.
    """


def column(y: Floats, outputs: int) -> Floats:
    """Return labels as they are, (rows, 1)."""
    assert outputs == 1
    return y.reshape(-1, 1)


def centred_binary(y: Floats, outputs: int) -> Floats:
    """Map 0 and 1 to -1/2 and 1/2."""
    return column(y, outputs) - 0.5


def one_hot(y: Floats, outputs: int) -> Floats:
    """Write 1 into the column of the class, else 0."""
    return np.equal(y.reshape(-1, 1), np.arange(outputs)).astype(np.float64)


def centred_one_hot(y: Floats, outputs: int) -> Floats:
    """Write 1/2 into the column of the class, else -1/2: each class against the rest."""
    return one_hot(y, outputs) - 0.5


def refuse_labels(wrong: NDArray[np.bool_], text: str) -> None:
    """Raise LabelProblem if any label is wrong.

    The text says what they are and what to do.
    """
    count = int(wrong.sum())
    if count:
        raise LabelProblem(f"{count} of {wrong.size} labels are {text}")


def _check_not_all_the_same(y: Floats) -> None:
    if y.size and (y == y.flat[0]).all():
        raise LabelProblem("all labels are the same; there is nothing to learn")


def check_binary(y: Floats) -> None:
    """Check that labels are 0 and 1, and that both are present."""
    refuse_labels(~np.isin(y, (0.0, 1.0)), "neither 0 nor 1; encode the two classes as 0 and 1")
    _check_not_all_the_same(y)


def check_standardised(y: Floats) -> None:
    """Check that labels are finite and within CLIP, as the label party standardises them."""
    refuse_labels(~np.isfinite(y), "not finite numbers; remove or impute them")
    refuse_labels(np.abs(y) > CLIP, f"beyond {CLIP:g}; standardise and clip them first")


def check_classes(y: Floats) -> None:
    """Check that labels are whole numbers from 0, and more than one of them."""
    refuse_labels(~(np.isfinite(y) & (y >= 0.0) & (y == np.rint(y))), "no number of a class; number the classes from 0")
    _check_not_all_the_same(y)


def check_ratios(y: Floats) -> None:
    """Check that labels are finite, from 0 on, and not all 0.

    The label party divides counts by their mean.
    """
    refuse_labels(~(np.isfinite(y) & (y >= 0.0)), "not finite, or below 0; remove them")
    if y.size and not y.any():
        raise LabelProblem("all labels are 0; there is nothing to learn")


def check_positive(y: Floats) -> None:
    """Check that labels are above 0.

    None may be less than e^-CLIP of their divisor.
    """
    refuse_labels(~np.isfinite(y), "not finite numbers; remove or impute them")
    refuse_labels(y <= 0.0, 'not above 0; remove them, or use model = "linear"')
    refuse_labels(log(y) < -CLIP, "less than a ten-millionth of the mean; remove them")
