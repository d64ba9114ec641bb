"""Deals the randomness of a statistics job. It receives nothing.

It sees masks alone, and never a row, a bin or a label.
"""

from collections.abc import Mapping

from tercet.mpc.interface.script import Script
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.plan import StatisticsPlan


class StatisticsHelper:
    """Acts as the helper. Not to be shared by threads.

    For each step of `plan.steps()` in order the script `deal_step`, of which the last one sends; for each step of
    `plan.check_steps()` in order `deal_check`.

    Args:
        plan: The job's agreed numbers.
        masks: Shared with each data party, by its index, for this purpose alone.
    """

    def __init__(self, plan: StatisticsPlan, masks: Mapping[int, Masks]) -> None:
        raise NotImplementedError

    def deal_step(self, step: Step) -> Script[None]:
        """Add up the products of a batch's masks; with the last one deal their sums."""
        raise NotImplementedError

    def deal_check(self, step: Step) -> Script[None]:
        """Deal each partner its shares of the truth tables of some cells."""
        raise NotImplementedError
