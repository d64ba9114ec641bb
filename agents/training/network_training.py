"""Trains a network in loops at a data party, and deals and answers at the helper.

`epoch_evaluation` works between two epochs. The equations are in mpc, as scripts for `script_driver`.
"""

import asyncio
from collections.abc import Callable

from tercet.agents.messaging.trace import loop
from tercet.agents.protocol.checkpointing import CheckpointWriter
from tercet.agents.protocol.flow_control import StepCounter, largest_batch, look_ahead_steps
from tercet.agents.protocol.script_driver import TRAINING, ScriptDriver
from tercet.agents.session.context import JobContext
from tercet.agents.training.dealing_check import compare_dealing
from tercet.agents.training.epoch_evaluation import Evaluation
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Script
from tercet.mpc.linear.checks import Checks
from tercet.mpc.linear.loss import LossHelper
from tercet.mpc.network.data_party import NetworkParty
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.network.helper import NetworkHelper
from tercet.mpc.network.start import first_shares
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order


def network_party(
    context: JobContext,
    rows: FeatureSource,
    labels: Floats | None,
    *,
    order: Order,
    key: bytes,
    shares: NetworkShares | None = None,
    checks: Checks | None = None,
) -> NetworkParty:
    """Make this party for a network, from these shares, or from new secret first ones."""
    me, plan = context.number(context.me), context.ready_plan
    return NetworkParty(
        me,
        context.number(context.label),
        plan,
        rows,
        labels,
        order=order,
        elements=Elements(key, attempt=context.noise_attempt),
        helper_masks=context.masks(context.description.helper),
        zero_masks=context.zero_masks(),
        shares=shares or first_shares(me, plan, context.randomness()),
        checks=checks,
    )


class NetworkTraining:
    """Trains a network at a data party."""

    def __init__(
        self,
        context: JobContext,
        party: NetworkParty,
        order: Order,
        evaluation: Evaluation,
        checkpoints: CheckpointWriter,
    ) -> None:
        self._context, self._party, self._order, self._evaluation = context, party, order, evaluation
        self._plan, self._checkpoints = context.ready_plan, checkpoints
        self._scripts = ScriptDriver(context, TRAINING, party.layout, largest_batch(self._plan), checkpoints)
        self._ahead = look_ahead_steps(self._plan, context.settings.limits)
        self._may_stop = context.training.early_stopping is not None
        context.trace.steps_per_epoch = self._plan.steps_per_epoch

    async def run(self) -> None:
        """Run all steps, or as many as the job goes on for."""
        self._scripts.counts["weights"].increment()  # those of the first step
        self._scripts.counts["epochs"] = StepCounter(next(self._context.steps()).epoch)
        async with asyncio.TaskGroup() as loops:
            beside = [
                loops.create_task(self._run_ahead()),
                loops.create_task(self._run_each("dealt", self._party.receive_dealt)),
                loops.create_task(self._run_each("openings", self._party.open_weights)),
            ]
            await self._run_online()
            for task in beside:  # they wait for an epoch that is not to be
                task.cancel()

    async def _run_ahead(self) -> None:
        loop.set("ahead")
        for step in self._context.steps():
            first = self._may_stop and step.position == 0  # nothing of an epoch is sent before it is certain
            await self._scripts.wait_for_count("done", step, ahead=0 if first else 1 - self._ahead)
            if step.position == 0:
                await self._scripts.wait_for_count(
                    "epochs", step, ahead=step.epoch - step.index if first else -step.index
                )
                await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
            await self._scripts.run(self._party.prepare_step(step, self._evaluation.answered_loss), step)

    async def _run_each(self, name: str, script: Callable[[Step], Script[None]]) -> None:
        loop.set(name)
        for step in self._context.steps():
            await self._scripts.run(script(step), step)

    async def _run_online(self) -> None:
        loop.set("online")
        for step in self._context.steps():
            await self._scripts.run(self._party.run_online(step, self._evaluation.answered_loss), step)
            self._context.note_finished_step(step)
            if step.position + 1 == self._plan.steps_per_epoch:
                await compare_dealing(self._context, self._party.digests, step.epoch)
                if not await self._evaluation.on_epoch_end(step.epoch, self._party.shares):
                    return
                self._scripts.counts["epochs"].increment()
            await self._checkpoints.on_step_done(step)


class NetworkHelperTraining:
    """Deals and answers a network's steps at the helper; `loss` where the job wants that."""

    def __init__(self, context: JobContext, helper: NetworkHelper, loss: LossHelper | None) -> None:
        self._context, self._helper, self._loss = context, helper, loss
        self._plan = context.ready_plan
        self._scripts = ScriptDriver(context, TRAINING, helper.layout, largest_batch(self._plan))
        self._ahead = look_ahead_steps(self._plan, context.settings.limits)
        context.trace.steps_per_epoch = self._plan.steps_per_epoch

    async def deal_steps(self) -> None:
        """Products of masks of each step, as far ahead as the look-ahead allows."""
        loop.set("ahead")
        for step in self._context.steps():
            await self._scripts.wait_for_count("done", step, ahead=1 - self._ahead)
            await self._scripts.run(self._helper.deal_step(step), step)

    async def answer_step(self, step: Step) -> None:
        """Send all answers of a step.

        Raises:
            Diverged: a value left the range that the plan allows.
        """
        first = step.index == self._context.first_step  # before it the rows are encoded
        deadline = self._context.deadline("fit") if first else None
        await self._scripts.run(self._helper.run_online(step, self._loss), step, deadline)
        self._scripts.counts["done"].increment()
        self._context.note_finished_step(step)
