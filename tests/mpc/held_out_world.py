"""All roles of one pass for a held-out loss in one process, for tests; every tensor that changes hands is written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER, Await, Receive, Script, Send, Signal
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.held_out_loss import HeldOutLossHelper, HeldOutLossParty
from tercet.mpc.scoring.linear import NOBODY, Scorer, scoring_steps
from tercet.mpc.scoring.network import NetworkScorer
from tercet.mpc.scoring.openings import Openings, PassMasks, masked_blocks, masked_upper
from tests.mpc.driver import Sent
from tests.mpc.network_world import KEY, NetworkJob, messages
from tests.mpc.world import Job, MaskSource, keyed

PURPOSE = "held-out loss"


class HeldOutPass:
    """The data parties and the helper in one pass over rows that are not trained on."""

    def __init__(
        self,
        job: Job | NetworkJob,
        shares: Sequence[Shares] | Sequence[NetworkShares],
        xs: Sequence[Words],
        y: Floats,
        *,
        epoch: int = 0,
        batch: int = 48,
        masks: MaskSource | None = None,
        order: Order | None = None,
    ) -> None:
        self.job, self.ids, self.sent = job, range(len(xs)), list[Sent]()
        plan, masks = job.plan, masks or keyed(purpose=PURPOSE)
        alpha, rows = plan.alpha_after(shares[0].step), len(xs[0])
        self.order = order or Order(KEY, rows, "held-out loss")
        self.elements = Elements(KEY, "held-out loss")
        self.steps = list(scoring_steps(rows, batch, epoch, alpha))
        self.box: dict[tuple[str, int, int, int, int], Words] = {}
        self.weight_masks = {i: PassMasks(masks(i, HELPER), self.steps[0]) for i in self.ids}
        openings = self._opened(shares)
        self.parties = [self._party(i, shares[i], xs[i], y, alpha, masks, openings[i]) for i in self.ids]
        helper_masks = {i: masks(i, HELPER) for i in self.ids}
        self.helper = HeldOutLossHelper(plan, job.label, helper_masks, self.weight_masks, self.steps)
        self.counts = dict.fromkeys(self.ids, 0)

    def _opened(self, shares: Sequence[Any]) -> list[Openings]:
        """The weights, for the pass."""
        plan, first, masks = self.job.plan, self.steps[0], self.weight_masks
        pairs = [(j, i) for j in self.ids for i in self.ids if i != j]
        blocks, upper = [masked_blocks(i, share.partners, masks[i]) for i, share in enumerate(shares)], None
        if plan.network is not None:
            mine = [masked_upper(i, Layout(plan), share.upper, masks[i]) for i, share in enumerate(shares)]
            upper = total(mine)
            self.sent += [Sent("weight opening", first.index, j, i, mine[j]) for j, i in pairs]
        for j, i in pairs:
            self.send("masked weights", 0, first, j, i, blocks[j][i])
        theirs = {(j, i): self.box.pop(("masked weights", 0, first.index, j, i)) for j, i in pairs}
        return [Openings(masks[i], {j: theirs[j, i] for j in self.ids if j != i}, upper) for i in self.ids]

    def _party(
        self, i: int, shares: Any, x: Words, y: Floats, alpha: float, masks: MaskSource, openings: Openings
    ) -> HeldOutLossParty:
        plan, label, zero = self.job.plan, self.job.label, {j: masks(i, j) for j in self.ids if j != i}
        scorer: Scorer | NetworkScorer
        if plan.network is None:
            scorer = Scorer(i, NOBODY, plan, ArrayFeatures(x), shares, alpha, order=self.order,
                            helper_masks=masks(i, HELPER), zero_masks=zero, weight_masks=openings.masks)  # fmt: skip
        else:
            scorer = NetworkScorer(i, NOBODY, plan, ArrayFeatures(x), shares=shares, alpha=alpha, order=self.order,
                                   elements=self.elements, helper_masks=masks(i, HELPER), zero_masks=zero,
                                   weight_masks=openings.masks)  # fmt: skip
        return HeldOutLossParty(i, label, plan, y if i == label else None, scorer=scorer, openings=openings,
                                steps=self.steps, order=self.order, helper_masks=masks(i, HELPER))  # fmt: skip

    def run(self) -> "HeldOutPass":
        """All batches; the helper and every party go on as far as they can, in turn."""
        tasks = [_Task(self, HELPER, self._all(self.helper.script))]
        for i, party in enumerate(self.parties):
            tasks += [_Task(self, i, self._all(party.score_batch)), _Task(self, i, self._all(party.add_loss))]
        while any(not task.over for task in tasks):
            moved = [task.advance() for task in tasks if not task.over]
            assert any(moved), f"all wait: {[task.event for task in tasks if not task.over]}"
        assert not self.box, f"never used: {list(self.box)}"
        self.shares = [party.share() for party in self.parties]
        return self

    def words(self) -> Words:
        """What the shares add up to, (1, 1)."""
        return total(self.shares)

    def loss(self) -> float:
        """The mean."""
        return opened_loss(self.shares, self.parties[0].numbers)

    def send(self, kind: str, turn: int, step: Step, sender: int, receiver: int, words: Words) -> None:
        self.sent.append(Sent(kind, step.index, sender, receiver, words))
        self.box[kind, turn, step.index, sender, receiver] = words

    def _all(self, script: Any) -> Iterator[tuple[Step, Script[None]]]:
        for step in self.steps:
            yield step, script(step)


class _Task:
    """The scripts of all batches, one after another."""

    def __init__(self, world: HeldOutPass, me: int, scripts: Iterator[tuple[Step, Script[None]]]) -> None:
        self.world, self.me, self.scripts = world, me, scripts
        self.over = False
        self.event: Any = None
        self.script: Script[None] | None = None

    def advance(self) -> bool:
        """Go on as far as possible; whether anything was done."""
        moved = False
        while True:
            if self.script is None:
                try:
                    self.step, self.script = next(self.scripts)
                except StopIteration:
                    self.over = True
                    return True
                self.event = None
            answer, ready = self._answer()
            if not ready:
                return moved
            moved = True
            try:
                self.event = self.script.send(answer)
            except StopIteration:
                self.script = None

    def _answer(self) -> tuple[Any, bool]:
        world, step = self.world, self.step
        match self.event:
            case Send():
                for kind, receiver, words in messages(self.event):
                    world.send(kind, self.event.turn, step, self.me, receiver, words)
            case Signal():
                world.counts[self.me] += 1
            case Await():
                return None, world.counts[self.me] > step.index
            case Receive(kind, turn, shapes):
                keys = {i: (kind, turn, step.index, i, self.me) for i in shapes}
                if any(key not in world.box for key in keys.values()):
                    return None, False
                found = {i: world.box.pop(key) for i, key in keys.items()}
                assert all(found[i].shape == shapes[i] for i in shapes)
                return found, True
        return None, True


def flat_losses(sent: Sequence[Sent], kind: str) -> Words:
    """All words of one kind."""
    return np.concatenate([one.words.ravel() for one in sent if one.what == kind])
