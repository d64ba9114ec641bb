"""Turns log-odds into points of a scorecard.

It computes on numbers alone, and knows no column.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Scorecard

MOST: Final = 2.0**53  # points: beyond it not every whole number is a float


def factor(scorecard: Scorecard) -> float:
    """Give the points that one unit of a score adds; negative where positives are bad."""
    return (-1.0 if scorecard.positives == "bad" else 1.0) * scorecard.pdo / math.log(2.0)


def offset(scorecard: Scorecard) -> float:
    """Give the points of a score of 0, at which good and bad are as likely."""
    return scorecard.base_points - scorecard.pdo * math.log2(scorecard.base_odds)


def points_of(scorecard: Scorecard, scores: Floats) -> Floats:
    """Turn log-odds of a label of 1, of any shape, into points, not rounded."""
    return offset(scorecard) + factor(scorecard) * scores


def whole_points(points: Floats) -> NDArray[np.int64]:
    """Round points to whole ones, a half to the even one."""
    return np.rint(np.clip(points, -MOST, MOST)).astype(np.int64)
