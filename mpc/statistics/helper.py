"""Deals the randomness of a statistics job. It receives nothing.

It sees masks alone, and never a row, a bin or a label.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import Script, Send
from tercet.mpc.plan.schedule import Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.checks import deal_tables
from tercet.mpc.statistics.dealt import Part, dealt_covers, dealt_parts, mask_products
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
        self._plan, self._masks, self._turns = plan, masks, Turns(0)
        self._sums: dict[int, dict[Part, Words]] = {
            i: {part: np.zeros(shape, np.uint64) for part, shape in dealt_parts(plan, i).items()} for i in masks
        }

    def deal_step(self, step: Step) -> Script[None]:
        """Add up the products of a batch's masks; with the last one deal their sums."""
        self._turns.begin_step("products", step)
        for i, part, words in mask_products(self._plan, self._masks, step):
            self._sums[i][part] += words
        if step.index != self._plan.last:
            return
        for i, part, words in dealt_covers(self._plan, self._masks, step):
            self._sums[i][part] -= words
        for i, parts in self._sums.items():
            dealt = np.concatenate([np.zeros(0, np.uint64), *(words.reshape(-1) for words in parts.values())])
            if dealt.size:
                yield Send("dealt sums", 0, (i,), dealt[np.newaxis])

    def deal_check(self, step: Step) -> Script[None]:
        """Deal each partner its shares of the truth tables of some cells."""
        self._turns.begin_step("tables", step)
        for j in self._plan.partners:
            if self._plan.checked(j, step):
                yield Send("cell tables", 0, (j,), deal_tables(self._plan, j, self._masks, step))
