"""Trains a linear model at a data party in three loops: two ahead, one online.

`epoch_evaluation` opens losses and metrics between two epochs. The equations are in mpc.

One loop masks and sends this party's inputs, as far ahead as the look-ahead allows; one absorbs those of the partners
as they come, which makes the next masked weights. So over a slow line a step's inputs leave while those before them are
still under way.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from tercet.agents.messaging.trace import loop
from tercet.agents.protocol.checkpointing import CheckpointWriter
from tercet.agents.protocol.flow_control import StepCounter, look_ahead_steps
from tercet.agents.session.context import JobContext
from tercet.agents.training.dealing_check import compare_dealing
from tercet.agents.training.epoch_evaluation import Evaluation
from tercet.mpc.linear.data_party import DataParty, dealt_shape
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order
from tercet.schemas.messages.codec import Companion
from tercet.schemas.messages.kinds import (
    CheckedMasks,
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
from tercet.schemas.messages.tensor import Words

M = TypeVar("M", bound=Message)

EARLY = 2  # steps that masked weights leave before their own: a step lasts as long as they are under way, or longer


class _MaskedInputs(NamedTuple):
    """Holds the words that leave ahead of a step."""

    inputs: Words
    along: tuple[Message, ...]  # the label party's, with the inputs
    checked: dict[int, Words]  # masks by which what the helper deals is checked, for each partner


class _Weights(NamedTuple):
    """Holds masked weights of a step that have not left yet."""

    step: Step
    words: dict[int, Words]


class LinearTraining:
    """Runs all loops; `send_ahead` and `run_online` go side by side."""

    def __init__(
        self, context: JobContext, party: DataParty, order: Order, evaluation: Evaluation, checkpoints: CheckpointWriter
    ) -> None:
        self._context, self._party, self._order, self._mail = context, party, order, context.mailbox
        self._evaluation, self._checkpoints = evaluation, checkpoints
        self._plan, self._deadline = context.ready_plan, context.deadline("step")
        self._numbers = {name: context.number(name) for name in context.partners}
        columns = self._plan.request.columns[context.number(context.me)]
        self._own_block = (columns, self._plan.outputs)
        self._ahead = look_ahead_steps(self._plan, context.settings.limits)
        first = next(context.steps())
        self._masked, self._absorbed, self._done = (
            StepCounter(first.index),
            StepCounter(first.index),
            StepCounter(first.index),
        )
        self._epochs = StepCounter(first.epoch)
        self._next: Step | None = first  # whose masked inputs leave next
        self._unsent: list[_Weights] = []  # which leave with them
        self._stopped = False
        self._checks = self._plan.request.checks
        self._may_stop = context.training.early_stopping is not None
        context.trace.steps_per_epoch = self._plan.steps_per_epoch

    async def run(self) -> None:
        """Run all steps, or as many as the job goes on for."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self.send_ahead())
            loops.create_task(self.run_online())

    # --- ahead of time

    async def send_ahead(self) -> None:
        """Send masked inputs, labels and weights of each step, as partners' inputs come."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._absorb())
            loops.create_task(self._send_inputs())

    async def _send_inputs(self) -> None:
        loop.set("ahead")
        for step, after in _with_next(self._context.steps()):
            await self._wait_for_count(self._done, self._steps_before(step), "look-ahead", step)
            await self._context.let_messages_leave()  # the pre-activation share of the next step
            if step.position == 0 and not await self._await_epoch(step):
                return
            masked = await self._context.compute_step(self._masked_ahead, step)
            self._masked.increment()
            weights, self._unsent, self._next = self._unsent, [], after
            for partner in self._context.partners:
                messages = [*masked.along, *self._checked_for(partner, masked)]
                along = [Companion(message, step.epoch, step.position) for message in messages]
                along += [self._weights_for(partner, each) for each in weights]
                await self._send_message(MaskedInputs(words=masked.inputs), [partner], step, along)

    def _checked_for(self, partner: str, masked: _MaskedInputs) -> list[Message]:
        number = self._numbers[partner]
        return [CheckedMasks(words=masked.checked[number])] if masked.checked else []

    def _steps_before(self, step: Step) -> int:
        """Count the steps that must be done before this one's inputs leave."""
        return step.index if self._may_stop and step.position == 0 else step.index + 1 - self._ahead

    async def _await_epoch(self, step: Step) -> bool:
        """Tell whether this epoch takes place, and make its order."""
        if not await self._may_continue(step):
            return False
        await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
        return True

    async def _may_continue(self, step: Step) -> bool:
        """Tell whether an epoch's first step takes place."""
        if self._may_stop:
            await self._epochs.wait_for(step.epoch)
        return not self._stopped

    def _masked_ahead(self, step: Step) -> _MaskedInputs:
        inputs, loss = self._party.masked_inputs(step), self._evaluation.answered_loss
        along: list[Message] = []
        if self._context.is_label_party:
            labels = self._party.masked_labels(step)
            along.append(MaskedLabels(words=labels, checkpoint=self._checkpoints.decide_due(step)))
            if loss is not None:
                along.append(MaskedLossLabels(words=loss.masked_labels(step)))
        return _MaskedInputs(inputs, tuple(along), self._party.openings(step))

    async def _absorb(self) -> None:
        loop.set("absorb")
        first = next(self._context.steps())
        await self._send_weights(_Weights(first, await self._context.compute_step(self._party.masked_weights, first)))
        for step, after in _with_next(self._context.steps()):
            if step.position == 0 and not await self._may_continue(step):
                return
            await self._absorb_step(step, after)

    async def _absorb_step(self, step: Step, after: Step | None) -> None:
        await self._wait_for_count(
            self._masked, step.index + 1, "own masked inputs", step
        )  # partners send theirs as far ahead
        received = await self._receive_words(MaskedInputs, self._context.partners, step)
        checked = {} if not self._checks else await self._receive_words(CheckedMasks, self._context.partners, step)
        weights = await self._context.compute_step(
            self._absorbed_with, step, self._by_number(received), self._by_number(checked), after
        )
        loss, label = self._evaluation.answered_loss, self._context.label
        if loss is not None and not self._context.is_label_party:
            labels = (await self._receive_words(MaskedLossLabels, [label], step))[label]
            await self._context.compute_step(loss.absorb, step, labels)
        self._absorbed.increment()
        if weights is not None:
            await self._send_weights(weights)

    def _absorbed_with(
        self, step: Step, received: dict[int, Words], checked: dict[int, Words], after: Step | None
    ) -> _Weights | None:
        """Take in the partners' masked inputs; the masked weights of the step after."""
        self._party.absorb(step, received, checked)
        return None if after is None else _Weights(after, self._party.masked_weights(after))

    async def _send_weights(self, weights: _Weights) -> None:
        """Send masked weights: with the next masked inputs, unless those leave too late.

        Weights of a step that is not the next one's own must leave EARLY steps before it; those of an epoch that may
        not be are always with its first inputs, which are not due before all steps of the one before are done.
        """
        step, following = weights.step, self._next
        if following is not None and (
            following.index == step.index or self._steps_before(following) <= step.index - EARLY
        ):
            self._unsent.append(weights)
            return
        for partner in self._context.partners:
            message, epoch, position = self._weights_for(partner, weights)
            await self._mail.send(message, [partner], self._deadline, epoch=epoch, step=position)

    def _weights_for(self, partner: str, weights: _Weights) -> Companion:
        words = weights.words[self._numbers[partner]]
        return Companion(MaskedWeights(words=words), weights.step.epoch, weights.step.position)

    # --- online

    async def run_online(self) -> None:
        """Send each pre-activation share, receive the activation, take the step.

        Evaluate each epoch at its end.
        """
        loop.set("online")
        for step in self._context.steps():
            await self._wait_for_count(self._absorbed, step.index + 1, "absorbed inputs", step)
            await self._take_step(step)
            if step.position + 1 == self._plan.steps_per_epoch and not await self._on_epoch_end(step):
                return
            await self._checkpoints.on_step_done(step)

    async def _take_step(self, step: Step) -> None:
        context = self._context
        helper, label = context.description.helper, context.description.label
        weights = self._by_number(await self._receive_words(MaskedWeights, context.partners, step))
        share = await context.compute_step(self._party.preactivation, step, weights)
        await self._send_message(PreactivationShare(words=share), [helper], step)
        labels = None if context.is_label_party else await self._receive_labels(step, label)
        gradient = (await self._receive_words(GradientShare, [helper], step))[helper]
        activation = (await self._receive_words(MaskedActivation, [helper], step))[helper]
        if self._evaluation.answered_loss is not None and context.is_label_party:
            await self._receive_loss(step)
        await context.compute_step(self._party.update, step, activation, gradient, labels)
        context.note_finished_step(step)
        self._done.increment()

    async def _receive_labels(self, step: Step, label: str) -> Words:
        letters = await self._mail.receive(MaskedLabels, [label], self._deadline, epoch=step.epoch, step=step.position)
        if letters[label].checkpoint:
            self._checkpoints.mark_due(step)
        return self._mail.checked_words(letters, lambda _: (step.rows, self._plan.outputs))[label]

    async def _receive_loss(self, step: Step) -> None:
        helper, loss = self._context.description.helper, self._evaluation.answered_loss
        assert loss is not None
        terms = await self._mail.receive(LossTerms, [helper], self._deadline, epoch=step.epoch, step=step.position)
        words = self._mail.checked_words(terms, lambda _: (step.rows + 1, self._plan.outputs))[helper]
        await self._context.compute_step(loss.absorb_terms, step, words[:-1], words[-1:])

    async def _on_epoch_end(self, step: Step) -> bool:
        """Evaluate the epoch; tell whether to go on."""
        await compare_dealing(self._context, self._party.digests, step.epoch)
        go_on = await self._evaluation.on_epoch_end(step.epoch, self._party.shares)
        self._stopped = not go_on
        self._epochs.increment()
        return go_on

    # --- all

    async def _wait_for_count(self, count: StepCounter, bound: int, what: str, step: Step) -> None:
        """Wait for another loop of ours, and note that."""
        if count.value < bound:
            since = time.perf_counter()
            await count.wait_for(bound)
            self._context.trace.note("wait", what, since, step=step.index)

    async def _send_message(
        self, message: Message, receivers: Sequence[str], step: Step, along: Sequence[Companion] = ()
    ) -> None:
        epoch, position = step.epoch, step.position
        await self._mail.send(message, receivers, self._deadline, epoch=epoch, step=position, along=along)

    async def _receive_words(self, model: type[M], senders: Sequence[str], step: Step) -> dict[str, Words]:
        messages = await self._mail.receive(model, senders, self._deadline, epoch=step.epoch, step=step.position)
        return self._mail.checked_words(messages, lambda sender: self._due_shape(model, sender, step))

    def _due_shape(self, model: type[Message], sender: str, step: Step) -> tuple[int, int]:
        if model is MaskedInputs:
            return step.rows, self._plan.request.columns[self._numbers[sender]]
        if model is CheckedMasks:
            return self._plan.checks.opened(step.rows)
        if model is GradientShare:
            return dealt_shape(self._plan, self._context.number(self._context.me))
        if model is MaskedWeights:
            return self._own_block
        return step.rows, self._plan.outputs

    def _by_number(self, words: dict[str, Words]) -> dict[int, Words]:
        return {self._numbers[party]: value for party, value in words.items()}


def _with_next(steps: Iterable[Step]) -> Iterator[tuple[Step, Step | None]]:
    """Pair each step with the one after it."""
    before: Step | None = None
    for step in steps:
        if before is not None:
            yield before, step
        before = step
    if before is not None:
        yield before, None
