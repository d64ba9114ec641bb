"""Says who is dealt how much for a step, and by which series activations are evaluated."""

import math

from tercet.mpc.functions.series import Series, series_for
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step


def series_of(plan: Plan) -> Series:
    """Return the series of the output's activation.

    Raises:
        ValueError: the helper computes this job's activation.
    """
    blind = plan.request.blind
    if blind is None:
        raise ValueError("the helper computes this job's activation")
    return series_for(plan.request.model, blind.reach, blind.terms)


def explicit_party(step: Step, parties: int) -> int:
    """Return the data party whose share of the dealt words is explicit; they take turns."""
    return step.index % parties


def angles_shape(plan: Plan, step: Step) -> tuple[int, int]:
    """Return the shape of a share of c cos and c sin of t.

    It has one row for each multiple and row of the batch.
    """
    return 2 * len(series_of(plan).multiples) * step.rows, plan.outputs


def dealt_shape(plan: Plan, party: int, step: Step, more: int) -> tuple[int, int]:
    """Return the shape of what the helper deals a party for a step.

    So many words come first, then angles if it is its turn.
    """
    words = more
    if party == explicit_party(step, len(plan.columns)):
        words += math.prod(angles_shape(plan, step))
    return 1, words
