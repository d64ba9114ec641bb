"""All roles of one pass for a held-out loss in one process, for tests; every tensor that changes hands is written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.scoring.held_out_loss import HeldOutLossHelper, HeldOutLossParty
from tercet.mpc.scoring.linear import NOBODY
from tests.mpc.driver import Sent, Task
from tests.mpc.network_world import NetworkJob
from tests.mpc.passes import OpenedPass
from tests.mpc.world import Job, MaskSource, keyed

PURPOSE: Final = "held-out loss"


class HeldOutPass(OpenedPass):
    """The data parties and the helper in one pass over rows that are not trained on."""

    def __init__(
        self, job: Job | NetworkJob, shares: Sequence[Shares] | Sequence[NetworkShares], xs: Sequence[Words],
        y: Floats, *, batch: int = 48, masks: MaskSource | None = None, **others: Any,
    ) -> None:  # fmt: skip
        plan, masks = job.plan, masks or keyed(purpose=PURPOSE)
        alpha = plan.alpha_after(shares[0].step)
        super().__init__(plan, alpha, shares, xs, purpose=PURPOSE, masks=masks, batch=batch, **others)
        self.open()
        self.parties = [
            HeldOutLossParty(i, job.label, plan, y if i == job.label else None, scorer=self.scorer(i, NOBODY),
                             openings=self.opened[i], steps=self.steps, order=self.order,
                             helper_masks=self.helper_masks[i])
            for i in self.ids
        ]  # fmt: skip
        self.helper = HeldOutLossHelper(plan, job.label, self.helper_masks, self.weights, self.steps)

    def run(self) -> Self:
        """All batches; the helper and every party go on as far as they can, in turn."""
        tasks = [Task(HELPER, iter(self.steps), self.helper.script)]
        for i, party in enumerate(self.parties):
            tasks += [Task(i, iter(self.steps), script) for script in (party.score_batch, party.add_loss)]
        self.drive(tasks)
        self.shares = [party.share() for party in self.parties]
        return self

    def words(self) -> Words:
        """What the shares add up to, (1, 1)."""
        return total(self.shares)

    def loss(self) -> float:
        """The mean."""
        return opened_loss(self.shares, self.parties[0].numbers)


def flat_losses(sent: Sequence[Sent], kind: str) -> Words:
    """All words of one kind."""
    return np.concatenate([one.words.ravel() for one in sent if one.what == kind])
