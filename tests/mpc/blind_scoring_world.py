"""All roles that score by a blind network in one process, for tests; every tensor that changes hands is written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tercet.mpc.arithmetic.ring import Words, product, total
from tercet.mpc.dealing.narrowing import deal_narrowing, narrow
from tercet.mpc.dealing.sizes import layer_name
from tercet.mpc.interface.script import HELPER
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.reference.blind import BlindRun
from tercet.mpc.scoring.blind_network import BlindNetworkScorer, BlindNetworkScoringHelper
from tests.mpc.driver import Driver, Task
from tests.mpc.network_world import NetworkJob
from tests.mpc.passes import Pass
from tests.mpc.world import MaskSource, keyed

NARROWING = Step(0, 0, 0, 0, 1, 1.0, 1.0, 1.0)  # an address of masks


class Narrowing(Driver):
    """The data parties and the helper when a model's upper weights are truncated."""

    def __init__(
        self, plan: Plan, shares: list[NetworkShares], *, masks: MaskSource | None = None, step: Step = NARROWING
    ) -> None:
        self.plan, self.ids, self.masks = plan, range(len(shares)), masks or keyed(purpose="narrowing")
        super().__init__((*self.ids, HELPER))
        of_helper = {i: self.masks(i, HELPER) for i in self.ids}
        tasks = [Task(i, iter([step]), partial(narrow, i, plan, shares[i], of_helper[i])) for i in self.ids]
        self.drive([*tasks, Task(HELPER, iter([step]), partial(deal_narrowing, plan, of_helper))])
        self.shares: list[NetworkShares] = [self.returned[i, step.index] for i in self.ids]

    def name(self, kind: str, turn: int) -> str:
        """With its layer, but for the first."""
        return layer_name(kind, turn)

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """The mask of a truncation."""
        shape = Layout(self.plan).upper(k)
        return total(self.masks(i, HELPER)(layer_name(name, k), i, i, step, shape) for i in self.ids)


class BlindNetworkPass(Pass):
    """A pass of scoring by narrow shares."""

    def __init__(
        self, job: NetworkJob, *arguments: Any, noises: Mapping[int, ScoreNoise] | None = None, **others: Any
    ) -> None:
        self.noises = noises or {}
        super().__init__(job, *arguments, **others)

    def make_scorers(self) -> Sequence[Any]:
        """Of all data parties."""
        return [
            BlindNetworkScorer(
                i, numbers=self.numbers, **self.arguments(i, self.label), noise=self.noises.get(i), limit=self.limit
            )
            for i in self.ids
        ]

    def make_helper(self) -> Any:
        """It sees no score."""
        return BlindNetworkScoringHelper(self.numbers, self.helper_masks, self.weights)

    def mask(self, name: str, k: int, step: Step) -> Words:
        """All parties' words of a mask."""
        name, shape = layer_name(name, k), (step.rows, Layout(self.numbers).widths[k])
        return total(self.masks(j, HELPER)(name, j, j, step, shape) for j in self.ids)

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """The mask of a layer's angles as the helper has it; slopes have no part in a score."""
        assert name == "t"
        unit: np.uint64 = self.helper.layout.numbers(step, k).unit
        return unit * self._score_mask(k, step)

    def _score_mask(self, k: int, step: Step) -> Words:
        layout, t = Layout(self.numbers), self.mask("t", k, step)
        if k:
            g = total(self.weights[j](f"g/{k - 1}", j, j, layout.upper(k - 1)) for j in self.ids)
            return t - product(self.mask("q", k - 1, step), g)
        for i in self.ids:
            u = self.masks(i, HELPER)("U", i, i, step, (step.rows, layout.columns[i]))
            t = t - product(u, total(self.weights[j]("V", i, j, layout.block(i)) for j in self.ids if j != i))
        return t

    def oracle(self, plan: Plan) -> BlindRun:
        """The same pass in plaintext."""
        return BlindRun(self.xs, np.zeros((0, 1)), plan, self.order.permutation, self.dealt)
