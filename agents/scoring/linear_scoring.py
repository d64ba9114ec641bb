"""Scores rows by a shared linear model, batch by batch, without learning anything.

Used for held-out rows and for prediction. The label party learns the scores, and nobody else anything.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import Deadline
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.architecture import CARRIER, NetworkForward
from tercet.mpc.plan.forward import Forward
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.linear import Scorer, ScoringHelper, deals_correction
from tercet.mpc.scoring.openings import Openings
from tercet.schemas.messages.kinds import (
    MaskedScores,
    Message,
    Scores,
    ScoringDealtShares,
    ScoringInputs,
    ScoringShare,
)
from tercet.schemas.messages.tensor import Words

MOST_ROWS, MOST_WORDS = 4096, 2**21  # of a batch: 16 MiB of masked inputs from all parties together
ANSWERED, DEALT = 4, 64  # words for each hidden element, where the helper answers and where it deals


T = TypeVar("T")


def scoring_batch(model: NetworkForward) -> int:
    """Compute the rows that are scored at a time, the same at all parties."""
    units, each = 0 if model.network is None else sum(model.network.hidden), DEALT if model.is_blind else ANSWERED
    return max(32, min(MOST_ROWS, MOST_WORDS // (sum(model.columns) + each * units)))


class LinearScoring:
    """Runs one pass over some rows at a data party."""

    def __init__(
        self,
        context: JobContext,
        scorer: Scorer,
        order: Order,
        steps: Iterable[Step],
        numbers: Forward,
        *,
        openings: Openings,
        limit: float = math.inf,
    ) -> None:
        self._context, self._scorer, self._order = context, scorer, order
        self._steps, self._openings, self._limit = list(steps), openings, limit
        self._numbers, self._outputs = numbers, numbers.outputs
        self._shares: dict[int, asyncio.Future[Words]] = {}  # of scores, at the label party of a blind pass
        self._deadline = context.deadline("step")

    async def run(self) -> Floats | None:
        """Run the pass; give the label party the scores (rows, outputs), in row order.

        Raises:
            JobProblem: a tensor of a wrong shape came.
        """
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._send_batches())
            collecting = loops.create_task(self._collect_scores()) if self._context.is_label_party else None
        return None if collecting is None else collecting.result()

    async def _send_batches(self) -> None:
        context = self._context
        partners = context.partners
        await context.compute(self._order.permutation, self._steps[0].epoch)  # sorting many rows takes long
        for step in self._steps:
            inputs = await self._compute_batch(self._scorer.masked_inputs, step)
            await self._send_message(ScoringInputs(words=inputs), partners, step)
            received = await self._receive_words(
                ScoringInputs, step, {p: (step.rows, self._columns(p)) for p in partners}
            )
            theirs, dealt = {context.number(p): words for p, words in received.items()}, await self._receive_dealt(step)
            opened = self._openings.blocks
            share = await self._compute_batch(self._scorer.preactivation, step, theirs, opened, dealt)
            await self._hand_over(share, step)
            note_scored_step(context, step)

    async def _hand_over(self, share: Words, step: Step) -> None:
        """Give a share of scores to the helper, or where that sees none to the label party."""
        if not self._numbers.is_blind:
            await self._send_message(ScoringShare(words=share), [self._context.description.helper], step)
        elif self._context.is_label_party:
            self._own_share(step).set_result(share)
        else:
            await self._send_message(MaskedScores(words=share), [self._context.label], step)

    def _own_share(self, step: Step) -> "asyncio.Future[Words]":
        return self._shares.setdefault(step.index, asyncio.get_running_loop().create_future())

    async def _compute_batch(self, function: Callable[..., T], step: Step, *args: Any) -> T:
        assert self._context.terms is not None
        words = step.rows * sum(self._context.terms.columns)
        return await self._context.compute_if_heavy(words, function, step, *args)

    async def _receive_dealt(self, step: Step) -> Words | None:
        """Receive the helper's dealt words, if this party is the carrier."""
        if not deals_correction(self._numbers) or self._context.number(self._context.me) != CARRIER:
            return None
        helper = self._context.description.helper
        return (await self._receive_words(ScoringDealtShares, step, {helper: (step.rows, self._outputs)}))[helper]

    async def _collect_scores(self) -> Floats:
        scores = np.empty((sum(step.rows for step in self._steps), self._outputs))
        for step in self._steps:
            scores[self._order.rows(step)] = await self._open_scores(step)
        return scores

    async def _open_scores(self, step: Step) -> Floats:
        context, shape = self._context, (step.rows, self._outputs)
        if not self._numbers.is_blind:
            helper = context.description.helper
            words = (await self._receive_words(Scores, step, {helper: shape}))[helper]
            return await context.compute(self._scorer.open_scores, step, words)
        received = await self._receive_words(MaskedScores, step, dict.fromkeys(context.partners, shape))
        shares = {context.number(party): words for party, words in received.items()}
        shares[context.number(context.me)] = await self._own_share(step)
        del self._shares[step.index]
        try:
            return await context.compute(self._scorer.add_scores, step, shares, self._limit)
        except Diverged as diverged:
            raise range_problem(context, diverged) from None

    def _columns(self, party: str) -> int:
        assert self._context.terms is not None
        return self._context.terms.columns[self._context.number(party)]

    async def _send_message(self, message: Message, receivers: Sequence[str], step: Step) -> None:
        await self._context.mailbox.send(message, receivers, self._deadline, epoch=step.epoch, step=step.position)

    async def _receive_words(
        self, model: type[Message], step: Step, shapes: Mapping[str, tuple[int, int]]
    ) -> dict[str, Words]:
        """Receive one tensor from each sender, by sender."""
        mail = self._context.mailbox
        letters = await mail.receive(model, shapes, self._deadline, epoch=step.epoch, step=step.position)
        return mail.checked_words(letters, shapes.__getitem__)


async def answer_scores(
    context: JobContext, helper: ScoringHelper, steps: Sequence[Step], numbers: Forward, first: str = "step"
) -> None:
    """Add up each batch's shares at the helper, and send the label party the scores.

    `first` names the deadline of the first batch, before which the parties may have to encode their rows.

    Raises:
        JobProblem: a score left the range, or a share has a wrong shape.
    """
    mail, job, outputs = context.mailbox, context.description, numbers.outputs
    if numbers.is_blind:
        for step in steps:
            await _deal_batch(context, helper, step, context.deadline(first if step.index == 0 else "step"))
            note_scored_step(context, step)
        return
    if outputs > 1:
        await _deal_batch(context, helper, steps[0], context.deadline(first))
    for step in steps:
        deadline = context.deadline(first if step.index == 0 else "step")
        if outputs > 1 and step.index + 1 < len(steps):
            await _deal_batch(context, helper, steps[step.index + 1], deadline)
        epoch, position = step.epoch, step.position
        letters = await mail.receive(ScoringShare, job.data_parties, deadline, epoch=epoch, step=position)
        words = mail.checked_words(letters, dict.fromkeys(letters, (step.rows, outputs)).__getitem__)
        shares = {context.number(party): share for party, share in words.items()}
        try:
            scores = await context.compute(helper.scores, step, shares)
        except Diverged as diverged:
            raise range_problem(context, diverged) from None
        await mail.send(Scores(words=scores), [job.label], deadline, epoch=epoch, step=position)
        note_scored_step(context, step)


async def _deal_batch(context: JobContext, helper: ScoringHelper, step: Step, deadline: Deadline) -> None:
    """Deal the zero shares of several outputs, a step ahead."""
    words, carrier = await context.compute(helper.dealt, step), context.description.data_parties[CARRIER]
    message = ScoringDealtShares(words=words)
    await context.mailbox.send(message, [carrier], deadline, epoch=step.epoch, step=step.position)


def range_problem(context: JobContext, diverged: Diverged) -> JobProblem:
    """Make the problem of a score out of range, which the submitter can mend.

    A row is unlike those trained on, or a party has shifted scores.
    """
    reason = (
        f"a scored row left the range of the model ({diverged.reason}): compare the columns of the rows with those "
        f"trained on, leave rows out that are unlike them, or train with them or with a smaller rate"
    )
    return JobProblem("scoring.range", context.job.submitter, reason)


def note_scored_step(context: JobContext, step: Step) -> None:
    """Note a step of a prediction; held-out rows are no steps of the training."""
    if context.plan is None:
        context.note_finished_step(step)
