"""`python -m tests.daemons.slow_agent SETTINGS.toml`: as `tests.fixed_agent`, but long jobs take their time.

The helper sleeps in each of its steps. So an endless job, to which a test does something, costs little meanwhile.
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from unittest.mock import patch

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear.helper import LinearHelper
from tercet.mpc.plan.schedule import Step
from tests.fixed_agent import main

MANY, SECONDS = 1000, 0.5


class SlowHelper(LinearHelper):
    """Sleeps in each step of a long job."""

    def masked_activations(self, step: Step, shares: Mapping[int, Words]) -> dict[int, Words]:
        """See `LinearHelper.masked_activations`."""
        if self._plan.steps_total > MANY:
            time.sleep(SECONDS)
        return super().masked_activations(step, shares)


def slow_helper() -> AbstractContextManager[object]:
    """Let the helper in this process be a slow one, while the block lasts."""
    return patch("tercet.agents.training.delegated_training.LinearHelper", SlowHelper)


if __name__ == "__main__":
    with slow_helper():
        main()
