"""A data party's part of a job: its table, the secret order, the steps, and its released model part.

It decides what is sent when; the equations are in mpc. Two loops run side by side: one sends ahead what needs no
activation, as far as the look-ahead lets it, the other takes the two online hops of each step.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.context import JobContext
from agents.pace import Count, look_ahead
from agents.problems import JobProblem
from agents.release import open_blocks, save_part
from mpc import order as ordering
from mpc.activations import ACTIVATIONS, LabelProblem
from mpc.data_party import DataParty
from mpc.fixed import features
from mpc.order import Order
from mpc.schedule import Step
from schemas.codec import Companion
from schemas.messages import (
    GradientShare,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    Message,
    OrderConfirmation,
    OrderContribution,
    PreactivationShare,
)
from schemas.tensor import Words
from tables.digest import ids_digest
from tables.encoding import Encoding, LabelScaling
from tables.source import TableProblem, read_table

Floats = NDArray[np.float64]
M = TypeVar("M", bound=Message)


@dataclass(slots=True, repr=False)
class OwnData:
    """A party's own table as numbers. It never leaves this process but as shares and masked words."""

    encoding: Encoding
    ids: Sequence[str]
    features: Floats  # (rows, columns)
    label: Floats | None  # (rows, 1), centred
    scaling: LabelScaling | None


class DataPartyRole:
    """The role behind `lifecycle.Role` for a party that holds columns."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self._me = context.number(context.me)
        self._label = context.number(context.description.label)
        self.data: OwnData | None = None
        self.order: Order | None = None
        self.party: DataParty | None = None
        self.words: Words | None = None

    # --- prepare

    async def prepare(self) -> tuple[int, int]:
        """Read, check and encode the table; nothing has been sent yet.

        Raises:
            JobProblem: the table, its columns or its labels cannot be used; this party is named.
        """
        context = self.context
        table = context.description.table_of(context.me)
        try:
            self.data = await context.compute(self._read, table)
        except TableProblem as problem:
            raise JobProblem("table.unusable", context.me, f"at {context.me} {problem.public}", str(problem)) from None
        except LabelProblem as problem:
            public = f"at {context.me} the label of table {table!r} does not fit a {context.description.model} model"
            raise JobProblem("table.label", context.me, public, str(problem)) from None
        for warning in self.data.encoding.warnings:
            context.log.warning("table", note=warning)
        return self.data.features.shape

    def _read(self, name: str) -> OwnData:
        context = self.context
        table = read_table(name, context.settings.tables[name], with_label=context.leads)
        encoding = Encoding.fit(table)
        label, scaling = None, None
        if table.label is not None:
            activation = ACTIVATIONS[context.description.model]
            scaling = LabelScaling.fit(table) if activation.error_bound is None else None
            values = scaling.apply(table.label) if scaling else table.label
            activation.check_labels(values)
            label = activation.centre(values)[:, np.newaxis]
        return OwnData(encoding, table.ids, encoding.apply(table), label, scaling)

    # --- align

    async def align(self) -> None:
        """Agree on the secret order, and find out that all parties hold the same ids in the same order.

        Raises:
            JobProblem: they do not.
        """
        context, data = self.context, self.data
        assert data is not None
        deadline, mine = context.deadline("alignment"), context.contribute()
        await context.mailbox.send(OrderContribution(secret=mine), context.partners, deadline)
        received = await context.mailbox.receive(OrderContribution, context.partners, deadline)
        secrets = {party: message.secret for party, message in received.items()}
        key = ordering.order_key(context.shape_digest, {context.me: mine, **secrets})
        digest = await context.compute(ids_digest, ordering.alignment_key(key), data.ids)
        confirmation = OrderConfirmation(confirmation=ordering.confirmation(key, context.me), ids=digest)
        await context.mailbox.send(confirmation, context.partners, deadline)
        for party, other in (await context.mailbox.receive(OrderConfirmation, context.partners, deadline)).items():
            self._compare(key, digest, party, other)
        self.order = Order(key, context.ready_plan.request.rows)
        await context.compute(self._begin)

    def _compare(self, key: bytes, digest: bytes, party: str, other: OrderConfirmation) -> None:
        me, label = self.context.me, self.context.description.label
        if not ordering.confirms(key, party, other.confirmation):
            raise JobProblem("order.key", party, f"{party} and {me} do not reach the same order key; run the job again")
        if digest != other.ids:
            raise JobProblem(
                "table.ids",
                me if party == label else party,
                f"{me}'s table and {party}'s do not hold the same customers in the same order: with alignment = "
                f'"aligned" sort both by the id, and leave out who is in one only',
            )

    def _begin(self) -> None:
        data, plan, order = self.data, self.context.ready_plan, self.order
        assert data is not None
        assert order is not None
        self.words = features(data.features, plan.norms[self._me], plan.fx)
        helper_masks = self.context.masks(self.context.description.helper)
        zero_masks = {self.context.number(party): self.context.masks(party) for party in self.context.partners}
        self.party = DataParty(
            self._me,
            self._label,
            plan,
            self.words,
            data.label,
            order=order,
            helper_masks=helper_masks,
            zero_masks=zero_masks,
        )

    # --- train

    async def train(self) -> None:
        """All steps."""
        assert self.party is not None
        assert self.order is not None
        steps = _Steps(self.context, self.party, self.order)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(steps.send_ahead())
            loops.create_task(steps.online())

    # --- release

    async def release(self) -> Path:
        """Open this party's block to itself if the job says so, and write the part to disk."""
        assert self.party is not None
        assert self.data is not None
        arrays = await open_blocks(self.context, self.party.shares(), self._me)
        return await save_part(self.context, self.data.encoding, self.data.scaling, arrays)


class _Steps:
    """The two loops."""

    def __init__(self, context: JobContext, party: DataParty, order: Order) -> None:
        self._context, self._party, self._order, self._mail = context, party, order, context.mailbox
        self._plan, self._deadline = context.ready_plan, context.deadline("step")
        self._numbers = {name: context.number(name) for name in context.partners}
        columns = self._plan.request.columns[context.number(context.me)]
        self._own_block = (columns, self._plan.outputs)
        self._ahead = look_ahead(self._plan, context.settings.limits)
        self._absorbed, self._done = Count(), Count()

    async def send_ahead(self) -> None:
        """Masked inputs, labels and weights of each step, and what follows from the partners' masked inputs."""
        partners = self._context.partners
        for step in self._plan.steps():
            await self._done.reaches(step.index + 1 - self._ahead)
            if step.position == 0:
                await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
            inputs, labels, weights = await self._context.compute_step(self._masked, step)
            along = [] if labels is None else [Companion(MaskedLabels(words=labels), step.epoch, step.position)]
            await self._send(MaskedInputs(words=inputs), partners, step, along)
            for partner in partners:
                await self._send(MaskedWeights(words=weights[self._numbers[partner]]), [partner], step)
            received = await self._receive(MaskedInputs, partners, step)
            await self._context.compute_step(self._party.absorb, step, self._numbered(received))
            self._absorbed.rise()

    def _masked(self, step: Step) -> tuple[Words, Words | None, dict[int, Words]]:
        inputs = self._party.masked_inputs(step)
        labels = self._party.masked_labels(step) if self._context.leads else None
        return inputs, labels, self._party.masked_weights(step)

    async def online(self) -> None:
        """A pre-activation share to the helper, a masked activation back, the step taken."""
        context = self._context
        helper, label = context.description.helper, context.description.label
        for step in self._plan.steps():
            await self._absorbed.reaches(step.index + 1)
            weights = self._numbered(await self._receive(MaskedWeights, context.partners, step))
            share = await context.compute_step(self._party.preactivation, step, weights)
            await self._send(PreactivationShare(words=share), [helper], step)
            labels = None if context.leads else (await self._receive(MaskedLabels, [label], step))[label]
            gradient = (await self._receive(GradientShare, [helper], step))[helper]
            activation = (await self._receive(MaskedActivation, [helper], step))[helper]
            await context.compute_step(self._party.update, step, activation, gradient, labels)
            context.statistics.finished(step.epoch, step.index)
            self._done.rise()

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
