"""`python -m tests.daemons.slow_agent SETTINGS.toml`: as `tests.fixed_agent`, but long jobs take their time.

From some step on the helper sleeps in each. So an endless job, to which a test does something, costs little meanwhile.
"""

import time
from collections.abc import Mapping
from unittest.mock import patch

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear.helper import LinearHelper
from tercet.mpc.plan.schedule import Step
from tests.fixed_agent import main

MANY, SECONDS = 300, 0.05


class SlowHelper(LinearHelper):
    """Sleeps in each step of a long job."""

    def masked_activations(self, step: Step, shares: Mapping[int, Words]) -> dict[int, Words]:
        """See `LinearHelper.masked_activations`."""
        if step.index > MANY:
            time.sleep(SECONDS)
        return super().masked_activations(step, shares)


if __name__ == "__main__":
    with patch("tercet.agents.training.delegated_training.LinearHelper", SlowHelper):
        main()
