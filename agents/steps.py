"""The two loops of a data party's training: one sends ahead what needs no activation, the other takes the online hops.

What is between two epochs, losses and metrics and whether to go on, is `evaluation`'s; the equations are in mpc.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from agents.context import JobContext
from agents.evaluation import Evaluation
from agents.pace import Count, look_ahead
from mpc.data_party import DataParty
from mpc.order import Order
from mpc.schedule import Step
from schemas.codec import Companion
from schemas.messages import (
    GradientShare,
    LossTerms,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskedLossLabels,
    MaskedWeights,
    Message,
    PreactivationShare,
)
from schemas.tensor import Words

M = TypeVar("M", bound=Message)


class _Masked(NamedTuple):
    """What leaves ahead of a step."""

    inputs: Words
    along: tuple[Message, ...]  # the label party's, with the inputs
    weights: dict[int, Words]


class Steps:
    """Both loops; run them side by side."""

    def __init__(self, context: JobContext, party: DataParty, order: Order, evaluation: Evaluation) -> None:
        self._context, self._party, self._order, self._mail = context, party, order, context.mailbox
        self._evaluation = evaluation
        self._plan, self._deadline = context.ready_plan, context.deadline("step")
        self._numbers = {name: context.number(name) for name in context.partners}
        columns = self._plan.request.columns[context.number(context.me)]
        self._own_block = (columns, self._plan.outputs)
        self._ahead = look_ahead(self._plan, context.settings.limits)
        self._absorbed, self._done, self._epochs = Count(), Count(), Count()
        self._stopped = False
        self._may_stop = context.training.early_stopping is not None

    # --- ahead of time

    async def send_ahead(self) -> None:
        """Masked inputs, labels and weights of each step, and what follows from the partners' masked inputs."""
        partners, loss = self._context.partners, self._evaluation.loss
        label = self._context.description.label
        for step in self._plan.steps():
            await self._done.reaches(step.index + 1 - self._ahead)
            if step.position == 0 and not await self._epoch_begins(step):
                return
            masked = await self._context.compute_step(self._masked, step)
            along = [Companion(message, step.epoch, step.position) for message in masked.along]
            await self._send(MaskedInputs(words=masked.inputs), partners, step, along)
            for partner in partners:
                await self._send(MaskedWeights(words=masked.weights[self._numbers[partner]]), [partner], step)
            received = await self._receive(MaskedInputs, partners, step)
            await self._context.compute_step(self._party.absorb, step, self._numbered(received))
            if loss is not None and not self._context.leads:
                labels = (await self._receive(MaskedLossLabels, [label], step))[label]
                await self._context.compute_step(loss.absorb, step, labels)
            self._absorbed.rise()

    async def _epoch_begins(self, step: Step) -> bool:
        """Whether there is this epoch; its order is there then."""
        if self._may_stop:
            await self._epochs.reaches(step.epoch)
            if self._stopped:
                return False
        await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
        return True

    def _masked(self, step: Step) -> _Masked:
        inputs, loss = self._party.masked_inputs(step), self._evaluation.loss
        along: list[Message] = []
        if self._context.leads:
            along.append(MaskedLabels(words=self._party.masked_labels(step)))
            if loss is not None:
                along.append(MaskedLossLabels(words=loss.masked_labels(step)))
        return _Masked(inputs, tuple(along), self._party.masked_weights(step))

    # --- online

    async def online(self) -> None:
        """A pre-activation share to the helper, a masked activation back, the step taken; the epoch looked at."""
        for step in self._plan.steps():
            await self._absorbed.reaches(step.index + 1)
            await self._take(step)
            if step.position + 1 == self._plan.steps_per_epoch and not await self._epoch_ends(step):
                return

    async def _take(self, step: Step) -> None:
        context = self._context
        helper, label = context.description.helper, context.description.label
        weights = self._numbered(await self._receive(MaskedWeights, context.partners, step))
        share = await context.compute_step(self._party.preactivation, step, weights)
        await self._send(PreactivationShare(words=share), [helper], step)
        labels = None if context.leads else (await self._receive(MaskedLabels, [label], step))[label]
        gradient = (await self._receive(GradientShare, [helper], step))[helper]
        activation = (await self._receive(MaskedActivation, [helper], step))[helper]
        if self._evaluation.loss is not None and context.leads:
            await self._take_loss(step)
        await context.compute_step(self._party.update, step, activation, gradient, labels)
        context.statistics.finished(step.epoch, step.index)
        self._done.rise()

    async def _take_loss(self, step: Step) -> None:
        helper, loss = self._context.description.helper, self._evaluation.loss
        assert loss is not None
        terms = await self._mail.receive(LossTerms, [helper], self._deadline, epoch=step.epoch, step=step.position)
        words = self._mail.words(terms, lambda _: (step.rows + 1, self._plan.outputs))[helper]
        await self._context.compute_step(loss.absorb_terms, step, words[:-1], words[-1:])

    async def _epoch_ends(self, step: Step) -> bool:
        """Whether to go on."""
        go_on = await self._evaluation.epoch_over(step.epoch, self._party.shares)
        self._stopped = not go_on
        self._epochs.rise()
        return go_on

    # --- both

    async def _send(
        self, message: Message, receivers: Sequence[str], step: Step, along: Sequence[Companion] = ()
    ) -> None:
        epoch, position = step.epoch, step.position
        await self._mail.send(message, receivers, self._deadline, epoch=epoch, step=position, along=along)

    async def _receive(self, model: type[M], senders: Sequence[str], step: Step) -> dict[str, Words]:
        messages = await self._mail.receive(model, senders, self._deadline, epoch=step.epoch, step=step.position)
        return self._mail.words(messages, lambda sender: self._shape(model, sender, step))

    def _shape(self, model: type[Message], sender: str, step: Step) -> tuple[int, int]:
        if model is MaskedInputs:
            return step.rows, self._plan.request.columns[self._numbers[sender]]
        if model in {MaskedWeights, GradientShare}:
            return self._own_block
        return step.rows, self._plan.outputs

    def _numbered(self, words: dict[str, Words]) -> dict[int, Words]:
        return {self._numbers[party]: value for party, value in words.items()}
