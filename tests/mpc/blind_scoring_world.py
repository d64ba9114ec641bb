"""All roles that score by a blind network in one process, for tests; every tensor that changes hands is written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words, product, total
from tercet.mpc.dealing.narrowing import deal_narrowing, narrow
from tercet.mpc.dealing.sizes import BlindNumbers, layer_name
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER, Receive, Script, Send
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference.blind import BlindRun
from tercet.mpc.scoring.blind_network import BlindNetworkScorer, BlindNetworkScoringHelper
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.openings import Openings, PassMasks, masked_blocks, masked_upper
from tests.mpc.driver import Sent
from tests.mpc.network_world import KEY, both, messages
from tests.mpc.world import MaskSource, keyed

NARROWING = Step(0, 0, 0, 0, 1, 1.0, 1.0, 1.0)  # an address of masks


def drive(scripts: dict[int, Script[Any]], step: Step, sent: list[Sent]) -> dict[int, Any]:
    """Drive all scripts, each as far as it goes, until all are over; what they return, by role."""
    box: dict[tuple[str, int, int, int], Words] = {}
    events, found = dict.fromkeys(scripts), dict[int, Any]()
    while events:
        moved = False
        for role in list(events):
            answer: Mapping[int, Words] | None = None
            if isinstance(event := events[role], Receive):
                keys = {i: (event.kind, event.turn, i, role) for i in event.shapes}
                if not all(key in box for key in keys.values()):
                    continue
                answer = {i: box.pop(key) for i, key in keys.items()}
                assert {i: words.shape for i, words in answer.items()} == dict(event.shapes)
            moved = True
            try:
                event = events[role] = scripts[role].send(answer)
            except StopIteration as stop:
                found[role] = stop.value
                del events[role]
                continue
            if isinstance(event, Send):
                for kind, receiver, words in messages(event):
                    box[kind, event.turn, role, receiver] = words
                    sent.append(Sent(layer_name(kind, event.turn), step.index, role, receiver, words))
        assert moved, f"all wait: {events}"
    assert not box, f"never used: {list(box)}"
    return found


class Narrowing:
    """The data parties and the helper when a model's upper weights are truncated."""

    def __init__(
        self, plan: Plan, shares: list[NetworkShares], *, masks: MaskSource | None = None, step: Step = NARROWING
    ) -> None:
        self.plan, self.ids, self.sent, self.step = plan, range(len(shares)), list[Sent](), step
        self.masks = masks or keyed(purpose="narrowing")
        scripts: dict[int, Script[Any]] = {
            i: narrow(i, plan, shares[i], self.masks(i, HELPER), self.step) for i in self.ids
        }
        scripts[HELPER] = deal_narrowing(plan, {i: self.masks(i, HELPER) for i in self.ids}, self.step)
        found = drive(scripts, self.step, self.sent)
        self.shares: list[NetworkShares] = [found[i] for i in self.ids]

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """The mask of a truncation."""
        shape = Layout(self.plan).upper(k)
        return total(self.masks(i, HELPER)(layer_name(name, k), i, i, step, shape) for i in self.ids)


class BlindNetworkPass:
    """The data parties and the helper in one pass of scoring, by narrow shares."""

    def __init__(
        self,
        numbers: BlindNumbers,
        label: int,
        alpha: float,
        shares: list[NetworkShares],
        xs: list[Words],
        *,
        batch: int = 64,
        epoch: int = 0,
        masks: MaskSource | None = None,
        noises: Mapping[int, ScoreNoise] | None = None,
        limit: float = math.inf,
    ) -> None:
        self.numbers, self.ids, self.label, self.xs = numbers, range(len(xs)), label, xs
        self.sent, self.order = list[Sent](), Order(KEY, len(xs[0]), "scoring")
        self.masks = masks = masks or keyed(purpose="validation")
        self.steps = list(scoring_steps(len(xs[0]), batch, epoch, alpha))
        self.weights = {i: PassMasks(masks(i, HELPER), self.steps[0]) for i in self.ids}
        self.scorers = [
            BlindNetworkScorer(
                i, label, numbers, ArrayFeatures(xs[i]), shares=shares[i], alpha=alpha, order=self.order,
                helper_masks=masks(i, HELPER), zero_masks={j: masks(i, j) for j in self.ids if j != i},
                noise=(noises or {}).get(i), limit=limit,
            )
            for i in self.ids
        ]  # fmt: skip
        self.helper = BlindNetworkScoringHelper(numbers, {i: masks(i, HELPER) for i in self.ids}, self.weights)
        self.openings = self._open(shares)

    def _open(self, shares: list[NetworkShares]) -> dict[int, Openings]:
        """Weights are opened, before the first step."""
        blocks = {i: masked_blocks(i, shares[i].partners, self.weights[i]) for i in self.ids}
        upper = {i: masked_upper(i, Layout(self.numbers), shares[i].upper, self.weights[i]) for i in self.ids}
        for j in self.ids:
            for i in (i for i in self.ids if i != j):
                self.sent.append(Sent("masked weights", 0, j, i, blocks[j][i]))
                self.sent.append(Sent("weight opening", 0, j, i, upper[j]))
        theirs = {i: {j: blocks[j][i] for j in self.ids if j != i} for i in self.ids}
        return {i: Openings(self.weights[i], theirs[i], total(upper.values())) for i in self.ids}

    def run(self) -> Floats:
        """The scores in the order of the rows."""
        scores = np.empty((len(self.xs[0]), self.numbers.outputs))
        for step in self.steps:
            scripts: dict[int, Script[Any]] = {i: self.scorers[i].run_step(step, self.openings[i]) for i in self.ids}
            scripts[self.label] = self._with_scores(step)
            scripts[HELPER] = both(self.helper, step)
            found = drive(scripts, step, self.sent)
            assert [role for role, one in found.items() if one is not None] == [self.label]
            scores[self.order.rows(step)] = found[self.label]
        return scores

    def _with_scores(self, step: Step) -> Script[Floats]:
        """The label party's scripts, one after the other."""
        scorer = self.scorers[self.label]
        yield from scorer.run_step(step, self.openings[self.label])
        return (yield from scorer.collect(step))

    def mask(self, name: str, k: int, step: Step) -> Words:
        """All parties' words of a mask."""
        name, shape = layer_name(name, k), (step.rows, Layout(self.numbers).widths[k])
        return total(self.masks(j, HELPER)(name, j, j, step, shape) for j in self.ids)

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """The mask of a layer's angles as the helper has it; slopes have no part in a score."""
        assert name == "t"
        return self.helper.layout.numbers(step, k).unit * self._score_mask(k, step)

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
