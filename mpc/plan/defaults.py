"""Chooses a rate and a batch that fit the model, its parties and its rows.

It sees the job's public numbers only; every party computes the same. docs/benchmarks.md says how well that fits.

Whitened columns of one party have variance 1 in each direction, so those of P parties and the intercept together have
at most P + 1 in any. A batch of B rows adds k / B, of k columns. With c the curvature of the loss, descent diverges
above 2 / (c (P + 1 + k / B)). Three quarters of that suit links whose errors are bounded. Others, whose errors grow
with the score, get a quarter, and three times as many epochs. Weights of rows can raise the variance in a direction,
and raise what a batch adds. Who does not know them cannot tell how much, so that all jobs with weights get a quarter of
the rate. So do Tweedie models, whose labels weigh a part of the error: few rows may have most of the amount.
"""

import math
from collections.abc import Sequence

from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.schedule import LEAST_ROWS

BATCHES = 16  # an epoch: twice what hides rows across epochs
USUAL_ROWS = 512  # of a batch at most, so that there are steps enough,
MOST_BATCHES, MOST_ROWS = 256, 2**14  # unless there are more than enough: large tables take no more steps than that
WEIGHED = 0.25  # of the rate, where rows have weights


def auto_batch(rows: int) -> int:
    """Choose the rows of a batch: a sixteenth of all, but 32 to 512.

    Of large tables a 256th, to 16,384.
    """
    return max(LEAST_ROWS, min(USUAL_ROWS, rows // BATCHES), min(MOST_ROWS, rows // MOST_BATCHES))


def auto_rate(
    model: str, spreads: Sequence[float], *, columns_per_row: float, hidden: bool, weighs: bool = False
) -> float:
    """Choose the rate of the first step.

    Args:
        model: The link.
        spreads: Of each data party, the variance of its encoded columns in any direction, at most; 1 if whitened.
        columns_per_row: Encoded columns of all parties, by rows of a batch.
        hidden: Whether there are hidden layers. No bound holds for these, and a quarter of it does well without the
            columns, and as if all parties whitened.
        weighs: Whether rows count differently.
    """
    link = LINKS[model]
    if hidden:
        return 1.0 / (2.0 * link.curvature * (len(spreads) + 1.0))
    part = (1.5 if math.isinf(link.reach(2.0)) else 0.5) * (WEIGHED if weighs or link.slope is not None else 1.0)
    return part / (link.curvature * (sum(spreads) + 1.0 + columns_per_row))
