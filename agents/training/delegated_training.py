"""Trains a model whose activations the helper computes: the loops of both sides.

`epoch_evaluation` works between two epochs. The equations are in `mpc.linear` and `mpc.network`, as scripts for
`script_driver`. Both kinds of model have one that leaves ahead of a step and one that is online; what else goes beside
these, each party of a model says itself.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.trace import loop
from tercet.agents.protocol.checkpointing import CheckpointWriter
from tercet.agents.protocol.flow_control import StepCounter, look_ahead_steps
from tercet.agents.protocol.script_driver import TRAINING, training_driver
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.training.dealing_check import compare_dealing
from tercet.agents.training.earlier_training import EarlierTraining, first_shares
from tercet.agents.training.epoch_evaluation import Evaluation
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Script
from tercet.mpc.linear.checks import Checks, Projections
from tercet.mpc.linear.data_party import LinearParty
from tercet.mpc.linear.helper import Diverged, LinearHelper
from tercet.mpc.linear.loss import LossHelper, LossParty
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.data_party import NetworkParty
from tercet.mpc.network.helper import NetworkHelper
from tercet.mpc.plan.schedule import LookAhead, Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order

DelegatedParty = LinearParty | NetworkParty
DelegatedHelper = LinearHelper | NetworkHelper


def look_ahead(context: TrainingContext) -> LookAhead:
    """Say how far ahead this party sends; nothing of an epoch before that is certain."""
    plan, may_stop = context.plan, context.description.early_stopping is not None
    return LookAhead(look_ahead_steps(plan, context.settings.limits), plan.steps_per_epoch if may_stop else 0)


def delegated_party(
    context: TrainingContext,
    rows: FeatureSource,
    labels: Floats | None,
    order: Order,
    *,
    key: bytes,
    draw: Callable[[], bytes],
    earlier: EarlierTraining,
) -> DelegatedParty:
    """Make this party for a training, from these shares or from the first ones.

    Args:
        context: The job at this party.
        rows: Those that are trained on.
        labels: At the label party, centred.
        order: The secret order.
        key: Of the secret order.
        draw: Gives the seed of a network's first weights.
        earlier: What earlier attempts have left.
    """
    me, label, plan = context.number(context.me), context.number(context.label), context.plan
    helper, zero_masks, loss, checks = context.description.helper, context.zero_masks(), None, None
    masks = context.masks(helper)
    if context.description.evaluation.loss:
        loss_masks = context.masks(helper, "loss")
        loss = LossParty(
            me,
            label,
            plan,
            labels,
            order=order,
            helper_masks=loss_masks,
            first=context.first_step,
            so_far=earlier.loss,
        )
    if plan.request.checks:
        checks = Checks(me, plan.checks, Projections(key, plan.checks, context.attempt), masks, earlier.digests)
    shares = earlier.shares or first_shares(me, plan, draw)
    if isinstance(shares, Shares):
        return LinearParty(
            me, label, plan, rows, labels, order=order, helper_masks=masks, zero_masks=zero_masks, shares=shares,
            checks=checks, loss=loss, look_ahead=look_ahead(context),
        )  # fmt: skip
    return NetworkParty(
        me, label, plan, rows, labels, order=order, elements=Elements(key, attempt=context.noise_attempt),
        helper_masks=masks, zero_masks=zero_masks, shares=shares, checks=checks, loss=loss,
    )  # fmt: skip


def delegated_helper(context: TrainingContext) -> DelegatedHelper:
    """Make the helper of a training."""
    label, plan, loss = context.number(context.label), context.plan, None
    if context.description.evaluation.loss:
        loss = LossHelper(plan, label, context.data_party_masks("loss"), context.first_step)
    make = LinearHelper if plan.network is None else NetworkHelper
    return make(plan, label, context.data_party_masks(), first=context.first_step, loss=loss)


class DelegatedTraining:
    """Trains at a data party."""

    def __init__(
        self,
        context: TrainingContext,
        party: DelegatedParty,
        order: Order,
        evaluation: Evaluation,
        checkpoints: CheckpointWriter,
    ) -> None:
        self._context, self._party, self._order, self._evaluation = context, party, order, evaluation
        self._plan, self._checkpoints = context.plan, checkpoints
        self._scripts = training_driver(context, TRAINING, party.layout, checkpoints)
        self._look_ahead = look_ahead(context)

    async def run(self) -> None:
        """Run all steps, or as many as the job goes on for."""
        self._scripts.counts["epochs"] = StepCounter(next(self._context.steps()).epoch)
        async with asyncio.TaskGroup() as loops:
            beside = [loops.create_task(self._run_each(*each)) for each in self._party.beside.items()]
            beside.append(loops.create_task(self._run_ahead()))
            await self._run_online()
            for task in beside:  # they wait for an epoch that is not to be
                task.cancel()

    async def _run_ahead(self) -> None:
        loop.set("ahead")
        for step in self._context.steps():
            before = self._look_ahead.steps_before(step.index)
            await self._scripts.wait_for_count("done", step, ahead=before - step.index)
            if step.position == 0:
                if self._look_ahead.epoch:
                    await self._scripts.wait_for_count("epochs", step, ahead=step.epoch - step.index)
                await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
            await self._context.let_messages_leave()  # what others wait for now
            await self._scripts.run(self._party.prepare_step(step), step)

    async def _run_each(self, name: str, script: Callable[[Step], Script[None]]) -> None:
        loop.set(name)
        for step in self._context.steps():
            await self._scripts.run(script(step), step)

    async def _run_online(self) -> None:
        loop.set("online")
        for step in self._context.steps():
            await self._scripts.run(self._party.run_online(step), step)
            self._context.note_finished_step(step)
            if step.position + 1 == self._plan.steps_per_epoch:
                await compare_dealing(self._context, self._party.digests, step.epoch)
                if not await self._evaluation.on_epoch_end(step.epoch, self._party.shares):
                    return
                self._scripts.counts["epochs"].increment()
            await self._checkpoints.on_step_done(step)


class DelegatedHelperTraining:
    """Deals and answers all steps at the helper.

    `on_epoch_end` does what the job asks of the helper between two epochs, and tells whether to go on.
    """

    def __init__(
        self, context: TrainingContext, helper: DelegatedHelper, on_epoch_end: Callable[[int], Awaitable[bool]]
    ) -> None:
        self._context, self._helper, self._on_epoch_end = context, helper, on_epoch_end
        self._plan = context.plan
        self._scripts = training_driver(context, TRAINING, helper.layout)
        self._ahead = look_ahead_steps(self._plan, context.settings.limits)

    async def run(self) -> None:
        """Run all steps, or as many as the job goes on for."""
        loop.set("online")
        async with asyncio.TaskGroup() as loops:
            dealing = loops.create_task(self._deal_steps())
            for step in self._context.steps():
                await self._answer_step(step)
                if step.position + 1 == self._plan.steps_per_epoch and not await self._on_epoch_end(step.epoch):
                    break
            dealing.cancel()  # it may be ahead of an epoch that is not to be

    async def _deal_steps(self) -> None:
        """Deal each step, as far ahead as the look-ahead allows."""
        loop.set("ahead")
        for step in self._context.steps():
            await self._scripts.wait_for_count("done", step, ahead=1 - self._ahead)
            await self._context.let_messages_leave()  # the answers
            await self._scripts.run(self._helper.deal_step(step), step)

    async def _answer_step(self, step: Step) -> None:
        """Send all answers of a step.

        Raises:
            JobProblem: a value left the range that the plan allows.
        """
        context = self._context
        first = step.index == context.first_step  # before it the rows are encoded
        try:
            await self._scripts.run(self._helper.run_online(step), step, context.deadline("fit") if first else None)
        except Diverged as diverged:
            reason = f"step {step.index}: {diverged.reason}; run the job again with a smaller rate or a faster decay"
            raise JobProblem("training.diverged", context.job.submitter, reason) from None
        self._scripts.counts["done"].increment()
        context.note_finished_step(step)
