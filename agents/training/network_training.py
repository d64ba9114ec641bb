"""The loops of a training of a network: what a data party does ahead and online, and what the helper deals and answers.

What is between two epochs is `evaluation`'s; the equations are in mpc, as scripts that `scripts` drives.
"""

import asyncio
from collections.abc import Callable

from tercet.agents.messaging.trace import loop
from tercet.agents.protocol.checkpointing import Saver
from tercet.agents.protocol.flow_control import Count, largest_batch, look_ahead
from tercet.agents.protocol.script_driver import TRAINING, Scripts
from tercet.agents.session.context import JobContext
from tercet.agents.training.dealing_check import compare
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
from tercet.mpc.randomness.order import Order


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
    """This party in the training of a network, from these shares on, or from first ones that no other party knows."""
    me, plan = context.number(context.me), context.ready_plan
    return NetworkParty(
        me,
        context.number(context.label),
        plan,
        rows,
        labels,
        order=order,
        elements=Elements(key, attempt=context.noise),
        helper_masks=context.masks(context.description.helper),
        zero_masks=context.zero_masks(),
        shares=shares or first_shares(me, plan, context.drawn()),
        checks=checks,
    )


class NetworkSteps:
    """A data party's."""

    def __init__(
        self, context: JobContext, party: NetworkParty, order: Order, evaluation: Evaluation, saver: Saver
    ) -> None:
        self._context, self._party, self._order, self._evaluation = context, party, order, evaluation
        self._plan, self._saver = context.ready_plan, saver
        self._scripts = Scripts(context, TRAINING, party.layout, largest_batch(self._plan), saver)
        self._ahead = look_ahead(self._plan, context.settings.limits)
        self._may_stop = context.training.early_stopping is not None
        context.trace.steps_per_epoch = self._plan.steps_per_epoch

    async def run(self) -> None:
        """All steps, or as many as the job goes on for."""
        self._scripts.counts["weights"].rise()  # those of the first step
        self._scripts.counts["epochs"] = Count(next(self._context.steps()).epoch)
        async with asyncio.TaskGroup() as loops:
            beside = [
                loops.create_task(self._prepare()),
                loops.create_task(self._each("dealt", self._party.receive_dealt)),
                loops.create_task(self._each("openings", self._party.open_weights)),
            ]
            await self._online()
            for task in beside:  # they wait for an epoch that is not to be
                task.cancel()

    async def _prepare(self) -> None:
        loop.set("ahead")
        for step in self._context.steps():
            first = self._may_stop and step.position == 0  # nothing of an epoch is sent before it is certain
            await self._scripts.until("done", step, ahead=0 if first else 1 - self._ahead)
            if step.position == 0:
                await self._scripts.until("epochs", step, ahead=step.epoch - step.index if first else -step.index)
                await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
            await self._scripts.run(self._party.prepare_step(step, self._evaluation.loss), step)

    async def _each(self, name: str, script: Callable[[Step], Script[None]]) -> None:
        loop.set(name)
        for step in self._context.steps():
            await self._scripts.run(script(step), step)

    async def _online(self) -> None:
        loop.set("online")
        for step in self._context.steps():
            await self._scripts.run(self._party.run_online(step, self._evaluation.loss), step)
            self._context.finished(step)
            if step.position + 1 == self._plan.steps_per_epoch:
                await compare(self._context, self._party.digests, step.epoch)
                if not await self._evaluation.epoch_over(step.epoch, self._party.shares):
                    return
                self._scripts.counts["epochs"].rise()
            await self._saver.step_done(step)


class NetworkAnswers:
    """The helper's. `loss` where the job wants that."""

    def __init__(self, context: JobContext, helper: NetworkHelper, loss: LossHelper | None) -> None:
        self._context, self._helper, self._loss = context, helper, loss
        self._plan = context.ready_plan
        self._scripts = Scripts(context, TRAINING, helper.layout, largest_batch(self._plan))
        self._ahead = look_ahead(self._plan, context.settings.limits)
        context.trace.steps_per_epoch = self._plan.steps_per_epoch

    async def deal(self) -> None:
        """Products of masks of each step, as far ahead as the look-ahead allows."""
        loop.set("ahead")
        for step in self._context.steps():
            await self._scripts.until("done", step, ahead=1 - self._ahead)
            await self._scripts.run(self._helper.deal_step(step), step)

    async def answer(self, step: Step) -> None:
        """All answers of a step.

        Raises:
            Diverged: a value left the range that the plan allows.
        """
        first = step.index == self._context.first  # before it the rows are encoded
        deadline = self._context.deadline("fit") if first else None
        await self._scripts.run(self._helper.run_online(step, self._loss), step, deadline)
        self._scripts.counts["done"].rise()
        self._context.finished(step)
