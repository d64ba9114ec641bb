"""All roles of a statistics job in one process, for tests: scripts driven in any order, every tensor written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import Floats, encode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER, Script
from tercet.mpc.plan.schedule import Step
from tercet.mpc.statistics.data_party import StatisticsParty, encode_targets
from tercet.mpc.statistics.helper import StatisticsHelper
from tercet.mpc.statistics.plan import StatisticsPlan
from tests.mpc.driver import Driver, Task
from tests.mpc.world import MaskSource, keyed


class StatisticsJob(NamedTuple):
    """Everybody's data: bins and numbers by party, and labels."""

    plan: StatisticsPlan
    bins: list[NDArray[np.int64]]
    numbers: list[Words]
    y: Floats

    @property
    def targets(self) -> Words:
        """Of the label party."""
        return encode_targets(self.plan, self.y)


def make_statistics_job(plan: StatisticsPlan, seed: int = 0) -> StatisticsJob:
    """Random rows: low bins are rare, and labels lean on the first column of each party."""
    rng = np.random.default_rng(seed)
    bins = [
        np.column_stack(
            [
                np.zeros((plan.rows, 0), np.int64),
                *((rng.random(plan.rows) ** 0.5 * count).astype(np.int64) for count in columns),
            ]
        )
        for columns in plan.bins
    ]
    raw = [rng.standard_normal((plan.rows, count)) for count in plan.correlated]
    numbers = [encode(x / np.sqrt((x**2).mean(axis=0)), plan.fx) for x in raw]
    y = rng.integers(0, plan.classes, plan.rows) if plan.classes else rng.gamma(1.0, 3.0, plan.rows)
    return StatisticsJob(plan, bins, numbers, np.asarray(y, np.float64))


@dataclass
class StatisticsWorld(Driver):
    """The data parties and the helper; `seed` shuffles who goes next."""

    job: StatisticsJob
    masks: MaskSource = field(default_factory=keyed)
    seed: int | None = None
    keys: Callable[[int], bytes] = lambda i: bytes([i + 1]) * 32
    results: dict[str, dict[int, Any]] = field(default_factory=lambda: {"cells": {}, "pairs": {}, "inflation": {}})

    def __post_init__(self) -> None:
        plan, self.ids = self.job.plan, range(len(self.job.bins))
        super().__init__((*self.ids, HELPER))
        self.parties = [self.make_party(i) for i in self.ids]
        self.helper = StatisticsHelper(plan, {i: self.masks(i, HELPER) for i in self.ids})

    def make_party(self, i: int) -> StatisticsParty:
        """Data party i."""
        return StatisticsParty(i, self.job.plan, **self.arguments(i))

    def arguments(self, i: int) -> dict[str, Any]:
        """All that it has of its own; of each column all bins but the last are ordered."""
        job, plan = self.job, self.job.plan
        return {
            "bins": job.bins[i],
            "ordered": tuple(count - 1 for count in plan.bins[i]),
            "masks": self.masks(i, HELPER),
            "key": self.keys(i),
            "targets": job.targets if i == plan.label else None,
            "numbers": ArrayFeatures(job.numbers[i]) if plan.correlated[i] else None,
        }

    def run(self) -> Self:
        """All phases, one after another."""
        plan = self.job.plan
        self._drive(plan.steps, lambda party: party.run_step, self.helper.deal_step)
        self._drive(plan.check_steps, lambda party: party.check_cells, self.helper.deal_check)
        self._open("cells", lambda party: party.open_cells())
        if plan.correlates:
            self._open("pairs", lambda party: party.open_correlations())
        return self

    def share_inflation(self, factors: dict[int, Floats]) -> None:
        """What the label party tells each owner at the end."""
        label = self.job.plan.label
        self._open("inflation", lambda party: party.share_inflation(factors if party.me == label else None))

    def _drive(
        self,
        steps: Callable[[], Iterator[Step]],
        script: Callable[[StatisticsParty], Callable[[Step], Script[Any]]],
        deals: Callable[[Step], Script[None]] | None,
    ) -> None:
        tasks = [Task(i, steps(), script(party)) for i, party in enumerate(self.parties)]
        tasks += [Task(HELPER, steps(), deals)] if deals else []
        self.drive(tasks, seed=self.seed)

    def _open(self, what: str, script: Callable[[StatisticsParty], Script[Any]]) -> None:
        step = self.job.plan.opening_step()
        self._drive(lambda: iter([step]), lambda party: lambda _: script(party), None)
        self.results[what] = {i: self.returned[i, step.index] for i in self.ids}
