"""All roles of one pass of scoring in one process, for tests; every tensor that changes hands is written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.dealing.sizes import layer_name
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, received_words, sum_shares
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout, NetworkForward
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.linear import Scorer, ScoringHelper, scoring_steps
from tercet.mpc.scoring.network import NetworkScorer, NetworkScoringHelper
from tercet.mpc.scoring.openings import Openings, PassMasks, WeightMasks, masked_blocks, masked_upper
from tests.mpc.driver import Driver, Task
from tests.mpc.network_world import KEY, NetworkJob
from tests.mpc.world import Job, MaskSource, keyed


class OpenedPass(Driver):
    """A pass by weights that are opened before its first step; `weights` are their masks, if not of this pass."""

    def __init__(
        self, numbers: NetworkForward, alpha: float, shares: Sequence[Any], xs: Sequence[Words], *,
        purpose: Literal["scoring", "held-out loss"], masks: MaskSource, batch: int = 64, epoch: int = 0,
        order: Order | None = None, weights: Mapping[int, WeightMasks] | None = None,
    ) -> None:  # fmt: skip
        self.numbers: Any = numbers
        self.alpha, self.model, self.xs, self.masks = alpha, shares, xs, masks
        self.ids, self.layout, rows = range(len(xs)), Layout(numbers), len(xs[0])
        super().__init__((*self.ids, HELPER))
        self.order, self.elements = order or Order(KEY, rows, purpose), Elements(KEY, purpose)
        self.steps = list(scoring_steps(rows, batch, epoch, alpha))
        self.helper_masks = {i: masks(i, HELPER) for i in self.ids}
        self.weights = dict(weights or {i: PassMasks(self.helper_masks[i], self.steps[0]) for i in self.ids})
        self.opened: dict[int, Openings] = {}

    def name(self, kind: str, turn: int) -> str:
        """With its layer, but for the first."""
        return layer_name(kind, turn)

    def arguments(self, i: int, label: int) -> dict[str, Any]:
        """What every scorer of party `i` gets, of whatever model."""
        return {
            "label": label, "rows": ArrayFeatures(self.xs[i]), "shares": self.model[i], "alpha": self.alpha,
            "order": self.order, "helper_masks": self.helper_masks[i],
            "zero_masks": {j: self.masks(i, j) for j in self.ids if j != i},
        }  # fmt: skip

    def scorer(self, i: int, label: int, **others: Any) -> Scorer | NetworkScorer:
        """Of party `i`, where the helper sees scores."""
        arguments = {**self.arguments(i, label), "weight_masks": self.weights[i], **others}
        if self.numbers.network is None:
            return Scorer(i, numbers=self.numbers, **arguments)
        return NetworkScorer(i, plan=self.numbers, elements=self.elements, **arguments)

    def open(self) -> None:
        """Open the weights."""
        self.drive([Task(i, iter(self.steps[:1]), partial(self._open, i)) for i in self.ids])

    def add_to_weights(self, sender: int, receiver: int, words: Words) -> None:
        """Let what a party has opened for another be something else."""
        opened = self.opened[receiver]
        blocks = {**opened.blocks, sender: opened.blocks[sender] + words}
        self.opened[receiver] = replace(opened, blocks=blocks)

    def _open(self, i: int, _: Step) -> Script[None]:
        shares, others, masks, upper = self.model[i], tuple(j for j in self.ids if j != i), self.weights[i], None
        blocks, due = masked_blocks(i, shares.partners, masks), dict.fromkeys(others, self.layout.block(i))
        yield from (Send("masked weights", 0, (j,), blocks[j]) for j in others)
        theirs = received_words((yield Receive("masked weights", 0, due)))
        if self.layout.hidden:
            mine = masked_upper(i, self.layout, shares.upper, masks)
            upper = yield from sum_shares("weight opening", 0, mine, others)
        self.opened[i] = Openings(masks, theirs, upper)


class Pass(OpenedPass):
    """One by which the label party learns scores."""

    scorers: Sequence[Any]
    helper: Any

    def __init__(
        self, job: Job | NetworkJob, shares: Sequence[Shares] | Sequence[NetworkShares], xs: Sequence[Words],
        epoch: int = 0, *, numbers: NetworkForward | None = None, alpha: float | None = None,
        limit: float = math.inf, masks: MaskSource | None = None, **others: Any,
    ) -> None:  # fmt: skip
        alpha, masks = alpha or job.plan.alpha_after(shares[0].step), masks or keyed(purpose="validation")
        super().__init__(numbers or job.plan, alpha, shares, xs, purpose="scoring", masks=masks, epoch=epoch, **others)
        self.label, self.limit = job.label, limit
        self.scorers, self.helper = self.make_scorers(), self.make_helper()

    def make_scorers(self) -> Sequence[Any]:
        """Of all data parties."""
        return [self.scorer(i, self.label) for i in self.ids]

    def make_helper(self) -> Any:
        """Of the same model."""
        make = ScoringHelper if self.numbers.network is None else NetworkScoringHelper
        return make(self.numbers, self.label, self.helper_masks, self.weights, self.limit)

    def run(self) -> Floats:
        """The scores in the order of the rows."""
        if not self.opened:
            self.open()
        tasks = [Task(HELPER, iter(self.steps), script) for script in (self.helper.deal_step, self.helper.run_online)]
        self.drive([*tasks, *(Task(i, iter(self.steps), partial(self._score, i)) for i in self.ids)])
        assert {role for (role, _), found in self.returned.items() if found is not None} == {self.label}
        scores = np.empty((len(self.xs[0]), self.layout.outputs))
        for step in self.steps:
            scores[self.order.rows(step)] = self.returned[self.label, step.index]
        return scores

    def _score(self, i: int, step: Step) -> Script[Floats | None]:
        yield from self.scorers[i].run_step(step, self.opened[i])
        return (yield from self.scorers[i].collect(step)) if i == self.label else None


class NetworkPass(Pass):
    """The same, recorded as a network's training is."""

    name = Driver.name
