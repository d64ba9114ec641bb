"""What data parties receive in blind passes over held-out rows is uniform; the helper receives nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Self

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.blind.forward import BlindForward
from tercet.mpc.blind.held_out import BlindHeldOut
from tercet.mpc.blind.helper import BlindHelper
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.row_store import ArrayRows, FirstUse
from tercet.mpc.interface.script import HELPER, Script
from tercet.mpc.linear.shares import Shares, first_shares
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.scoring.held_out_loss import blind_steps
from tests.mpc.blind.test_disclosure import COALITIONS, Watched, check_helper_receives_nothing, job_of, pieces
from tests.mpc.driver import Task
from tests.mpc.linear.test_disclosure import Ledger, reusing
from tests.mpc.network.test_disclosure import check_covers, shifted
from tests.mpc.world import Job, keyed, make_job


@dataclass
class Passes(Watched):
    """Two passes over the rows of a job, by the shares of a trained model."""

    trained: list[Shares] = field(kw_only=True)
    trains: bool = False
    losses: list[float] = field(default_factory=list)  # means, of each pass

    @property
    def checks(self) -> int:
        """No pass but a training's has any."""
        return 0

    def run(self, look_ahead: int = 1, first: int = 0, stop: int | None = None) -> Self:
        """Each of two batches; the steps of both are numbered through."""
        plan, rows = self.job.plan, self.job.plan.request.rows
        parties, first_use = [self.held_out_party(i) for i in self.ids], FirstUse(rows)
        stores, labels = self.stores(self.ids), ArrayRows(rows, plan.outputs)
        for epoch in range(2):
            alpha = plan.alpha_after(self.trained[0].step)
            steps = [
                replace(step, index=2 * epoch + step.index) for step in blind_steps(plan, rows, rows // 2, epoch, alpha)
            ]
            helper = BlindHelper(
                plan, self.job.label, {i: self.masks(i, HELPER) for i in self.ids}, order=self.order, stores=stores,
                labels=labels, first_use=first_use, first=2 * epoch, trains=False,
            )  # fmt: skip
            tasks, losses = [Task(HELPER, iter(steps), dealing_each(helper))], [p.begin_pass(steps) for p in parties]
            for i, party in enumerate(parties):
                add = partial(party.run_step, loss=losses[i], shares=self.trained[i])
                tasks.append(Task(i, iter(steps), add))
            self.drive(tasks)
            whole = total(loss.share(epoch) for loss in losses)
            self.losses.append(float(decode(whole, plan.loss_bits_of(rows).total)[0, 0]) / rows)
        assert not self.box
        return self

    def held_out_party(self, i: int) -> BlindHeldOut:
        """Data party i."""
        job, masks, others = self.job, self.masks(i, HELPER), [j for j in self.ids if j != i]
        plan, rows, y = job.plan, job.plan.request.rows, job.y if i == job.label else None
        forward = BlindForward(
            i, plan, ArrayFeatures(job.xs[i]), order=self.order, helper_masks=masks, stores=self.stores(others)
        )
        bits, store = plan.loss_bits_of(rows), ArrayRows(rows, plan.outputs)
        return BlindHeldOut(forward, job.label, bits, y, store=store, helper_masks=masks)


def dealing_each(helper: BlindHelper) -> Callable[[Step], Script[None]]:
    """A script for each step by itself."""

    def deal(step: Step) -> Script[None]:
        return helper.deal_steps([step])

    return deal


def trained(job: Job) -> list[Shares]:
    """What a training of this job ends with."""
    return Watched(job).run(1).shares()


@pytest.mark.parametrize(
    ("model", "columns", "label", "coalition"),
    [("logistic", *case) for case in COALITIONS[:5]] + [("one-vs-rest", *case) for case in COALITIONS[:2]],
)
def test_every_tensor_of_held_out_passes_has_a_mask_of_its_own(model, columns, label, coalition):
    """In both passes; rows and labels are sent in the first alone. The helper receives nothing."""
    job = job_of(model, columns, label)
    passes = Passes(job, trained=trained(job)).run()
    check_helper_receives_nothing(passes)
    check_covers(
        pieces(passes, coalition),
        lambda deltas, _: pieces(replace(passes, masks=shifted(deltas)).run(), coalition),
        coalition,
    )


def test_no_word_of_a_mask_serves_two_passes():
    """Nor two steps; a mask that forgets them is noticed."""
    job = job_of("logistic", (2, 1, 2))
    ledger, forgetful = Ledger(keyed()), Ledger(cache(reusing({"V"})))
    for masks in (ledger, forgetful):
        Passes(job, masks, trained=trained(job)).run()
    ledger.check_words()
    with pytest.raises(AssertionError, match="the same word"):
        forgetful.check_words()


@pytest.mark.parametrize(("model", "power"), [("poisson", 0.0), ("tweedie", 1.5)])
def test_a_loss_of_many_rows_is_as_exact_as_of_few(model, power):
    """Its bits are fewer; dealt numbers must not have all of them."""
    job = make_job(Request(model, 8000, (2, 1), 500, 1, 0.1, blind=Blind(5, 16, power=power)), 1)
    passes = Passes(job, trained=[first_shares(i, job.plan) for i in range(2)]).run()
    due = RowLabels.of(job.plan.link, job.y).loss(np.zeros((8000, 1))) / 8000
    assert passes.losses == pytest.approx([due] * 2, abs=0.005)
